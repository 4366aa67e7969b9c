"""Numbers of parameters against the formula, and what fresh weights look like."""

from __future__ import annotations

import math
import re

import pytest
import torch
from model_settings import of_family

from nlpcli import presets
from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.build import build_model, count_parameters
from nlpcli.models.initialization import initialize

VOCABULARY = 37_000
# Vaswani et al. 2017, Table 3: N, d, d_ff, h, d_k, d_v, and the column "params" in millions (none given in row D and E)
TABLE = {
    "transformer-base": (6, 512, 2048, 8, 64, 64, 65),
    "transformer-base-a1": (6, 512, 2048, 1, 512, 512, None),
    "transformer-base-a4": (6, 512, 2048, 4, 128, 128, None),
    "transformer-base-a16": (6, 512, 2048, 16, 32, 32, None),
    "transformer-base-a32": (6, 512, 2048, 32, 16, 16, None),
    "transformer-base-b16": (6, 512, 2048, 8, 16, 64, 58),
    "transformer-base-b32": (6, 512, 2048, 8, 32, 64, 60),
    "transformer-base-c-layers2": (2, 512, 2048, 8, 64, 64, 36),
    "transformer-base-c-layers4": (4, 512, 2048, 8, 64, 64, 50),
    "transformer-base-c-layers8": (8, 512, 2048, 8, 64, 64, 80),
    "transformer-base-c-model256": (6, 256, 2048, 8, 32, 32, 28),
    "transformer-base-c-model1024": (6, 1024, 2048, 8, 128, 128, 168),
    "transformer-base-c-ff1024": (6, 512, 1024, 8, 64, 64, 53),
    "transformer-base-c-ff4096": (6, 512, 4096, 8, 64, 64, 90),
    "transformer-base-d-dropout0": (6, 512, 2048, 8, 64, 64, None),
    "transformer-base-d-dropout2": (6, 512, 2048, 8, 64, 64, None),
    "transformer-base-d-smoothing0": (6, 512, 2048, 8, 64, 64, None),
    "transformer-base-d-smoothing2": (6, 512, 2048, 8, 64, 64, None),
    "transformer-base-e-learned": (6, 512, 2048, 8, 64, 64, None),
    "transformer-big": (6, 1024, 4096, 16, 64, 64, 213),
}


def formula(layers, d, d_ff, h, d_k, d_v, vocabulary):
    """The shared embedding; a layer: three attentions without biases, two feed-forward layers, five LayerNorms."""
    attention = 2 * d * h * d_k + 2 * d * h * d_v
    feed_forward = 2 * d * d_ff + d_ff + d
    return vocabulary * d + layers * (3 * attention + 2 * feed_forward + 10 * d)


def on_paper(config, vocabulary=VOCABULARY):
    with torch.device("meta"):
        return build_model(config, vocabulary)


def test_every_row_of_the_papers_table_is_a_preset():
    assert set(TABLE) == {name for name in presets.names() if name.startswith(("transformer-base", "transformer-big"))}


@pytest.mark.parametrize("name", TABLE)
def test_the_number_of_parameters_is_the_formulas_and_near_the_papers(name):
    *shape, millions = TABLE[name]
    config = presets.load(name)["model"]
    positions = 2 * config["max_length"] * shape[1] if config["positions"] == "learned" else 0
    count = count_parameters(on_paper(config))
    assert count == formula(*shape, VOCABULARY) + positions
    if millions is not None:
        assert count == pytest.approx(millions * 1e6, rel=0.07)


def test_base_and_big_have_the_numbers_worked_out_by_hand():
    base, big = (on_paper(presets.load(name)["model"]) for name in ("transformer-base", "transformer-big"))
    assert count_parameters(base) == 63_045_632
    assert count_parameters(base) - base.output_weight.numel() == 44_101_632
    assert count_parameters(big) == 214_171_648


def test_the_papers_base_column_fits_a_slightly_larger_vocabulary_exactly():
    for *shape, millions in TABLE.values():
        if millions not in (None, 213):
            assert {round(formula(*shape, vocabulary) / 1e6) for vocabulary in (41_004, 41_208)} == {millions}


