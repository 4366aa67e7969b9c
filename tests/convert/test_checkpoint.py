"""Whole folders: written, loaded by `transformers` with the same numbers, and read back bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from nlpcli.config.schema import ModelConfig
from nlpcli.convert.checkpoint import FAMILIES, choose_family, read_huggingface, write_huggingface
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.directory import load_weights, unshared
from nlpcli.text import train_tokenizer

TINY = {"d_model": 16, "heads": 2, "d_ff": 64, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
LEARNED = {"positions": "learned", "max_length": 24, "scale_embeddings": False, "attention_bias": True}
BERT = {**TINY, **LEARNED, "kind": "encoder", "embedding_norm": True, "activation": "gelu", "segments": 2,
        "norm_eps": 1e-12, "mlm_head": True, "pooler": True, "pair_head": True}  # fmt: skip
GPT2 = {**TINY, **LEARNED, "kind": "decoder", "norm_position": "pre", "activation": "gelu_tanh"}
BART = {**TINY, **LEARNED, "embedding_norm": True, "position_offset": 2, "activation": "gelu"}
T5 = {**TINY, "norm": "rmsnorm", "norm_position": "pre", "norm_eps": 1e-6, "positions": "relative",
      "attention_scale": False, "feed_forward_bias": False, "scale_embeddings": False}  # fmt: skip
MARIAN = {**TINY, "positions": "sinusoidal-halves", "attention_bias": True, "output_bias": True, "max_length": 24}
OURS = {  # name -> (our settings, the class that is written)
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
    "qwen3": (
        {**TINY, "kind": "decoder", "norm": "rmsnorm", "norm_position": "pre", "norm_eps": 1e-6, "norm_bias": False,
         "qk_norm": True, "activation": "swiglu", "positions": "rotary", "scale_embeddings": False,
         "feed_forward_bias": False, "max_length": 24, "d_key": 12, "d_value": 12, "tie": "none"},
        "Qwen3ForCausalLM",
    ),
    "xlnet": (
        {**TINY, "family": "xlnet", "kind": "encoder", "activation": "gelu", "positions": "none", "segments": 2,
         "scale_embeddings": False, "norm_eps": 1e-12, "share_position_biases": False, "memory_length": 8},
        "XLNetLMHeadModel",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(training_lines):
    return train_tokenizer("chars", training_lines, vocab_size=300)


def made(name, tokenizer):
    """Our model with every number random."""
    torch.manual_seed(3)
    config = ModelConfig.model_validate(OURS[name][0])
    model = build_model(config, tokenizer.vocab_size)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3)
    return model.eval(), config.model_dump()


@pytest.fixture(scope="module", params=OURS)
def written(request, tokenizer, tmp_path_factory):
    model, config = made(request.param, tokenizer)
    folder = tmp_path_factory.mktemp(request.param)
    name = write_huggingface(
        folder, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={"task": "some", "more": [1]}
    )
    return request.param, model, config, folder, name


def batch(tokenizer):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(8, tokenizer.vocab_size, (4, 15), generator=generator)
    mask = torch.arange(15) < torch.tensor([15, 9, 4, 1])[:, None]
    segments = torch.randint(0, 2, (4, 15), generator=generator)
    return ids.masked_fill(~mask, tokenizer.special.pad), mask, segments


@torch.inference_mode()
def test_transformers_computes_the_same_numbers(written, tokenizer):
    name, ours, config, folder, architecture = written
    assert architecture == OURS[name][1]
    theirs, report = getattr(transformers, architecture).from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert all("embed_positions" in key for key in report["missing_keys"])  # Marian's are computed
    ids, mask, segments = batch(tokenizer)
    given = {"input_ids": ids, "attention_mask": mask.long()}
    if config["kind"] == "encoder-decoder":
        found = theirs(**given, decoder_input_ids=ids[:, :9]).logits
        expected = ours(ids, mask, ids[:, :9])
        assert torch.allclose(found, expected, atol=1e-4)
        return
    if config["kind"] == "decoder":
        assert torch.allclose(theirs.eval()(**given).logits[mask], ours(ids)[mask], atol=1e-4)
        return
    segments = segments if config["segments"] == 2 else torch.zeros_like(segments)
    output = theirs(**given, token_type_ids=segments, output_hidden_states=True)
    states = ours(ids, mask, segments if config["segments"] == 2 else None)
    assert torch.allclose(output.hidden_states[-1][mask], states[mask], atol=1e-4)
    if config["mlm_head"]:
        logits = output.prediction_logits if "PreTraining" in architecture else output.logits
        assert torch.allclose(ours.logits(ours.mlm_hidden(states))[mask], logits[mask], atol=1e-4)
    if config["pair_head"]:
        logits = output.seq_relationship_logits if "PreTraining" in architecture else output.logits
        assert torch.allclose(ours.pair_logits(states), logits, atol=1e-4)
    if architecture in ("BertModel", "RobertaModel"):
        assert torch.allclose(ours.pooled(states), output.pooler_output, atol=1e-4)


def test_automodel_and_autotokenizer_find_the_class(written, tokenizer):
    folder, family = written[3], written[0].split("-")[0]
    classes = {"bert": "BertModel", "roberta": "RobertaModel", "gpt2": "GPT2Model", "gpt": "OpenAIGPTModel",
               "bart": "BartModel", "t5": "T5Model", "marian": "MarianModel", "pegasus": "PegasusModel",
               "xlnet": "XLNetModel"}  # fmt: skip
    found = type(transformers.AutoModel.from_pretrained(folder)).__name__
    assert found == classes.get(family, found)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    assert loaded("Two men", add_special_tokens=False).input_ids == tokenizer.encode(["Two men"])[0]


def test_what_is_read_back_is_the_same_to_the_bit(written, tokenizer):
    _, ours, config, folder, _ = written
    found = read_huggingface(folder)
    weights = unshared(ours.state_dict())
    assert found.config == config
    assert found.weights.keys() == weights.keys()
    assert all(torch.equal(found.weights[key], weights[key]) for key in weights)
    assert found.info == {"task": "some", "more": [1]}
    assert found.left_out == []
    assert found.tokenizer.vocab_size == tokenizer.vocab_size
    load_weights(build_model(found.config, tokenizer.vocab_size), found.weights, "here")


def test_a_folder_that_was_changed_elsewhere_is_read_as_it_is(tokenizer, tmp_path):
    model, config = made("bert-bare", tokenizer)
    write_huggingface(tmp_path, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={})
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path)
    with torch.no_grad():
        theirs.bert.encoder.layer[1].attention.self.query.bias.fill_(0.5)
    again = tmp_path / "again"
    theirs.save_pretrained(again)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / name, again / name)
    found = read_huggingface(again)
    assert found.config["attention_bias"]
    assert float(found.weights["encoder.layers.1.self_attention.query.bias"].max()) == 0.5
    ids, mask, _ = batch(tokenizer)
    ours = build_model(found.config, tokenizer.vocab_size).eval()
    load_weights(ours, found.weights, "again")
    with torch.inference_mode():
        expected = theirs.eval().bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        assert torch.allclose(ours(ids, mask)[mask], expected[mask], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**BERT, "positions": "rotary"}, "BERT can't express model.positions 'rotary'"),
        ({**BERT, "qk_norm": True}, "BERT can't express model.qk_norm true"),
        ({**GPT2, "attention": ["full", "window:4"]}, r"GPT-2 can't express model.attention \['full', 'window:4'\]"),
        ({**GPT2, "output_bias": True}, "GPT-2 can't express model.output_bias true"),
        ({**GPT2, "d_key": 4, "d_value": 4}, "GPT-2 can't express model.d_key 4, nor model.d_value"),
        ({**T5, "activation": "geglu"}, "T5 can't express model.activation 'geglu'"),
        ({**MARIAN, "tie": "none"}, "Marian can't express model.tie 'none'"),
        ({**MARIAN, "norm_eps": 1e-6}, "Marian can't express model.norm_eps 1e-06"),
        (
            {**TINY, "family": "transformer-xl", "kind": "decoder"},
            "no class .* can express model.family 'transformer-xl'",
        ),
        ({**BART, "qk_norm": True}, "BART can't express model.qk_norm true"),
    ],
)
def test_what_no_class_can_express_is_named(settings, message):
    config = ModelConfig.model_validate(settings).model_dump()
    with pytest.raises(NlpcliError, match=message):
        choose_family(config).config_out(config)


def test_every_preset_of_a_published_family_has_its_class():
    from nlpcli.presets import load

    expected = {
        "bert-base": "BertForPreTraining", "roberta-base": "RobertaForMaskedLM", "gpt": "OpenAIGPTLMHeadModel",
        "gpt2": "GPT2LMHeadModel", "bart-base": "BartForConditionalGeneration",
        "t5-small": "T5ForConditionalGeneration", "t5-v1.1-small": "T5ForConditionalGeneration",
        "pegasus-large": "PegasusForConditionalGeneration", "marian-base": "MarianMTModel",
        "xlnet-base": "XLNetLMHeadModel", "transformer-base": "MarianMTModel",
        "transformer-tiny": "PegasusForConditionalGeneration",
        "gpt-mini": "GPTNeoXForCausalLM",
        "modern-decoder": "Qwen3ForCausalLM",
    }  # fmt: skip
    for name, architecture in expected.items():
        config = ModelConfig.model_validate(load(name)["model"]).model_dump()
        assert choose_family(config).architecture(config) == architecture


# --- reading folders of others ------------------------------------------------------------------------------------


@pytest.fixture
def gpt2(tokenizer, tmp_path):
    model, config = made("gpt2", tokenizer)
    folder = tmp_path / "gpt2"
    folder.mkdir()
    write_huggingface(folder, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={})
    described = json.loads((folder / "config.json").read_text())
    del described["nlpcli"]
    (folder / "config.json").write_text(json.dumps(described))
    return model, folder


def tensors(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save(weights, folder):
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")


def same_weights(found, model):
    weights = unshared(model.state_dict())
    return found.keys() == weights.keys() and all(torch.equal(found[key], weights[key]) for key in weights)


def test_published_gpt2_files_have_no_prefix_and_carry_masks(gpt2):
    model, folder = gpt2
    weights = {name.removeprefix("transformer."): tensor for name, tensor in tensors(folder).items()}
    weights["h.0.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
    save(weights, folder)
    found = read_huggingface(folder)
    assert same_weights(found.weights, model)
    assert found.left_out == []
    assert found.info == {"task": "language-model", "read_from": "gpt2", "document_end": True}


def test_sharded_weights_are_put_together(gpt2):
    model, folder = gpt2
    weights = tensors(folder)
    names = list(weights)
    (folder / "model.safetensors").unlink()
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        save({name: weights[name] for name in part}, folder)
        (folder / "model.safetensors").rename(folder / f"part{number}.safetensors")
        index |= dict.fromkeys(part, f"part{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert same_weights(read_huggingface(folder).weights, model)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../part0.safetensors"}}))
    with pytest.raises(NlpcliError, match="is no file of this folder"):
        read_huggingface(folder)


def test_a_pickle_is_read_only_when_asked_for_and_only_tensors_of_it(gpt2, tmp_path):
    model, folder = gpt2
    torch.save(tensors(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(NlpcliError, match="the weights are a pickle") as error:
        read_huggingface(folder)
    assert "--allow-pickle" in error.value.hint
    assert same_weights(read_huggingface(folder, allow_pickle=True).weights, model)
    touched = tmp_path / "touched"
    torch.save({"transformer.wte.weight": Harmful(str(touched))}, folder / "pytorch_model.bin")
    with pytest.raises(NlpcliError, match="can't be read as tensors only"):
        read_huggingface(folder, allow_pickle=True)
    assert not touched.exists()


class Harmful:
    """Runs something when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_half_precision_becomes_single(gpt2):
    model, folder = gpt2
    save({name: tensor.half() for name, tensor in tensors(folder).items()}, folder)
    found = read_huggingface(folder).weights
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    expected = model.state_dict()["decoder.norm.weight"]
    assert torch.equal(found["decoder.norm.weight"], expected.half().float())


