"""Llama, Mistral, Qwen3 and GPT-NeoX against `transformers`: logits, greedy text, counts, and folders both ways."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.family_table import FAMILIES
from nlpcli.convert.huggingface_in import read_huggingface
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_on_meta, count_parameters

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH = 50, 20
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": LENGTH, "bos_token_id": 1, "eos_token_id": 0,
}  # fmt: skip
GROUPED = {**SHAPE, "num_key_value_heads": 2}
LINEAR = {"rope_type": "linear", "factor": 3.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 200.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500.0,
    "original_max_position_embeddings": 10,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 5, "rope_theta": 300.0}
SCALINGS = {
    "linear": LINEAR,
    "dynamic": DYNAMIC,
    "llama3": LLAMA3,
    "yarn": YARN,
    "yarn-all": {**YARN, "attention_factor": 1.3, "beta_fast": 4.0, "beta_slow": 0.5, "truncate": False},
    "yarn-mscale": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2},
}
CONFIGS = {
    "llama": ("Llama", SHAPE),
    "llama-grouped": ("Llama", {**GROUPED, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
    "llama-one": ("Llama", {**SHAPE, "num_key_value_heads": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "llama-biases": ("Llama", {**GROUPED, "attention_bias": True, "mlp_bias": True, "head_dim": 12}),
    **{f"llama-{name}": ("Llama", {**GROUPED, "rope_parameters": scaling}) for name, scaling in SCALINGS.items()},
    "mistral": ("Mistral", {**GROUPED, "sliding_window": 6, "head_dim": 12}),
    "mistral-full": ("Mistral", {**GROUPED, "sliding_window": None}),
    "qwen3": ("Qwen3", {**GROUPED, "head_dim": 12}),
    "qwen3-tied": ("Qwen3", {**GROUPED, "head_dim": 8, "tie_word_embeddings": True, "attention_bias": True}),
    "qwen3-yarn": ("Qwen3", {**GROUPED, "head_dim": 12, "rope_parameters": YARN}),
    "qwen3-window": (
        "Qwen3",
        {**GROUPED, "head_dim": 12, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "neox": ("GPTNeoX", SHAPE),
    "neox-tied": ("GPTNeoX", {**SHAPE, "attention_bias": False, "tie_word_embeddings": True}),
    "neox-sequential": (
        "GPTNeoX",
        {**SHAPE, "use_parallel_residual": False, "hidden_act": "relu",
         "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 70.0, "partial_rotary_factor": 0.5}},
    ),
}  # fmt: skip


def made(name):
    family, settings = CONFIGS[name]
    config = getattr(transformers, f"{family}Config")(**settings)
    return getattr(transformers, f"{family}ForCausalLM")(config)


@pytest.fixture(scope="module", params=CONFIGS)
def theirs(request, scattered):
    return scattered(made(request.param), 5, 0.3)


@pytest.fixture(scope="module")
def ours(theirs, read):
    return read(theirs)


def tokens(rows=4, length=LENGTH, seed=0):
    return torch.randint(2, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_logits_of_a_padded_batch_are_theirs(theirs, ours):
    mask = torch.arange(LENGTH) < torch.tensor([20, 13, 7, 1])[:, None]
    expected = theirs(input_ids=tokens(), attention_mask=mask.long()).logits
    assert float(expected.std()) > 0.5
    assert torch.allclose(ours.model(tokens())[mask], expected[mask], atol=1e-4)
    assert count_parameters(ours.model) == sum(p.numel() for p in theirs.parameters())
    assert ours.left_out == []


@torch.inference_mode()
def test_logits_beyond_the_longest_text_in_training_are_theirs(theirs, ours):
    ids = tokens(length=LENGTH + 13, seed=3)
    theirs = copy.deepcopy(theirs)  # a long text changes the angles that it keeps
    assert torch.allclose(ours.model(ids), theirs(input_ids=ids).logits, atol=1e-4)


@torch.inference_mode()
def test_greedy_text_is_theirs(theirs, ours):
    prompt = tokens(rows=6, length=9, seed=4)
    expected = copy.deepcopy(theirs).generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=25,
        eos_token_id=None,
        pad_token_id=0,
    )
    found = greedy_search(ours.model, ours.model.init_state(6), prompt.tolist(), StopConditions(None, 25))
    assert [list(row[0].ids) for row in found] == expected[:, 9:].tolist()


def test_the_cache_keeps_the_heads_of_keys_and_values_only(ours):
    config = ours.config
    _, state = ours.model.step(tokens(rows=1, length=4), ours.model.init_state(1))
    heads, width = config["kv_heads"] or config["heads"], config["d_key"] or 8
    assert state.bytes() == config["decoder_layers"] * 4 * heads * 2 * width * 8


# max_window_layers: layer_types says the same
_OF_NO_MATTER = {
    "architectures", "dtype", "nlpcli", "transformers_version", "_name_or_path", "use_cache", "bos_token_id",
    "eos_token_id", "pad_token_id", "pretraining_tp", "max_window_layers",
}  # fmt: skip


def test_a_folder_goes_out_as_what_it_was_and_comes_back_to_the_bit(theirs, ours, tmp_path):
    weights = {name: tensor.float() for name, tensor in ours.weights.items()}
    name = write_huggingface(tmp_path, config=ours.config, weights=weights, tokenizer=ours.tokenizer, info=ours.info)
    assert name == type(theirs).__name__
    again = read_huggingface(tmp_path)
    assert again.config == ours.config and again.weights.keys() == weights.keys()
    assert all(torch.equal(again.weights[key], weights[key]) for key in weights)
    described = json.loads((tmp_path / "config.json").read_text())
    del described["nlpcli"]
    (tmp_path / "config.json").write_text(json.dumps(described))  # what a program that knows nothing of ours reads
    assert read_huggingface(tmp_path).config == ours.config
    written = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
    original = theirs.config.to_dict()
    rope = {"mscale", "mscale_all_dim", "attention_factor", "partial_rotary_factor"}
    for each in (written, original):
        for setting in rope:
            each["rope_parameters"].pop(setting, None)
    matter = original.keys() - _OF_NO_MATTER
    assert {key: written.get(key) for key in matter} == {key: original[key] for key in matter}
    reloaded, report = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    with torch.inference_mode():
        ids = tokens()
        theirs(
            input_ids=ids[:, :2]
        )  # with 'dynamic', theirs keeps the angles of the longest text until a short one comes
        assert torch.allclose(reloaded.double()(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-4)


# --- published shapes ---------------------------------------------------------------------------------------------

LLAMA_31 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
PUBLISHED = {  # what matters of config.json as published, and the number of parameters
    "Llama-2-7b": (
        {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-05,
         "rope_scaling": None, "tie_word_embeddings": False, "vocab_size": 32000},
        6_738_415_616,
    ),
    "Llama-3.1-8B": (
        {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072,
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
         "rope_scaling": LLAMA_31, "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256},
        8_030_261_248,
    ),
    "Llama-3.2-1B": (
        {"model_type": "llama", "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192,
         "max_position_embeddings": 131072, "mlp_bias": False, "num_attention_heads": 32, "num_hidden_layers": 16,
         "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_scaling": {**LLAMA_31, "factor": 32.0},
         "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256},
        1_235_814_400,
    ),
    "Mistral-7B-v0.1": (
        {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
         "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000},
        7_241_732_096,
    ),
    "Qwen3-0.6B": (
        {"model_type": "qwen3", "attention_bias": False, "head_dim": 128, "hidden_size": 1024,
         "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28,
         "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
         "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
         "use_sliding_window": False, "vocab_size": 151936},
        596_049_920,
    ),
    "Qwen3-8B": (
        {"model_type": "qwen3", "attention_bias": False, "head_dim": 128, "hidden_size": 4096,
         "intermediate_size": 12288, "max_position_embeddings": 40960, "max_window_layers": 36,
         "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
         "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False,
         "use_sliding_window": False, "vocab_size": 151936},
        8_190_735_360,
    ),
    "pythia-160m": (
        {"model_type": "gpt_neox", "hidden_act": "gelu", "hidden_size": 768, "intermediate_size": 3072,
         "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "num_attention_heads": 12, "num_hidden_layers": 12,
         "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True,
         "vocab_size": 50304},
        162_322_944,
    ),
    "gpt-neox-20b": (
        {"model_type": "gpt_neox", "hidden_act": "gelu_fast", "hidden_size": 6144, "intermediate_size": 24576,
         "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "num_attention_heads": 64, "num_hidden_layers": 44,
         "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True,
         "vocab_size": 50432},
        20_554_567_680,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_shape_has_the_published_number_of_parameters_and_goes_out_as_it_was(name):
    described, count = PUBLISHED[name]
    family = FAMILIES.load(described["model_type"])
    output = "embed_out.weight" if family.model_type == "gpt_neox" else "lm_head.weight"
    ours = family.config_in(described, {output: torch.empty(0)}, name)
    assert count_parameters(build_on_meta(ModelConfig.model_validate(ours), described["vocab_size"])) == count
    written = family.config_out(ours)
    assert {key: written[key] for key in described.keys() - {"vocab_size", "hidden_act"}} == {
        key: value for key, value in described.items() if key not in ("vocab_size", "hidden_act")
    }


# --- what is refused ----------------------------------------------------------------------------------------------

PLAIN = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4, "num_hidden_layers": 2,
         "max_position_embeddings": 64}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "settings", "words"),
    [
        (
            "llama",
            {"rope_scaling": {"type": "longrope", "factor": 2}},
            r"rope_type 'longrope' \(default, linear, dynamic",
        ),
        ("llama", {"rope_scaling": {"rope_type": "linear"}}, "rope_type 'linear' without factor"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "rope_scaling.factor must be at least 1"),
        ("llama", {"rope_scaling": "linear"}, "not one group of settings for all layers"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "not one group of settings"),
        ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "only 1.0 is supported"),
        ("llama", {"rope_theta": "x"}, "rope_theta must be a number"),
        ("llama", {"hidden_act": "relu"}, "this Llama model is not supported, because its activation is 'relu'"),
        ("llama", {"num_key_value_heads": 3}, "4 heads can't share 3 kv_heads evenly"),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": 0}, "window:0"),
        ("qwen3", {"layer_types": ["full_attention"]}, "layer_types that don't give each layer"),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types that don't give each layer"),
        ("qwen3", {"layer_types": ["full_attention", "chunked_attention"]}, "layer_types that don't give each layer"),
        ("gpt_neox", {"rotary_pct": 0}, "rope_share must be greater than 0"),
        ("gpt_neox", {"rotary_pct": 0.5, "num_attention_heads": 16}, "rope_share 0.5 turns 1 of a head's 2 numbers"),
    ],
)
def test_what_is_not_supported_is_named(model_type, settings, words):
    with pytest.raises(NlpcliError, match=words):
        FAMILIES.load(model_type).config_in({**PLAIN, **settings}, {}, "config.json")