SMALL = {"d_model": 8, "heads": 2, "d_ff": 12, "encoder_layers": 2, "decoder_layers": 1}
ENCODER_LAYER, DECODER_LAYER, TABLE_SIZE = 256 + 212 + 32, 512 + 212 + 48, 50 * 8


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"tie": "all"}, 0),
        ({"tie": "source-target"}, TABLE_SIZE),
        ({"tie": "target-output"}, TABLE_SIZE),
        ({"tie": "none"}, 2 * TABLE_SIZE),
        ({"output_bias": True}, 50),
        ({"norm_position": "pre"}, 2 * 16),
        ({"norm_bias": False}, -7 * 8),
        ({"norm": "rmsnorm"}, -7 * 8),
        ({"attention_bias": True}, 4 * 4 * 8),
        ({"feed_forward_bias": False}, -3 * 20),
        ({"activation": "swiglu"}, 3 * (8 * 12 + 12)),
        ({"activation": "geglu", "feed_forward_bias": False}, 3 * (8 * 12 - 20)),
        ({"qk_norm": True}, 4 * 2 * 4),
        ({"embedding_norm": True}, 2 * 16),
        ({"positions": "learned", "max_length": 30}, 2 * 30 * 8),
        ({"positions": "rotary"}, 0),
        ({"positions": "rotary", "rope_theta": 50.0, "rope_share": 0.5}, 0),
        ({"kv_heads": 1}, -4 * 2 * 8 * 4),
        ({"kv_heads": 1, "attention_bias": True}, 4 * (2 * 8 + 2 * 4) - 4 * 2 * 8 * 4),
        ({"positions": "none"}, 0),
        ({"d_key": 3, "d_value": 5}, 0),
    ],
    ids=str,
)
def test_each_setting_adds_the_parameters_it_needs_and_no_other(settings, more):
    count = count_parameters(on_paper(SMALL | settings, 50))
    assert count == TABLE_SIZE + 2 * ENCODER_LAYER + DECODER_LAYER + more


@pytest.mark.parametrize(
    ("kind", "size"), [("encoder", TABLE_SIZE + 2 * ENCODER_LAYER), ("decoder", TABLE_SIZE + ENCODER_LAYER)]
)
def test_one_stack_alone_has_no_attention_to_another(kind, size):
    assert count_parameters(on_paper(SMALL | {"kind": kind}, 50)) == size


@pytest.mark.parametrize(
    ("tie", "one"), [("all", "sto"), ("source-target", "st"), ("target-output", "to"), ("none", "")]
)
def test_tying_makes_matrices_one_and_no_others(tie, one):
    model = build_model(SMALL | {"tie": tie}, 50)
    matrices = {
        "s": model.encoder_embedding.tokens.weight,
        "t": model.decoder_embedding.tokens.weight,
        "o": model.output_weight,
    }
    for a in matrices:
        for b in matrices:
            assert (matrices[a] is matrices[b]) == (a == b or (a in one and b in one))


SHAPE = {"d_model": 96, "heads": 4, "d_ff": 384, "encoder_layers": 3, "decoder_layers": 3, "attention_bias": True}


def deviation(weight):
    assert abs(float(weight.mean())) < 6 * float(weight.std()) / weight.numel() ** 0.5
    return float(weight.detach().std())


@torch.no_grad()
def test_xavier_matrices_are_uniform_and_embeddings_have_deviation_one_after_scaling():
    torch.manual_seed(1)
    model = build_model(SHAPE | {"tie": "none", "positions": "learned", "output_bias": True}, 3000)
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert torch.equal(weight, torch.full_like(weight, float(name.endswith("weight")))), name
        elif name.endswith("bias"):
            assert torch.equal(weight, torch.zeros_like(weight)), name
        elif "tokens" in name:
            assert deviation(weight) * math.sqrt(96) == pytest.approx(1.0, rel=0.01), name
        elif "positions" in name:
            assert deviation(weight) == pytest.approx(0.02, rel=0.02), name
        else:
            bound = math.sqrt(6 / sum(weight.shape))  # Glorot and Bengio 2010, eq. 16
            assert float(weight.abs().max()) <= bound
            assert float(weight.abs().max()) == pytest.approx(bound, rel=0.01), name
            assert deviation(weight) == pytest.approx(bound / math.sqrt(3), rel=0.03), name


