"""Every preset that CTranslate2 can express gives the same log-probabilities there; the others are refused by name."""

from __future__ import annotations

import sys

import pytest
import torch
from model_settings import of_family

from nlpcli import presets
from nlpcli.convert.ctranslate2_limits import misfits, vocabulary
from nlpcli.convert.ctranslate2_out import write_ctranslate2
from nlpcli.decoding.autoregressive import ContextShift
from nlpcli.decoding.constraints import Constraints, never_written
from nlpcli.decoding.ctranslate2_generator import CTranslate2Generator
from nlpcli.decoding.greedy import greedy_search
from nlpcli.decoding.stop_conditions import StopConditions
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.text import train_tokenizer

ctranslate2 = pytest.importorskip("ctranslate2", reason="needs the extra 'fast'")

SMALL = {"d_model": 16, "heads": 2, "d_ff": 24, "encoder_layers": 2, "decoder_layers": 2, "max_length": 80}
TINY = {**SMALL, "kind": "encoder-decoder", "tie": "all"}
RMS = {"norm": "rmsnorm", "norm_position": "pre", "norm_bias": False, "positions": "rotary", "scale_embeddings": False}
VARIANTS = {
    "untied": {"tie": "none"},
    "source-target": {"tie": "source-target", "output_bias": True},
    "no biases": {"norm_bias": False, "feed_forward_bias": False},
    "without positions": {"positions": "none"},
    "rotary": {**RMS, "activation": "swiglu"},
    "part rotary": {**RMS, "rope_share": 0.5, "rope_theta": 50.0, "rope_scaling": {"method": "linear", "factor": 3.0}},
    "wide keys": {"d_key": 12, "d_value": 12, "activation": "geglu"},
    "one head of keys": {"kv_heads": 1},
    "two heads of keys": {"heads": 4, "kv_heads": 2},
    "relative": {"positions": "relative", "relative_buckets": 16, "relative_distance": 40},
    "decoder": {"kind": "decoder"},
    "relative decoder": {"kind": "decoder", "positions": "relative"},
    "alibi decoder": {"kind": "decoder", "positions": "alibi"},
    "alibi decoder of three heads": {"kind": "decoder", "positions": "alibi", "d_model": 24, "heads": 3},
    "modern decoder": {"kind": "decoder", **RMS, "activation": "swiglu", "heads": 4, "kv_heads": 2, "qk_norm": True},
    "parallel decoder": {
        "kind": "decoder", "parallel_residual": True, "norm_position": "pre", "positions": "rotary", "rope_share": 0.5,
    },
}  # fmt: skip
REFUSED = {
    "model.attention ['window:4']": {"attention": ["window:4"]},
    "model.decoder_attention ['linear']": {"decoder_attention": ["linear"]},
    "model.positions 'alibi'": {"positions": "alibi"},
    "model.qk_norm true": {"qk_norm": True},
    "model.score 'additive'": {"score": "additive"},
    "model.head_aggregation 'mean'": {"head_aggregation": "mean", "d_value": 16},
    "model.d_value 12": {"d_value": 12},
    "model.rope_scaling 'dynamic'": {**RMS, "rope_scaling": {"method": "dynamic", "factor": 2.0}},
    "model.segments 2": {"segments": 2},
    "model.global_tokens 2": {"global_tokens": 2},
    "model.source_layers 1": {"source_layers": 1},
    "model.relative_bias true": {"relative_bias": True},
    "model.kind 'encoder'": {"kind": "encoder"},
    "model.norm 'rmsnorm'": {**RMS, "kind": "decoder", "parallel_residual": True},
}


def small(name: str):
    """The settings of a preset, with other sizes."""
    settings = presets.load(name)["model"] | SMALL
    if settings.get("d_key"):
        settings |= {"d_key": 12, "d_value": 12}
    return of_family(settings)


GENERATING = [name for name in presets.names() if presets.load(name)["model"]["kind"] in ("encoder-decoder", "decoder")]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", ["the quick brown fox jumps over a lazy dog"] * 3, vocab_size=300)


def of(config, tokenizer):
    """A model all of whose weights matter: none is zero or one."""
    torch.manual_seed(1)
    model = build_model(config, tokenizer.vocab_size).eval()
    for weight in model.parameters():
        weight.data += torch.randn_like(weight) * 0.15
    return model