def test_old_names_of_norms_are_known(tokenizer, tmp_path):
    model, config = made("bert", tokenizer)
    write_huggingface(tmp_path, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={})
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = tensors(tmp_path)
    for new, name in old.items():
        weights = {key.replace(new, name): tensor for key, tensor in weights.items()}
    save(weights, tmp_path)
    assert same_weights(read_huggingface(tmp_path).weights, model)


def test_weights_without_a_use_are_listed_and_missing_ones_named(gpt2):
    _, folder = gpt2
    weights = tensors(folder)
    save({**weights, "score.weight": torch.zeros(2, 16)}, folder)
    assert read_huggingface(folder).left_out == ["score.weight"]
    del weights["transformer.h.1.ln_1.bias"]
    save(weights, folder)
    with pytest.raises(NlpcliError, match=r"lacks the weight 'transformer\.h\.1\.ln_1\.bias'"):
        read_huggingface(folder)
    (folder / "model.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(NlpcliError, match=r"model\.safetensors: can't be read"):
        read_huggingface(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(NlpcliError, match="no weights"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bertt"}, "unknown model type 'bertt'"),
        ({"model_type": None}, "unknown model type 'None'"),
        ({"activation_function": "mish"}, "this GPT-2 is not known here: activation 'mish'"),
        ({"scale_attn_weights": False}, "a GPT-2 with scale_attn_weights false is not known here"),
        ({"n_embd": 17}, "d_model 17 can't be split into 2 heads"),
    ],
)
def test_a_config_that_is_not_known_is_named(gpt2, change, message):
    _, folder = gpt2
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | change))
    with pytest.raises(NlpcliError, match=message):
        read_huggingface(folder)