@torch.no_grad()
def test_normal_matrices_into_the_residual_stream_shrink_with_depth():
    torch.manual_seed(2)
    settings = {"kind": "decoder", "initialization": "normal", "init_std": 0.05, "positions": "learned"}
    model = build_model(SHAPE | settings, 3000)
    matrices = {name: weight for name, weight in model.named_parameters() if weight.ndim == 2}
    into_stream = [name for name in matrices if "attention.output" in name or "feed_forward.outer" in name]
    assert len(into_stream) == 2 * 3
    for name, weight in matrices.items():
        expected = 0.05 / math.sqrt(2 * 3) if name in into_stream else 0.05
        assert deviation(weight) == pytest.approx(expected, rel=0.03), name


def test_fresh_weights_follow_from_torchs_random_state_alone():
    def build():
        torch.manual_seed(4)
        return build_model(SMALL, 50).state_dict()

    first, second = build(), build()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_weight_is_left_without_a_value():
    model = on_paper(SMALL | {"positions": "learned", "qk_norm": True, "embedding_norm": True, "tie": "none"}, 50)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(float("nan"))
    initialize(model)
    unset = [name for name, weight in model.named_parameters() if bool(weight.isnan().any())]
    assert [name for name in unset if "norm" not in name] == []  # norms are made as ones and zeros


def test_a_configuration_from_a_mapping_is_checked():
    with pytest.raises(ValueError, match="heads"):
        build_model({"d_model": 10, "heads": 3}, 50)


# --- every setting does something, or is refused ------------------------------------------------------------------

SIZES = {"d_model": 12, "heads": 2, "d_ff": 16, "encoder_layers": 2, "decoder_layers": 2, "initialization": "normal"}
PRETRAINED = {**SIZES, "kind": "encoder", "mlm_head": True, "pooler": True}
COMMON = {key: value for key, value in SIZES.items() if not key.endswith("layers")}
XL = {**COMMON, "decoder_layers": 2, "family": "transformer-xl", "kind": "decoder"}
HIERARCHICAL = {"d_model": 12, "initialization": "normal", "family": "hierarchical", "kind": "encoder"}
XLNET = {**COMMON, "encoder_layers": 2, "family": "xlnet", "kind": "encoder"}
# another value than the default of each setting, with the settings without which it means nothing
OTHERS = {
    "d_model": (8, {}),
    "heads": (3, {}),
    "d_ff": (20, {}),
    "encoder_layers": (1, {}),
    "decoder_layers": (1, {}),
    "d_embedding": (6, {}),
    "kv_heads": (1, {}),
    "d_key": (4, {}),
    "d_value": (4, {}),
    "norm": ("rmsnorm", {}),
    "norm_position": ("pre", {}),
    "norm_eps": (0.1, {}),
    "parallel_residual": (True, {"norm_position": "pre"}),
    "reversible": (True, {"norm_position": "pre"}),
    "global_tokens": (2, {}),
    "first_norm": (False, {"norm_position": "pre"}),
    "mlm_head_bias": (False, {"mlm_head": True}),
    "rope_local_theta": (100.0, {"positions": "rotary", "attention": ["full", "window:3"]}),
    "rope_theta": (100.0, {"positions": "rotary"}),
    "rope_share": (0.4, {"positions": "rotary"}),
    "rope_scaling": ({"method": "linear", "factor": 2.0}, {"positions": "rotary"}),
    "norm_bias": (False, {}),
    "qk_norm": (True, {}),
    "embedding_norm": (True, {}),
    "activation": ("gelu", {}),
    "attention": (["window:2"], {}),
    "decoder_attention": (["window:2"], {}),
    "score": ("cosine", {}),
    "head_aggregation": ("mean", {}),
    "positions": ("learned", {}),
    "max_length": (64, {"positions": "learned"}),
    "position_offset": (2, {"positions": "learned"}),
    "relative_bias": (True, {}),
    "relative_buckets": (8, {"positions": "relative"}),
    "relative_distance": (17, {"positions": "relative"}),
    "segments": (3, {}),
    "scale_embeddings": (False, {}),
    "tie": ("none", {}),
    "attention_bias": (True, {}),
    "feed_forward_bias": (False, {}),
    "output_bias": (True, {}),
    "scale_output": (True, {}),
    "mlm_head": (False, {}),
    "pooler": (False, {}),
    "pair_head": (True, {}),
    "memory_length": (3, {}),
    "clamp_length": (2, {}),
    "adaptive_cutoffs": ([10, 20], {}),
    "share_position_biases": (False, {}),
    "dropout": (0.5, {}),
    "attention_dropout": (0.5, {}),
    "activation_dropout": (0.5, {}),
    "output_dropout": (True, {}),
    "initialization": ("bert", {}),
    "init_std": (0.1, {}),
    "source_layers": (1, {}),
    "source_vocab_size": (60, {"source_layers": 1}),
    "rnn_type": ("lstm", {}),
    "word_layers": (2, {}),
    "sentence_layers": (2, {}),
    "d_attention": (6, {}),
    "aggregation": ("max", {}),
    "sentences": ("lines", {}),
}
FAMILIES = {
    "transformer": SIZES, "encoder": PRETRAINED, "transformer-xl": XL, "xlnet": XLNET, "hierarchical": HIERARCHICAL,
}  # fmt: skip
# settings of the other kind of stack, and how far `generate` and tokenizers go
IDLE = {
    "transformer": set(),
    "encoder": {"decoder_layers", "output_bias", "scale_output"},
    "transformer-xl": {"max_length"},
    "xlnet": {"max_length"},
    "hierarchical": {"max_length", "sentences"},
}


