"""A pretrained model gets a new source encoder, in the paper's two stages, as a shell runs it (Lewis et al. 2020)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml
from nlpcli.models.model_folder import load_model
from nlpcli.models.source_encoder import first_stage

NUMBERS = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
MODEL = {"model.d_model": 32, "model.heads": 2, "model.d_ff": 64, "model.encoder_layers": 1,
         "model.decoder_layers": 1, "model.max_length": 32, "model.dropout": 0, "model.init_std": 0.1}  # fmt: skip
LOOP = {"training.precision": "float32", "training.warmup_steps": 5, "training.schedule": "constant",
        "training.device": "cpu", "training.lr": 0.004, "tokenizer.type": "words", "data.workers": 1}  # fmt: skip
WEIGHTS = "model.safetensors"


def options(settings):
    return [f"--set={name}={value}" for name, value in settings.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Numbers spelled in German and English, and a BART that knows the English ones."""
    folder = tmp_path_factory.mktemp("source-encoder")
    places = [(a, b) for a in range(10) for b in range(10)]
    for side, words in (("en", WORDS), ("de", NUMBERS)):
        lines = [" ".join(words[digit] for digit in digits) + "\n" for digits in places]
        (folder / f"train.{side}").write_text("".join(lines), encoding="utf-8")
        (folder / f"dev.{side}").write_text("".join(lines[7::13]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLPCLI_CACHE", str(folder / "cache"))
        done = main(
            ["pretrain", "--objective", "denoise", "--preset", "bart-nano", "--noise", "mask:0.3", "--max-steps", "60",
             "--data", str(folder / "train.en"), "--out", str(folder / "bart"), "--batch-tokens", "256",
             "--context", "32", *options(MODEL | LOOP)]
        )  # fmt: skip
    assert done == 0
    return folder


@pytest.fixture
def call(folder, capsys, monkeypatch):
    """A command in the folder, in this process: (status, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def run_it(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_it


def finetune(*arguments, out, steps, model="bart", encoder=("--source-layers", 1, "--tune", "stages"), **settings):
    settings = {"training.bleu_sentences": 2, "data.max_length": 32, "training.evaluate_every": steps} | settings
    return ["finetune", "--task", "translation", "--model", model, *encoder, "--train", "train.de", "train.en",
            "--dev", "dev.de", "dev.en", "--out", out, "--max-steps", steps, "--batch-tokens", 512,
            *options(LOOP | settings), *arguments]  # fmt: skip


@pytest.fixture
def translator(call):
    """A run that knows what it translates, made once."""
    if not Path("ende").exists():
        status, _, err = call(*finetune(out="ende", steps=110, **{"tuning.stage_steps": 40}))
        assert status == 0, err
    return "ende"


def test_it_learns_to_translate_out_of_a_language_the_model_never_saw(call, translator, folder):
    status, out, err = call("translate", "--model", translator, "dev.de")
    assert status == 0, err
    right = [a == b for a, b in zip(out.splitlines(), (folder / "dev.en").read_text().splitlines(), strict=True)]
    assert sum(right) >= 0.7 * len(right), out
    status, out, _ = call("translate", "--model", translator, "--alignments", "--target-prefix", "six", "dev.de")
    assert status == 0 and all(line.startswith("six") and "\t" in line for line in out.splitlines())


def test_what_was_pretrained_is_still_in_the_first_stage_and_learns_in_the_second(call, folder):
    status, _, err = call(*finetune(out="first", steps=3, **{"tuning.stage_steps": 3}))
    assert status == 0, err
    assert (
        "new weights: source_encoder.embedding.tokens.weight" in err
        and "training the new parameters from step 1" in err
    )
    status, _, err = call(*finetune(out="second", steps=4, **{"tuning.stage_steps": 3}))
    assert "training all parameters from step 4" in err, err
    old, first, second = (load_file(folder / run / WEIGHTS) for run in ("bart", "first", "second"))
    learns = set(first_stage(load_model(folder / "first").model))
    still = old.keys() - learns
    assert {name for name in first if name not in old} < learns
    assert all(torch.equal(old[name], first[name]) for name in still)
    assert not any(torch.equal(old[name], first[name]) for name in old.keys() & learns if "key.bias" not in name)
    changed = {name for name in still if not torch.equal(old[name], second[name])}
    assert {"encoder_embedding.tokens.weight", "decoder.layers.0.cross_attention.query.weight"} <= changed


def test_a_run_that_is_resumed_within_the_first_stage_ends_as_one_that_was_not_interrupted(call, folder):
    stages = {"tuning.stage_steps": 3, "training.evaluate_every": 5, "model.dropout": 0.1}
    assert call(*finetune(out="straight", steps=5, **stages))[0] == 0
    assert call(*finetune(out="halting", steps=2, **stages))[0] == 0
    status, _, err = call("finetune", "--resume", "--out", "halting", "--max-steps", 5)
    assert status == 0 and "training all parameters from step 4" in err, err
    assert (folder / "halting" / WEIGHTS).read_bytes() == (folder / "straight" / WEIGHTS).read_bytes()
    status, _, err = call("finetune", "--resume", "--out", "halting", "--source-layers", 2)
    assert status == 2 and "tuning.source_layers of a resumed run can't be changed from 1" in err


def test_both_tokenizers_travel_with_the_model(call, translator, folder):
    loaded = load_model(folder / translator)
    pretrained = load_model(folder / "bart")
    assert loaded.tokenizer.fingerprint == pretrained.tokenizer.fingerprint
    assert pretrained.source_tokenizer is None
    german, english = ({t.id_to_piece(id_) for id_ in range(t.vocab_size)}
                       for t in (loaded.source_tokenizer, loaded.tokenizer))  # fmt: skip
    assert set(NUMBERS) < german and not german & set(WORDS) and set(WORDS) < english
    assert load_yaml(folder / translator / "config.yaml")["model"]["source_vocab_size"] == len(german)
    status, _, err = call("convert", "--to", "nlpcli", translator, "copy")
    assert status == 0, err
    outputs = [call("translate", "--model", model, "dev.de")[1] for model in (translator, "copy")]
    assert outputs[0] == outputs[1]


def test_what_knows_one_tokenizer_refuses_it_by_name(call, translator):
    for arguments, message in (
        (("convert", "--to", "huggingface", translator, "hf"), "does not support model.source_layers 1"),
        (("embed", "--model", translator, "dev.de"), "use it with: nlpcli translate"),
        (("finetune", "--task", "text-to-text", "--model", translator, "--train", "dev.de"), "source_layers"),
        (("pretrain", "--data", "dev.de", "--set=model.source_layers=1", "--preset", "bart-nano"), "source_layers"),
    ):
        status, _, err = call(*arguments)
        assert status == 2 and message in err, err


def test_it_goes_on_with_its_own_encoder_or_gets_another_new_one(call, translator, folder):
    status, _, err = call(*finetune(out="on", steps=1, model=translator, encoder=()))
    assert status == 0 and "new:" not in err, err
    before, after = load_model(folder / translator), load_model(folder / "on")
    assert after.source_tokenizer.fingerprint == before.source_tokenizer.fingerprint
    given = ("--source-tokenizer", "bart/tokenizer")
    status, _, err = call(*finetune(*given, out="not", steps=1, model=translator, encoder=()))
    assert status == 2 and "is not the tokenizer of the source encoder of ende" in err
    status, _, err = call(*finetune(*given, out="anew", steps=1, model=translator, encoder=("--source-layers", 2)))
    assert status == 0 and "new weights: source_encoder.embedding" in err, err
    anew = load_model(folder / "anew")
    assert anew.source_tokenizer.fingerprint == anew.tokenizer.fingerprint and anew.config.source_layers == 2


def test_a_model_with_random_weights_may_read_sources_in_a_vocabulary_of_their_own_too(call, folder):
    arguments = finetune(out="scratch", steps=1, model="bart-nano", encoder=("--source-layers", 1), **MODEL)
    status, _, err = call(*arguments)
    assert status == 0, err
    loaded = load_model(folder / "scratch")
    assert loaded.tokenizer.piece_to_id("eins") == loaded.tokenizer.special.unk
    assert loaded.source_tokenizer.piece_to_id("one") == loaded.source_tokenizer.special.unk


def test_what_makes_no_sense_is_refused_before_anything_is_written(call, folder):
    for encoder, message in (
        (("--tune", "stages"), "add one with tuning.source_layers"),
        (("--source-tokenizer", "bart/tokenizer"), "add a source encoder with --source-layers"),
        (("--source-layers", 1, "--tune", "stages", "--fresh"), "tuning.mode needs a trained model"),
        (("--source-layers", 1, "--lora", 2), "a new source encoder (source_layers) must be trained too"),
    ):
        status, _, err = call(*finetune(out="refused", steps=1, encoder=encoder))
        assert status == 2 and message in err, err
    assert not (folder / "refused").exists()
