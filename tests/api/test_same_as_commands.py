"""Each function gives the very numbers of its command, and prints nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

import nlpcli
from nlpcli.cli.main import main
from nlpcli.config.loading import load_yaml
from nlpcli.evaluation import METRICS

MODEL = {
    "model.d_model": 16, "model.heads": 2, "model.d_ff": 16, "model.encoder_layers": 1, "model.decoder_layers": 1,
    "tokenizer.type": "chars",
}  # fmt: skip
SMALL = {
    **MODEL, "training.precision": "float32", "training.warmup_steps": 2, "training.batch_tokens": 512,
    "training.average_last": 0, "training.bleu_sentences": 4, "training.log_every": 1, "data.context": 32,
    "data.workers": 1,
}  # fmt: skip
NUMBERS = ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXTS = ["one two three", "", "nine", "zero zero seven"]


def write(path: str, lines) -> None:
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data for each task, which is the current one."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("api"))
    places = [(a, b, c) for a in range(10) for b in range(10) for c in range(10)]
    english, german = ([" ".join(words[i] for i in digits) for digits in places] for words in (WORDS, NUMBERS))
    for side, lines in (("en", english), ("de", german)):
        write(f"train.{side}", lines[::9])
        write(f"dev.{side}", lines[1::80])
    labelled = [f"{text}\t{'even' if number % 2 == 0 else 'odd'}" for number, text in enumerate(english)]
    write("train.tsv", labelled[::9])
    write("dev.tsv", labelled[1::51])
    write("texts", TEXTS)
    yield
    os.chdir(before)


def command(*arguments: object) -> str:
    """What a command writes to stdout."""
    out = io.StringIO()
    out.fileno = lambda: 1
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as stderr:
        status = main([str(argument) for argument in arguments])
    assert status == 0, stderr.getvalue()
    return out.getvalue()


def json_lines(*arguments: object) -> list[dict]:
    return [json.loads(line) for line in command(*arguments).splitlines()]


def options(settings: dict) -> list[str]:
    return [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]


TRAININGS = {
    "translation": (
        nlpcli.finetune,
        {"task": "translation", "train": ["train.en", "train.de"], "dev": ["dev.en", "dev.de"]},
    ),
    "classify": (nlpcli.finetune, {"task": "classify", "train": ["train.tsv"], "dev": ["dev.tsv"], "batch_size": 8}),
    "clm": (nlpcli.pretrain, {"objective": "clm", "data": ["train.en"], "dev": ["dev.en"], "documents": "lines"}),
}


@pytest.fixture(scope="module", params=TRAININGS)
def trained(request, folder):
    """The same training by the command and by the function: the name, the two runs, what each reported."""
    function, arguments = TRAININGS[request.param]
    call = [function.__name__, "--json", "--max-steps", 2, "--lr", 0.01, "--out", f"{request.param}-command"]
    for name, value in arguments.items():
        values = value if isinstance(value, list) else [value]
        call += [word for one in values for word in (f"--{name.replace('_', '-')}", one)]
    record = json.loads(command(*call, *options(SMALL)))
    events = []
    run = function(
        **arguments, max_steps=2, lr=0.01, out=f"{request.param}-function", settings=SMALL, progress=events.append
    )
    return request.param, record, run, events


def test_a_training_ends_with_the_same_weights_and_metrics(trained):
    name, record, run, _ = trained
    summary = {name: record[name] for name in ("steps", "tokens", "best_checkpoint", "stopped")}
    summary |= {"metrics": {score["metric"]: score["value"] for score in record["scores"]}}
    summary |= {"best": {score["metric"]: score["value"] for score in record["best"]}}
    assert dataclasses.asdict(run) == summary | {"path": run.path, "seconds": run.seconds}
    weights = [Path(f"{name}-{who}/model.safetensors").read_bytes() for who in ("command", "function")]
    assert weights[0] == weights[1]
    configs = [load_yaml(Path(f"{name}-{who}/config.yaml")) for who in ("command", "function")]
    assert configs[0] == configs[1]


def test_progress_is_reported_after_steps_and_evaluations(trained):
    _, _, run, events = trained
    steps = [event for event in events if event.metrics is None]
    evaluations = [event for event in events if event.metrics is not None]
    assert [event.step for event in steps] == [1, 2]
    assert all(event.loss > 0 and event.lr >= 0 and event.speed > 0 for event in steps)
    assert [event.share for event in steps] == [0.5, 1.0]
    assert evaluations[-1].improved and set(evaluations[-1].metrics) == set(run.metrics)


def test_the_card_of_a_run_names_the_call_as_python_has_it(trained):
    name, _, run, _ = trained
    (line,) = (one for one in (run.path / "README.md").read_text().splitlines() if one.startswith("- command: "))
    call = line.removeprefix("- command: `").removesuffix("`")
    assert call.startswith(("nlpcli.finetune(", "nlpcli.pretrain("))
    recorded = eval(call, {"nlpcli": type("Calls", (), {k: staticmethod(dict) for k in ("finetune", "pretrain")})})
    assert recorded == TRAININGS[name][1] | {"max_steps": 2, "lr": 0.01, "out": f"{name}-function", "settings": SMALL}


@pytest.fixture(scope="module")
def models(folder):
    """A run for each kind of use, by name."""
    made = {}
    for name, (function, arguments) in TRAININGS.items():
        if not Path(f"{name}-function/README.md").exists():
            function(**arguments, max_steps=2, lr=0.01, out=f"{name}-function", settings=SMALL, overwrite=True)
        made[name] = f"{name}-function"
    return made


@pytest.mark.parametrize("more", [{}, {"n_best": 2, "beam_size": 3}, {"sample": True, "top_k": 5, "seed": 4}])
def test_translate_gives_what_the_command_gives(models, more):
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in more.items()]
    rows = json_lines("translate", "--model", models["translation"], "--json", "--max-length", 8, *flags, "texts")
    found = nlpcli.translate(TEXTS, model=models["translation"], max_length=8, **more)
    assert [(row["text"], row["translation"], row["translation_score"]) for row in rows] == [
        (one.source, one.text, round(one.score, 6)) for one in found
    ]
    assert [len(one.others) for one in found] == [more.get("n_best", 1) - 1 if text else 0 for text in TEXTS]
    for row, one in zip(rows, found, strict=True):
        ranked = [entry["translation"] for entry in row.get("translation_nbest", [])]
        assert ranked in ([], [one.text, *(other.text for other in one.others)])


def test_translate_gives_the_alignments_of_the_command(models):
    lines = command("translate", "--model", models["translation"], "--alignments", "--max-length", 8, "texts")
    found = nlpcli.translate(TEXTS, model=models["translation"], alignments=True, max_length=8)
    written = [f"{one.text}\t" + " ".join(f"{i}-{j}" for i, j in one.alignment) for one in found]
    assert lines.splitlines() == written


@pytest.mark.parametrize("more", [{"greedy": True}, {"num_samples": 2, "temperature": 0.8, "seed": 3}, {"stop": ["e"]}])
def test_generate_gives_what_the_command_gives(models, more):
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value[0] if name == 'stop' else value}")
             for name, value in more.items()]  # fmt: skip
    prompts = [word for text in ("one", "two") for word in ("--prompt", text)]
    rows = json_lines("generate", "--model", models["clm"], *prompts, "--json", "--max-new-tokens", 5, *flags)
    found = nlpcli.generate(["one", "two"], model=models["clm"], max_new_tokens=5, **more)
    keys = ("continuation", "tokens", "logprob", "finished", "prompt_number", "sample")
    assert [tuple(row[key] for key in ("text", *keys)) for row in rows] == [
        (one.prompt, one.text, one.tokens, round(one.logprob, 6), one.finished, one.prompt_number, one.sample)
        for one in found
    ]


def test_predict_gives_what_the_command_gives(models):
    rows = json_lines("predict", "--model", models["classify"], "--json", "texts")
    found = nlpcli.predict(TEXTS, model=models["classify"])
    assert [dict(one.details) for one in found] == rows
    assert [one.answer for one in found] == [row["label"] for row in rows]
    assert found[0].label == rows[0]["label"] and found[0].probability == rows[0]["probability"]


def test_evaluate_gives_what_the_command_gives(models):
    record = json.loads(
        command("evaluate", "--model", models["classify"], "dev.tsv", "--json", "--confusion", "--worst", 3)
    )
    found = nlpcli.evaluate("dev.tsv", model=models["classify"], confusion=True, worst=3)
    scores = [score.as_dict(name) for name, score in found.scores.items()]
    assert json.loads(json.dumps(scores)) == record["scores"]
    assert found.examples == record["examples"]
    assert found.confusion == nlpcli.Confusion(
        tuple(record["confusion"]["labels"]), tuple(map(tuple, record["confusion"]["table"]))
    )
    assert [dataclasses.asdict(one) for one in found.worst] == record["worst"]


@pytest.mark.parametrize("more", [{}, {"pooling": "max", "normalize": True, "layers": "last"}])
def test_embed_gives_what_the_command_gives(models, more):
    flags = ["--pooling", "max", "--normalize", "--layers", "last"] if more else []
    command("embed", "--model", models["classify"], "--out", "vectors.npy", *flags, "texts")
    assert np.array_equal(nlpcli.embed(TEXTS, model=models["classify"], **more), np.load("vectors.npy"))


def test_perplexity_is_that_of_the_command(models):
    rows = json.loads(command("score", "perplexity", "--model", models["clm"], "dev.en", "--stride", 8, "--json"))
    found = nlpcli.load(models["clm"]).perplexity("dev.en", stride=8)
    assert [{"file": "dev.en", **score.as_dict()} for score in found.values()] == rows["scores"]


SIDES = {
    "text-pairs": (["a cat sat on the mat", "two dogs"], ["a cat sat on a mat", "two big dogs"]),
    "labels": (["1", "0", "1"], ["1", "1", "1"]),
    "numbers": ([0.1, 2, 3e-7], [1, 2.5, 0.25]),
    "tags": ([["B-PER", "O"], ["O"]], [["B-PER", "O"], ["B-LOC"]]),
    "answers": (["the cat", "a dog"], ["cat", "a big dog"]),
    "links": (["0-0 1-1", "0-1"], ["0-0 1-2", "0-1"]),
}


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_scores_lists_as_the_command_scores_files(folder, metric):
    hypotheses, references = SIDES[METRICS.load(metric).needs]
    for name, items in (("hyp", hypotheses), ("ref", references)):
        write(name, [" ".join(item) if isinstance(item, list) else item for item in items])
    record = json.loads(command("score", metric, "hyp", "--ref", "ref", "--json", "--confidence"))
    score = nlpcli.score(metric, hypotheses, references, confidence=True)
    assert [{"system": "hyp", "baseline": False, **json.loads(json.dumps(score.as_dict(metric)))}] == record["scores"]


def test_several_references_and_a_baseline_are_scored_as_the_command_does(folder):
    hypotheses, references = SIDES["text-pairs"]
    other, baseline = ["a cat sat", ""], ["a cat", "dogs"]
    for name, lines in (("hyp", hypotheses), ("ref", references), ("ref2", other), ("base", baseline)):
        write(name, lines)
    call = ["score", "chrf", "hyp", "--ref", "ref", "--ref", "ref2", "--baseline", "base", "--json"]
    score = nlpcli.score("chrf", hypotheses, [references, other], baseline=baseline)
    assert score.as_dict("chrf").items() <= json.loads(command(*call))["scores"][1].items()
    assert nlpcli.score("chrf", hypotheses, [references, ["a cat sat", None]], baseline=baseline) == score


def test_a_loaded_model_gives_what_its_folder_gives_whatever_was_asked_before(models):
    model = nlpcli.load(models["classify"])
    plain = nlpcli.embed(TEXTS, model=models["classify"])
    predictions = nlpcli.predict(TEXTS, model=models["classify"])
    model.embed(TEXTS, pooling="max", normalize=True)
    assert np.array_equal(model.embed(TEXTS), plain)
    assert model.predict(TEXTS) == predictions
    assert model.evaluate("dev.tsv") == nlpcli.evaluate("dev.tsv", model=models["classify"])


def test_vectors_of_a_trained_head_keep_their_pooling_after_another_was_asked_for(folder):
    write("pairs.tsv", [f"{a}\t{b}\t{i % 2}" for i, (a, b) in enumerate(zip(WORDS, NUMBERS, strict=True))])
    run = nlpcli.finetune(
        "similarity", train="pairs.tsv", dev="pairs.tsv", max_steps=1, out="similarity", overwrite=True,
        objective="cosine", settings={**MODEL, "training.precision": "float32"},
    )  # fmt: skip
    model = nlpcli.load(run)
    before, pairs = model.embed(TEXTS), model.predict([("one", "two")])
    assert not np.array_equal(model.embed(TEXTS, pooling="max", normalize=True), before)
    assert model.predict([("one", "two")]) == pairs
    assert np.array_equal(model.embed(TEXTS), before)


def test_neither_a_memory_asked_for_a_perplexity_nor_what_was_learnt_from_the_text_is_kept(folder):
    sizes = {name: value for name, value in MODEL.items() if name != "model.encoder_layers"}
    run = nlpcli.pretrain(
        "clm", preset="transformer-xl-nano", data="train.en", dev="dev.en", max_steps=1, out="xl", overwrite=True,
        settings={
            **sizes,
            "training.precision": "float32", "data.context": 32, "training.batch_tokens": 512,
        },
    )  # fmt: skip
    model = nlpcli.load(run)
    before = model.perplexity("dev.en")
    assert model.perplexity("dev.en", memory_length=1) != before
    assert model.perplexity("dev.en", dynamic_evaluation=0.1) != before
    assert model.perplexity("dev.en") == before


def test_an_iterator_gives_an_iterator_and_a_list_a_list(models):
    model = nlpcli.load(models["classify"])
    with open("texts", encoding="utf-8") as file:
        found = model.predict(file)
        assert not isinstance(found, list) and list(found) == model.predict(TEXTS)
    vectors = model.embed(iter(TEXTS))
    assert np.array_equal(np.stack(list(vectors)), model.embed(TEXTS))
    assert model.embed([]).shape == (0, 16)
    assert model.predict(TEXTS[0]) == model.predict(TEXTS[:1])


def test_nothing_is_printed(folder, models, capfd, recwarn):
    nlpcli.finetune(
        "classify", train="train.tsv", dev="dev.tsv", max_steps=1, out="quiet", overwrite=True, settings=SMALL
    )
    model = nlpcli.load("quiet")
    model.predict([*TEXTS, "long " * 2000])
    model.evaluate("dev.tsv")
    nlpcli.translate(["one"], model=models["translation"], max_length=3)
    nlpcli.generate("one", model=models["clm"], max_new_tokens=2)
    nlpcli.score("bleu", ["a"], ["a"])
    assert capfd.readouterr() == ("", "")


def test_messages_go_to_the_logger_nlpcli(models, caplog):
    caplog.set_level("INFO", logger="nlpcli")
    nlpcli.predict(["long " * 2000], model=models["classify"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].getMessage().startswith("text 1: the text has ")