def test_a_tokenizer_larger_than_the_model_is_refused(gpt2, tokenizer_folders):
    _, folder = gpt2
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folders["gpt2"] / name, folder / name)
    with pytest.raises(NlpcliError, match="the tokenizer has 420 ids, the model only 300"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("bert", "BertModel"),
        ("roberta", "RobertaModel"),
        ("gpt2", "GPT2Model"),
        ("gpt", "OpenAIGPTModel"),
        ("bart", "BartModel"),
        ("pegasus", "PegasusModel"),
        ("t5", "T5Model"),
        ("xlnet", "XLNetModel"),
    ],
)
def test_models_saved_without_heads_can_be_read(tokenizer, tmp_path, name, base):
    model, config = made(name, tokenizer)
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    write_huggingface(first, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={})
    getattr(transformers, base).from_pretrained(first).save_pretrained(second)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(first / file, second / file)
    found = read_huggingface(second)
    weights = unshared(model.state_dict())
    # RoBERTa's first position stands behind the padding id, which is 0 here: one row less is free
    moved = {"output_bias", "encoder_embedding.positions.weight"} if name == "roberta" else {"output_bias"}
    assert all(torch.equal(found.weights[key], weights[key]) for key in found.weights.keys() & weights.keys() - moved)
    load_weights(build_model(found.config, tokenizer.vocab_size), found.weights, "here")


def test_every_family_can_be_loaded():
    assert {FAMILIES.load(name).model_type for name in FAMILIES} == set(FAMILIES)
