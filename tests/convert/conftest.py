"""Small tokenizers of the kinds that published models have, in folders as `transformers` leaves them; no download."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers", reason="exchange is tested against the extra 'test'")

import sentencepiece  # noqa: E402
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers  # noqa: E402

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
