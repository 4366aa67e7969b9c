"""Small tokenizers of the kinds that published models have, in folders as `transformers` leaves them; no download.

And small models of ours, one of every class that is written.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

import sentencepiece  # noqa: E402
import torch  # noqa: E402
from model_settings import of_family  # noqa: E402
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402

from nlpcli.convert.huggingface_out import write_huggingface  # noqa: E402
from nlpcli.models.build import build_model  # noqa: E402
from nlpcli.models.model_folder import unshared  # noqa: E402
from nlpcli.text import train_tokenizer  # noqa: E402

SENTENCES = (
    "Two young men stand in the kitchen, cooking <pad> and <mask> for the others.",
    "Ein kleines Mädchen klettert über die hölzerne Straße; es heißt “Größe” – oder nicht?",
    "Whoever reads unbelievable stories about housekeepers, keeps reading: 1,234.50 $ (or 7 %).",
    "日本語 東京 and a\ttab, [MASK] </s> <0x41> ##ing. ``Quoted'' naïve café in 1999, 2000, and on.",
    "The dogs of the housekeeper are standing, sitting, sleeping and reading in the kitchens.",
)
TEXTS = [
    *SENTENCES,
    "",
    " two  spaces   before and three after   ",
    "emoji 🙂👍🏽 and e\u0301 and ﬁ and ½ and \u00a0no break",
    "東京都に住んでいる。Über-Größe, don't!",
    "a </s> b <s> c <pad> d [CLS] e [SEP] f <|endoftext|> g <extra_id_0> h <unk> i <mask>",
    "unseen: ЖЗИ ΩΨ",
]


def without_spelled_specials() -> list[str]:
    """`transformers` takes the spelling of a special token in a text for the token; ours takes it for text."""
    return [text for text in TEXTS if not any(mark in text for mark in ("<pad>", "</s>", "<mask>", "[MASK]"))]


def corpus() -> list[str]:
    draw = random.Random(1)
    words = " ".join(SENTENCES).split(" ")
    return [*SENTENCES, *(" ".join(draw.sample(words, 9)) for _ in range(300))]


def spm(folder: Path, name: str, **settings: object) -> None:
    """A unigram SentencePiece model with the normalisation of the published ones."""
    written = io.BytesIO()
    options = {"vocab_size": 300, "model_type": "unigram", "minloglevel": 2, "hard_vocab_limit": False}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=written, **(options | settings)
    )
    (folder / name).write_bytes(written.getvalue())


def merges(specials: list[str], suffix: str = "") -> tuple[dict, list]:
    core = Tokenizer(models.BPE(end_of_word_suffix=suffix, unk_token="<unk>"))
    if suffix:
        core.normalizer = normalizers.BertNormalizer(lowercase=True)
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=specials, end_of_word_suffix=suffix, show_progress=False
        )
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=420, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
    core.train_from_iterator(corpus(), trainer)
    model = json.loads(core.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def bert(folder: Path, lowercase: bool = True) -> None:
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    core.train_from_iterator(
        corpus(), trainers.WordPieceTrainer(vocab_size=300, special_tokens=names, show_progress=False)
    )
    vocab = core.get_vocab()
    transformers.BertTokenizer(vocab=vocab, do_lower_case=lowercase).save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in sorted(vocab, key=vocab.get)))


def byte_pairs(folder: Path, cls: str, specials: list[str], suffix: str = "") -> None:
    vocab, pairs = merges(specials, suffix)
    getattr(transformers, cls)(vocab=vocab, merges=pairs).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))


def t5(folder: Path) -> None:
    spm(folder, "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    transformers.T5Tokenizer.from_pretrained(folder).save_pretrained(folder)


def pegasus(folder: Path) -> None:
    spm(folder, "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    transformers.PegasusTokenizer.from_pretrained(folder, mask_token="<mask_1>", mask_token_sent="<mask_2>")
    config = {"tokenizer_class": "PegasusTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def xlnet(folder: Path) -> None:
    controls = ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    spm(folder, "spiece.model", unk_id=0, bos_id=1, eos_id=2, control_symbols=controls)
    transformers.XLNetTokenizer.from_pretrained(folder).save_pretrained(folder)


def xlm_roberta(folder: Path) -> None:
    spm(folder, "sentencepiece.bpe.model", unk_id=0, bos_id=1, eos_id=2)
    transformers.XLMRobertaTokenizer.from_pretrained(folder).save_pretrained(folder)


def big_bird(folder: Path) -> None:
    controls = ["[CLS]", "[SEP]", "[MASK]"]
    spm(folder, "spiece.model", pad_id=0, eos_id=1, bos_id=2, unk_id=3, control_symbols=controls)
    transformers.BigBirdTokenizer.from_pretrained(folder).save_pretrained(folder)


def marian(folder: Path) -> None:
    spm(folder, "source.spm")
    spm(folder, "target.spm", vocab_size=250)
    pieces: dict[str, None] = {}
    for name in ("source.spm", "target.spm"):
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
        pieces |= dict.fromkeys(map(processor.id_to_piece, range(3, processor.vocab_size())))
    names = ["</s>", "<unk>", ">>fr<<", *list(pieces)[:-4], "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: id_ for id_, name in enumerate(names)}))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')


ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MAKE = {
    "bert": bert,
    "roberta": lambda folder: byte_pairs(folder, "RobertaTokenizer", ROBERTA),
    "bart": lambda folder: byte_pairs(folder, "BartTokenizer", ROBERTA),
    "gpt2": lambda folder: byte_pairs(folder, "GPT2Tokenizer", ["<|endoftext|>"]),
    "openai-gpt": lambda folder: byte_pairs(folder, "OpenAIGPTTokenizer", ["<unk>"], "</w>"),
    "t5": t5,
    "pegasus": pegasus,
    "xlnet": xlnet,
    "marian": marian,
    "xlm-roberta": xlm_roberta,
    "longformer": lambda folder: byte_pairs(folder, "LongformerTokenizer", ROBERTA),
    "big_bird": big_bird,
}


@pytest.fixture(scope="session")
def tokenizer_folders(tmp_path_factory) -> dict[str, Path]:
    """Model type to a folder with a tokenizer of its kind and the least of a config.json."""
    folders = {}
    for kind, make in MAKE.items():
        folder = folders[kind] = tmp_path_factory.mktemp(kind)
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        make(folder)
    return folders


@pytest.fixture
def texts() -> list[str]:
    return without_spelled_specials()


@pytest.fixture
def all_texts() -> list[str]:
    return list(TEXTS)


@pytest.fixture(scope="session")
def training_lines() -> list[str]:
    return corpus()


# --- our models ---------------------------------------------------------------------------------------------------

TINY = {"d_model": 16, "heads": 2, "d_ff": 64, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
LEARNED = {"positions": "learned", "max_length": 24, "scale_embeddings": False, "attention_bias": True}
BERT = {**TINY, **LEARNED, "kind": "encoder", "embedding_norm": True, "activation": "gelu", "segments": 2,
        "norm_eps": 1e-12, "mlm_head": True, "pooler": True, "pair_head": True}  # fmt: skip
GPT2 = {**TINY, **LEARNED, "kind": "decoder", "norm_position": "pre", "activation": "gelu_tanh"}
BART = {**TINY, **LEARNED, "embedding_norm": True, "position_offset": 2, "activation": "gelu"}
T5 = {**TINY, "norm": "rmsnorm", "norm_position": "pre", "norm_eps": 1e-6, "positions": "relative",
      "score": "dot", "feed_forward_bias": False, "scale_embeddings": False}  # fmt: skip
MARIAN = {**TINY, "positions": "sinusoidal-halves", "attention_bias": True, "output_bias": True, "max_length": 24}
LLAMA = {**TINY, "kind": "decoder", "norm": "rmsnorm", "norm_position": "pre", "norm_eps": 1e-6, "norm_bias": False,
         "activation": "swiglu", "positions": "rotary", "scale_embeddings": False, "feed_forward_bias": False,
         "max_length": 24, "d_key": 12, "d_value": 12}  # fmt: skip
OURS = {  # name -> (our settings, the class that is written, what is known of where the model came from)
    "bert": (BERT, "BertForPreTraining"),
    "bert-mlm": ({**BERT, "pooler": False, "pair_head": False}, "BertForMaskedLM"),
    "bert-pair": ({**BERT, "mlm_head": False}, "BertForNextSentencePrediction"),
    "bert-plain": ({**BERT, "mlm_head": False, "pair_head": False}, "BertModel"),
    "bert-bare": (
        {**BERT, "attention_bias": False, "feed_forward_bias": False, "norm_bias": False, "segments": 0, "tie": "none"},
        "BertForPreTraining",
    ),
    "roberta": (
        {**BERT, "position_offset": 2, "segments": 1, "pooler": False, "pair_head": False},
        "RobertaForMaskedLM",
    ),
    "roberta-plain": ({**BERT, "position_offset": 2, "mlm_head": False, "pair_head": False}, "RobertaModel"),
    "electra": ({**BERT, "d_embedding": 8, "pooler": False, "pair_head": False}, "ElectraForMaskedLM"),
    "electra-bare": (
        {**BERT, "d_embedding": 20, "mlm_head": False, "pooler": False, "pair_head": False, "attention_bias": False,
         "norm_bias": False, "segments": 0},
        "ElectraModel",
    ),
    "distilbert": (
        {**BERT, "segments": 0, "pooler": False, "pair_head": False},
        "DistilBertForMaskedLM",
        {"read_from": "distilbert"},
    ),
    "distilbert-bare": (
        {**BERT, "segments": 0, "pooler": False, "pair_head": False, "mlm_head": False, "attention_bias": False},
        "DistilBertModel",
        {"read_from": "distilbert"},
    ),
    "xlm-roberta": (
        {**BERT, "position_offset": 2, "segments": 1, "pooler": False, "pair_head": False},
        "XLMRobertaForMaskedLM",
        {"read_from": "xlm-roberta"},
    ),
    "mpnet": (
        {**BERT, "position_offset": 2, "segments": 0, "pooler": False, "pair_head": False, "relative_bias": True},
        "MPNetForMaskedLM",
    ),
    "longformer": (
        {**BERT, "position_offset": 2, "segments": 1, "pooler": False, "pair_head": False,
         "attention": ["longformer:4:2", "longformer:8:2"]},
        "LongformerForMaskedLM",
    ),
    "longformer-bare": (
        {**BERT, "position_offset": 2, "segments": 0, "mlm_head": False, "pair_head": False, "attention_bias": False,
         "attention": ["longformer:4"]},
        "LongformerModel",
    ),
    "bigbird": (
        {**BERT, "attention": ["bigbird:3:1:0", "bigbird:3:1:5"], "activation": "gelu_tanh"},
        "BigBirdForPreTraining",
    ),
    "bigbird-mlm": (
        {**BERT, "attention": ["bigbird:4:0"], "pooler": False, "pair_head": False, "scale_embeddings": True},
        "BigBirdForMaskedLM",
    ),
    "bigbird-plain": (
        {**BERT, "mlm_head": False, "pair_head": False, "attention_bias": False},
        "BigBirdModel",
        {"read_from": "big_bird"},
    ),
    "modernbert": (
        {**TINY, "kind": "encoder", "norm_position": "pre", "first_norm": False, "embedding_norm": True,
         "norm_bias": False, "feed_forward_bias": False, "activation": "geglu", "positions": "rotary",
         "scale_embeddings": False, "attention": ["full", "window:4"], "rope_local_theta": 50.0, "max_length": 24,
         "mlm_head": True, "mlm_head_bias": False},
        "ModernBertForMaskedLM",
    ),
    "gpt2": (GPT2, "GPT2LMHeadModel"),
    "gpt2-bare": (
        {**GPT2, "attention_bias": False, "feed_forward_bias": False, "norm_bias": False, "d_ff": 40, "tie": "none"},
        "GPT2LMHeadModel",
    ),
    "gpt": ({**GPT2, "norm_position": "post"}, "OpenAIGPTLMHeadModel"),
    "bart": (BART, "BartForConditionalGeneration"),
    "bart-no-offset": ({**BART, "position_offset": 0, "attention_bias": False}, "BartForConditionalGeneration"),
    "t5": ({**T5, "scale_output": True, "d_key": 12, "d_value": 12}, "T5ForConditionalGeneration"),
    "t5-v1.1": ({**T5, "activation": "geglu_tanh", "tie": "source-target"}, "T5ForConditionalGeneration"),
    "marian": (MARIAN, "MarianMTModel"),
    "transformer": ({**MARIAN, "positions": "sinusoidal", "attention_bias": False}, "MarianMTModel"),
    "pegasus": ({**MARIAN, "norm_position": "pre", "decoder_layers": 1}, "PegasusForConditionalGeneration"),
    "transformer-pre": (
        {**MARIAN, "norm_position": "pre", "positions": "sinusoidal", "attention_bias": False, "output_bias": False},
        "PegasusForConditionalGeneration",
    ),
    "neox": (
        {**GPT2, "positions": "rotary", "activation": "gelu", "attention_bias": False},
        "GPTNeoXForCausalLM",
    ),
    "neox-parallel": (
        {**GPT2, "positions": "rotary", "parallel_residual": True, "rope_share": 0.5, "rope_theta": 50.0},
        "GPTNeoXForCausalLM",
    ),
    "qwen3": ({**LLAMA, "qk_norm": True, "tie": "none"}, "Qwen3ForCausalLM"),
    "qwen3-windows": (
        {**LLAMA, "qk_norm": True, "kv_heads": 1, "attention": ["full", "window:4"]},
        "Qwen3ForCausalLM",
    ),
    "llama": ({**LLAMA, "kv_heads": 1, "rope_theta": 500.0, "attention_bias": True}, "LlamaForCausalLM"),
    "llama-yarn": (
        {**LLAMA, "feed_forward_bias": True,
         "rope_scaling": {"method": "yarn", "factor": 4.0, "original_max_length": 6, "beta_fast": 8.0}},
        "LlamaForCausalLM",
    ),
    "mistral": ({**LLAMA, "kv_heads": 1, "attention": ["window:5"]}, "MistralForCausalLM"),
    "mistral-full": ({**LLAMA, "kv_heads": 1}, "MistralForCausalLM", {"read_from": "mistral"}),
    "xlnet": (
        {**TINY, "family": "xlnet", "kind": "encoder", "activation": "gelu", "positions": "none", "segments": 2,
         "scale_embeddings": False, "norm_eps": 1e-12, "share_position_biases": False, "memory_length": 8},
        "XLNetLMHeadModel",
    ),
}  # fmt: skip


def origin(name: str) -> dict:
    return dict(*OURS[name][2:])


@pytest.fixture(scope="session")
def origins():
    """name -> what is known of where the model came from."""
    return origin


@pytest.fixture(scope="session")
def tokenizer(training_lines):
    return train_tokenizer("chars", training_lines, vocab_size=300)


@pytest.fixture(scope="session")
def made(tokenizer):
    """name -> our model with every number random, and its configuration."""

    def model(name):
        torch.manual_seed(3)
        config = of_family(OURS[name][0])
        model = build_model(config, tokenizer.vocab_size)
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.randn_like(weight) * 0.3)
        return model.eval(), config.model_dump()

    return model


@pytest.fixture(scope="session")
def write(made, tokenizer):
    """(name, folder) -> our model, its configuration and the class for which it was written into the folder."""

    def written(name, folder, **info):
        model, config = made(name)
        weights, info = model.state_dict(), {**origin(name), **info}
        return model, config, write_huggingface(folder, config=config, weights=weights, tokenizer=tokenizer, info=info)

    return written


@pytest.fixture(scope="module", params=OURS)
def written(request, write, tmp_path_factory):
    """Name, model, configuration, folder and class of every one of them, and the class that is expected."""
    folder = tmp_path_factory.mktemp(request.param)
    model, config, name = write(request.param, folder, task="some", more=[1])
    return request.param, model, config, folder, name, OURS[request.param][1]


@pytest.fixture
def all_settings():
    return {name: given for name, (given, *_) in OURS.items()}


@pytest.fixture
def settings():
    """name -> our settings."""
    return lambda name: OURS[name][0]


@pytest.fixture
def same_weights():
    """Whether weights are those of a model, to the bit."""

    def same(found, model):
        weights = unshared(model.state_dict())
        return found.keys() == weights.keys() and all(torch.equal(found[key], weights[key]) for key in weights)

    return same