def all_of(model, kind):
    """Every weight, and what the model makes of some text while it is trained."""
    ids = torch.arange(60).view(2, 30) % 50
    torch.manual_seed(7)
    if kind == "encoder-decoder":
        out = [model(ids, None, ids)]
    elif hasattr(model, "memory_length"):
        hidden, memory = model.hidden(ids)
        out = [model.logits(hidden), *memory]
    else:
        out = [model(ids)] if kind == "encoder" else [model.hidden(ids)]
    return [*model.state_dict().items()], out


def differ(one, other):
    (weights, out), (others, other_out) = one, other
    pairs = [*zip([w for _, w in weights], [w for _, w in others], strict=False), *zip(out, other_out, strict=False)]
    return [name for name, _ in weights] != [name for name, _ in others] or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in pairs
    )


def settings_of(family):
    return sorted(type(ModelConfig.model_validate(FAMILIES[family])).model_fields.keys() - {"family", "kind"})


@pytest.mark.parametrize(("family", "setting"), [(f, setting) for f in FAMILIES for setting in settings_of(f)])
def test_a_setting_changes_the_model_or_is_refused(setting, family):
    value, needed = OTHERS[setting]
    base = FAMILIES[family]
    if setting in ("mlm_head", "pooler"):
        value = not base.get(setting, False)
    try:
        config = of_family({**base, **needed, setting: value})
    except ValueError as error:
        allowed = "needs? a model of kind encoder|pair_head needs|kind encoder or decoder"
        assert re.search(allowed, str(error)), error
        assert family != "encoder" or setting in {"source_layers", "source_vocab_size", "decoder_attention"}
        return
    plain = of_family({**base, **needed})
    models = []
    for each in (plain, config):
        torch.manual_seed(5)
        models.append(all_of(build_model(each, 50), each.kind))
    assert differ(*models) != (setting in IDLE[family])


@pytest.mark.parametrize("family", ["transformer", "transformer-xl", "xlnet", "hierarchical"])
def test_what_a_family_does_not_read_is_refused_by_name(family):
    own = type(ModelConfig.model_validate(FAMILIES[family])).model_fields
    for setting in OTHERS.keys() - own.keys():
        with pytest.raises(ValueError, match=f"{family} has no setting '{setting}'"):
            ModelConfig.model_validate({**FAMILIES[family], setting: OTHERS[setting][0]})
