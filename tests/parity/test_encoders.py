"""Encoders of BERT's kin against `transformers`: states and heads, counts, and folders both ways."""

from __future__ import annotations

import json

import pytest
import torch

from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.family_table import FAMILIES
from nlpcli.convert.huggingface_in import read_huggingface
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.models.build import build_on_meta, count_parameters

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH = 50, 20
DISTILBERT = {"vocab_size": VOCABULARY, "dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40,
              "max_position_embeddings": LENGTH, "dropout": 0.0, "attention_dropout": 0.0}  # fmt: skip
ELECTRA = {"vocab_size": VOCABULARY, "hidden_size": 24, "embedding_size": 12, "num_hidden_layers": 3,
           "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": LENGTH,
           "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
XLM_R = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 40, "max_position_embeddings": LENGTH + 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
         "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
MODERNBERT = {"vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4,
              "intermediate_size": 40, "max_position_embeddings": LENGTH, "local_attention": 6, "pad_token_id": 0,
              "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}  # fmt: skip
MPNET = {key: value for key, value in XLM_R.items() if key != "type_vocab_size"}
CONFIGS = {  # name -> (their family, their config, the classes that are read and written)
    "distilbert": ("DistilBert", DISTILBERT, ("ForMaskedLM", "Model")),
    "xlm-roberta": ("XLMRoberta", XLM_R, ("ForMaskedLM", "Model")),
    "modernbert": ("ModernBert", MODERNBERT, ("ForMaskedLM", "Model")),
    "modernbert-biases": (
        "ModernBert",
        {
            **MODERNBERT,
            "attention_bias": True,
            "mlp_bias": True,
            "norm_bias": True,
            "classifier_bias": True,
            "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
            "hidden_activation": "silu",
            "classifier_activation": "silu",
            "tie_word_embeddings": False,
        },
        ("ForMaskedLM",),
    ),
    "mpnet": ("MPNet", MPNET, ("ForMaskedLM", "Model")),
    "electra": ("Electra", ELECTRA, ("ForMaskedLM", "Model")),
    "electra-wide": ("Electra", {**ELECTRA, "embedding_size": 24, "type_vocab_size": 3}, ("ForMaskedLM",)),
    "electra-relu": ("Electra", {**ELECTRA, "embedding_size": 36, "hidden_act": "relu"}, ("Model",)),
    "distilbert-relu": ("DistilBert", {**DISTILBERT, "activation": "relu"}, ("ForMaskedLM",)),
}
CASES = [(name, suffix) for name, (*_, suffixes) in CONFIGS.items() for suffix in suffixes]


@pytest.fixture(scope="module", params=CASES, ids="".join)
def theirs(request, scattered):
    name, suffix = request.param
    family, settings, _ = CONFIGS[name]
    config = getattr(transformers, f"{family}Config")(**settings)
    return scattered(getattr(transformers, family + suffix)(config), 6)


@pytest.fixture(scope="module")
def ours(theirs, read):
    return read(theirs)


def batch(pad, segments):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, VOCABULARY, (5, LENGTH), generator=generator)
    mask = torch.arange(LENGTH) < torch.tensor([20, 13, 7, 2, 1])[:, None]
    kinds = torch.randint(0, segments, (5, LENGTH), generator=generator) if segments > 1 else None
    return ids.masked_fill(~mask, pad), mask, kinds


def outputs(theirs, ours, *, masked):
    """Theirs and ours of a padded batch or of one without padding: the last states, and what the head makes of them."""
    ids, mask, kinds = batch(theirs.config.pad_token_id, ours.config.get("segments", 2))
    if not masked:
        ids, mask, kinds = ids[:1], torch.ones(1, LENGTH, dtype=torch.bool), None if kinds is None else kinds[:1]
    given = {} if kinds is None else {"token_type_ids": kinds}
    found = theirs(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, **given)
    states = ours.model(ids, mask if masked else None, kinds)
    yield found.hidden_states[-1][mask], states[mask]
    if ours.config.get("mlm_head"):
        yield found.logits[mask], ours.model.logits(ours.model.mlm_hidden(states))[mask]
    if getattr(found, "pooler_output", None) is not None:
        yield found.pooler_output, ours.model.pooled(states)


@pytest.mark.parametrize("masked", [True, False])
@torch.inference_mode()
def test_states_and_logits_are_theirs(theirs, ours, masked):
    for expected, found in outputs(theirs, ours, masked=masked):
        assert float(expected.std()) > 0.3
        assert torch.allclose(found, expected, atol=1e-4)
    assert count_parameters(ours.model) == sum(p.numel() for p in theirs.parameters())
    assert ours.left_out == []


_OF_NO_MATTER = {
    "architectures", "dtype", "nlpcli", "transformers_version", "_name_or_path", "use_cache", "bos_token_id",
    "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id",
}  # fmt: skip


@torch.inference_mode()
def test_a_folder_goes_out_as_what_it_was_and_comes_back_to_the_bit(theirs, ours, tmp_path):
    weights = {name: tensor.float() for name, tensor in ours.weights.items()}
    name = write_huggingface(tmp_path, config=ours.config, weights=weights, tokenizer=ours.tokenizer, info=ours.info)
    assert name == type(theirs).__name__
    again = read_huggingface(tmp_path)
    assert again.config == ours.config and again.weights.keys() == weights.keys()
    described = json.loads((tmp_path / "config.json").read_text())
    pad = theirs.config.pad_token_id
    (tmp_path / "config.json").write_text(json.dumps(described | {"pad_token_id": pad}))
    assert all(torch.equal(again.weights[key], weights[key]) for key in weights)
    written, original = transformers.AutoConfig.from_pretrained(tmp_path).to_dict(), theirs.config.to_dict()
    matter = original.keys() - _OF_NO_MATTER
    assert {key: written.get(key) for key in matter} == {key: original[key] for key in matter}
    reloaded, report = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    for (expected, _), (found, _) in zip(
        outputs(theirs, ours, masked=True), outputs(reloaded.double(), ours, masked=True), strict=True
    ):
        assert torch.allclose(found, expected, atol=1e-4)


ELECTRA_SHAPE = {
    "model_type": "electra", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "num_hidden_layers": 12,
    "type_vocab_size": 2, "vocab_size": 30522,
}  # fmt: skip
PUBLISHED = {  # what matters of config.json as published, and the number of parameters with the vocabulary's head
    "xlm-roberta-base": (
        {"model_type": "xlm-roberta", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
         "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
         "layer_norm_eps": 1e-05, "max_position_embeddings": 514, "num_attention_heads": 12, "num_hidden_layers": 12,
         "type_vocab_size": 1, "vocab_size": 250002},
        "lm_head.dense.weight",
        278_295_186,
    ),
    "ModernBERT-base": (
        {"model_type": "modernbert", "attention_bias": False, "attention_dropout": 0.0, "classifier_activation": "gelu",
         "classifier_bias": False, "decoder_bias": True, "embedding_dropout": 0.0, "global_attn_every_n_layers": 3,
         "global_rope_theta": 160000.0, "hidden_activation": "gelu", "hidden_size": 768, "initializer_range": 0.02,
         "intermediate_size": 1152, "local_attention": 128, "local_rope_theta": 10000.0,
         "max_position_embeddings": 8192, "mlp_bias": False, "mlp_dropout": 0.0, "norm_bias": False, "norm_eps": 1e-05,
         "num_attention_heads": 12, "num_hidden_layers": 22, "vocab_size": 50368},
        "decoder.bias",
        149_655_232,
    ),
    "mpnet-base": (
        {"model_type": "mpnet", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
         "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
         "max_position_embeddings": 514, "num_attention_heads": 12, "num_hidden_layers": 12,
         "relative_attention_num_buckets": 32, "vocab_size": 30527},
        "lm_head.dense.weight",
        109_518_527,
    ),
    "electra-small-generator": (
        {**ELECTRA_SHAPE, "embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024,
         "num_attention_heads": 4},
        "generator_predictions.dense.weight",
        13_546_682,
    ),
    "electra-base-discriminator": (
        {**ELECTRA_SHAPE, "embedding_size": 768, "hidden_size": 768, "intermediate_size": 3072,
         "num_attention_heads": 12},
        "",
        108_891_648,
    ),
    "distilbert-base-uncased": (
        {"model_type": "distilbert", "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1,
         "hidden_dim": 3072, "initializer_range": 0.02, "max_position_embeddings": 512, "n_heads": 12, "n_layers": 6,
         "vocab_size": 30522},
        "vocab_transform.weight",
        66_985_530,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_shape_has_the_published_number_of_parameters_and_goes_out_as_it_was(name):
    described, head, count = PUBLISHED[name]
    family = FAMILIES.load(described["model_type"])
    ours = family.config_in(described, {head: torch.empty(0)}, name)
    assert count_parameters(build_on_meta(ModelConfig.model_validate(ours), described["vocab_size"])) == count
    written = family.config_out(ours)
    assert {key: written[key] for key in described.keys() - {"vocab_size"}} == {
        key: value for key, value in described.items() if key != "vocab_size"
    }


def test_an_electra_discriminator_is_read_as_the_encoder_it_is_and_its_head_is_named(scattered, read):
    theirs = scattered(transformers.ElectraForPreTraining(transformers.ElectraConfig(**ELECTRA)), 6)
    ours = read(theirs)
    assert {name.partition(".")[0] for name in ours.left_out} == {"discriminator_predictions"}
    ids, mask, kinds = batch(0, 2)
    with torch.inference_mode():
        found = theirs.electra(input_ids=ids, attention_mask=mask.long(), token_type_ids=kinds).last_hidden_state
        assert torch.allclose(ours.model(ids, mask, kinds)[mask], found[mask], atol=1e-4)
