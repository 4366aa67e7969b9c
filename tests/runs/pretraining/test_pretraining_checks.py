"""What can't be learnt is refused before a text is read or a tokenizer trained, with the way out."""

from __future__ import annotations

import pytest

from nlpcli.commands.config import resolve
from nlpcli.errors import NlpcliError
from nlpcli.runs.pretraining import default_preset, parse
from nlpcli.runs.pretraining import pretrain as recipe
from nlpcli.runs.pretraining.denoising import noise_of
from nlpcli.runs.training_request import Request


def configured(objective, preset, *overrides, **more):
    settings = {"objective": objective, "data": {"train": ["there/is/no/such.txt"]}}
    request = Request(default="gpt-mini", preset=preset, settings=settings, overrides=overrides, **more)
    return recipe.configured(request)


@pytest.mark.parametrize(
    ("objective", "preset", "overrides", "message", "hint"),
    [
        ("plm", "bert-nano", (), "plm needs an xlnet encoder, but this model is a transformer encoder", "xlnet-nano"),
        ("mlm", "xlnet-nano", (), "mlm needs a transformer encoder, but this model is an xlnet encoder", "roberta-na"),
        ("mlm+nsp", "gpt-mini", (), "needs an encoder, but this model is a decoder", "bert-nano"),
        ("clm", "xlnet-nano", (), "clm needs a decoder, but this model is an xlnet encoder", "gpt-mini"),
        ("clm", "bart-nano", (), "clm needs a decoder, but this model is an encoder-decoder", "gpt-mini"),
        ("denoise", "bert-nano", ("noise.kinds=spans",), "denoise needs an encoder-decoder", "t5-nano"),
        ("mlm+nsp+sop", "bert-nano", (), "nsp and sop can't be used together", "choose one"),
        ("nsp", "bert-nano", ("data.format=full-sentences",), "nsp needs pairs of segments", "segment-pair"),
        ("sop", "roberta-nano", ("data.format=doc-sentences",), "sop needs pairs of segments", "segment-pair"),
        ("mlm", "bert-nano", ("data.context=4",), "context 4 is too short for mlm: two segments", "at least 5"),
        (
            "mlm",
            "roberta-nano",
            ("data.context=2",),
            "context 2 is too short for mlm: a text with two special tokens",
            "at least 3",
        ),
        ("plm", "xlnet-nano", ("data.context=5",), "context 5 is too short for plm: 1 of 6 tokens", "at least 6"),
        (
            "denoise",
            "bart-nano",
            ("data.context=2",),
            "is too short: it has room for only 1 token of text",
            "at least 4",
        ),
        (
            "denoise",
            "t5-nano",
            ("data.context=3",),
            "is too short: it has room for only 1 token of text",
            "at least 4",
        ),
        ("clm", "transformer-xl-nano", ("data.document_mask=true",), "can't be used with transformer-xl", "leave"),
        (
            "clm",
            "transformer-xl-nano",
            ("data.document_mask=true", "model.memory_length=0"),
            "can't be used with transformer-xl",
            "leave",
        ),
        (
            "clm",
            "transformer-xl-nano",
            ("data.eval_stride=32",),
            "memory, which reads each token once",
            "leave out data.eval",
        ),
        (
            "clm",
            "gpt-mini",
            ("data.document_mask=true", "data.documents=file"),
            "needs several documents",
            "--documents lines",
        ),
        (
            "clm",
            "gpt-mini",
            ("data.eval_stride=129",),
            "eval_stride 129 is greater than data.context 128",
            "at most 128",
        ),
        ("clm", "gpt-mini", ("model.memory_length=16",), "transformer has no setting 'memory_length'", None),
        (
            "clm",
            "transformer-xl-nano",
            ("model.adaptive_cutoffs=[100]", "training.label_smoothing=0.1"),
            "adaptive softmax does not support label smoothing",
            "label_smoothing=0",
        ),
        (
            "denoise",
            "bart-nano",
            ("noise.kinds=spans",),
            "noise 'spans' needs 8 sentinel tokens",
            "tokenizer.sentinels=100",
        ),
        ("denoise", "t5-nano", ("tokenizer.sentinels=3",), "the tokenizer has 3", "tokenizer.sentinels=100"),
        ("denoise+gap-sentences", "bart-nano", (), "denoise and gap-sentences can't be used together", None),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_anything_is_read(objective, preset, overrides, message, hint):
    with pytest.raises(NlpcliError) as caught:
        configured(objective, preset, *overrides)
    assert message in str(caught.value)
    assert hint is None or hint in caught.value.hint


@pytest.mark.parametrize(
    ("objective", "preset", "overrides"),
    [
        ("mlm", "bert-nano", ("data.context=5",)),
        ("mlm", "roberta-nano", ("data.context=3",)),
        ("plm", "xlnet-nano", ("data.context=6",)),
        ("denoise", "bart-nano", ("data.context=3",)),
        ("denoise", "t5-nano", ("data.context=4",)),
        ("clm", "transformer-xl-nano", ("data.eval_stride=64",)),
        ("clm", "transformer-xl-nano", ("data.eval_stride=32", "model.memory_length=0")),
    ],
)
def test_what_is_just_enough_is_taken(objective, preset, overrides):
    configured(objective, preset, *overrides)


def test_a_tokenizer_that_is_given_is_asked_for_its_own_sentinels(tmp_path):
    configured("denoise", "bart-nano", "noise.kinds=spans", tokenizer=tmp_path)


def test_a_weight_without_another_to_compare_it_with_is_refused():
    for objective in ("clm=0.5", "mlm=2", "gap-sentences=0.1"):
        with pytest.raises(NlpcliError, match="a weight has no effect on a single objective"):
            parse(objective)
    assert parse("mlm=1") == {"mlm": 1.0}


def test_gap_sentences_under_denoise_are_those_of_the_settings():
    settings = ("noise.gap_ratio=0.5", "noise.gap_strategy=lead", "noise.gap_counts=unique", "noise.rate=0.2")
    config = resolve("pegasus-nano", [*settings, "noise.kinds=gap-sentences"])
    noise = noise_of(config, {"denoise": 1.0})
    assert noise == noise_of(config, {"gap-sentences": 1.0})
    assert (noise.ratio, noise.choice, noise.counts, noise.mlm_rate) == (0.5, "lead", "unique", 0.2)
    config = resolve("pegasus-nano", [*settings, "noise.kinds='gap-sentences:0.1'"])
    assert noise_of(config, {"denoise": 1.0}).ratio == 0.1


@pytest.mark.parametrize(
    ("noise", "overrides", "preset"),
    [
        (None, (), "bart-nano"),
        ("spans", (), "t5-nano"),
        (None, ("noise.kinds=spans:0.2",), "t5-nano"),
        (None, ("training.lr=1", "noise.kinds='iid'"), "t5-nano"),
        ("spans", ("noise.kinds=infill",), "bart-nano"),
        ("gap-sentences:0.2", (), "pegasus-nano"),
    ],
)
def test_the_default_preset_fits_the_noise_wherever_it_is_named(noise, overrides, preset):
    assert default_preset("denoise", noise, overrides) == preset