@torch.inference_mode()
def check(config, tokenizer, folder) -> None:
    model = of(config, tokenizer)
    write_ctranslate2(folder, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={"task": "any"})
    numbers = torch.Generator().manual_seed(2)
    rows = [torch.randint(7, tokenizer.vocab_size, (length,), generator=numbers).tolist() for length in (70, 3, 33)]
    spelled = [[tokenizer.id_to_piece(id_) for id_ in row] for row in rows]
    options = {"device": "cpu", "inter_threads": 1, "intra_threads": 1, "compute_type": "float32"}
    if config.kind == "decoder":
        found = [one.log_probs for one in ctranslate2.Generator(str(folder), **options).score_batch(spelled)]
        pairs = [(model(torch.tensor([row[:-1]])), row[1:]) for row in rows]
    else:
        translator = ctranslate2.Translator(str(folder), **options)
        found = [one.log_probs for one in translator.score_batch(spelled, spelled[::-1])]
        bos, eos = tokenizer.special.bos, tokenizer.special.eos
        pairs = [
            (model(torch.tensor([[*row, eos]]), None, torch.tensor([[bos, *target]])), [*target, eos])
            for row, target in zip(rows, rows[::-1], strict=True)
        ]
    for logprobs, (logits, targets) in zip(found, pairs, strict=True):
        expected = logits.log_softmax(-1)[0].gather(1, torch.tensor(targets)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(logprobs), expected, atol=1e-4)


@pytest.mark.parametrize("name", GENERATING)
def test_presets_give_the_same_log_probabilities_or_are_refused(name, tokenizer, tmp_path):
    config = small(name)
    wrong = misfits(config)
    if not wrong:
        check(config, tokenizer, tmp_path)
        return
    with pytest.raises(NlpcliError) as refused:
        write_ctranslate2(tmp_path, config=config, weights={}, tokenizer=tokenizer, info={"task": "any"})
    assert all(setting in refused.value.message for setting in wrong)


@pytest.mark.parametrize("name", [n for n in GENERATING if small(n).kind == "decoder" and not misfits(small(n))])
def test_language_models_write_the_same_texts_with_the_same_log_probabilities(name, tokenizer, tmp_path):
    config = small(name)
    model = of(config, tokenizer)
    write_ctranslate2(tmp_path, config=config, weights=model.state_dict(), tokenizer=tokenizer, info={"task": "any"})
    library = ctranslate2.Generator(str(tmp_path), compute_type="float32", intra_threads=1)
    generator = CTranslate2Generator(library, vocabulary(tokenizer), window=40, scores=True)
    numbers = torch.Generator().manual_seed(2)
    prefixes = [torch.randint(7, tokenizer.vocab_size, (n,), generator=numbers).tolist() for n in (40, 1, 17, 19)]
    conditions = StopConditions(tokenizer.special.eos, 50)
    constraints = Constraints(suppress=never_written(tokenizer.special))
    expected = greedy_search(
        model, model.init_state(4), prefixes, conditions,
        constraints=constraints, context_shift=ContextShift(model.init_state, 40),
    )  # fmt: skip
    found = generator.greedy_search(prefixes, conditions, constraints=constraints)
    assert [one.ids for one in found] == [one.ids for [one] in expected]
    assert [one.logprob for one in found] == pytest.approx([one.logprob for [one] in expected], abs=1e-4)


def test_all_presets_of_the_usual_translators_and_summarizers_can_be_expressed():
    usual = [n for n in GENERATING if n.startswith(("transformer-base", "transformer-big", "transformer-tiny",
             "transformer-mini", "bart-", "t5-", "pegasus-", "marian-", "gpt2", "gpt-"))]  # fmt: skip
    assert len(usual) > 30
    assert not {name: wrong for name in usual if (wrong := misfits(small(name)))}


@pytest.mark.parametrize("name", VARIANTS)
def test_each_setting_that_is_taken_gives_the_same_log_probabilities(name, tokenizer, tmp_path):
    check(of_family({**TINY, **VARIANTS[name]}), tokenizer, tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_that_is_not_there_is_named(name, tokenizer, tmp_path):
    config = of_family({**TINY, **REFUSED[name]})
    with pytest.raises(NlpcliError, match="CTranslate2 does not support") as refused:
        write_ctranslate2(tmp_path, config=config, weights={}, tokenizer=tokenizer, info={"task": "any"})
    assert name in refused.value.message
    assert not list(tmp_path.iterdir())


def test_a_model_with_a_head_for_a_task_is_refused(tokenizer, tmp_path):
    info = {"task": "classify", "head": {"kind": "classes"}}
    with pytest.raises(NlpcliError, match="CTranslate2 does not support the head of the task 'classify'"):
        write_ctranslate2(tmp_path, config=of_family(TINY), weights={}, tokenizer=tokenizer, info=info)


def test_without_the_library_the_extra_is_named(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    with pytest.raises(NlpcliError, match="a folder for CTranslate2 needs ctranslate2") as refused:
        write_ctranslate2(tmp_path, config=of_family(TINY), weights={}, tokenizer=tokenizer, info={"task": "any"})
    assert "nlpcli[fast]" in refused.value.hint
