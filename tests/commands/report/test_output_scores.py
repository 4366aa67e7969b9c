"""What runs leave gives their scores again, with the intervals that `nlpcli score` gives."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from nlpcli.commands.report.output_scores import PartMean, final_scores, measured_again, paired_scores
from nlpcli.commands.report.read_runs import Outputs, Run
from nlpcli.data.examples import Example
from nlpcli.errors import NlpcliError
from nlpcli.evaluation import Resampling
from nlpcli.evaluation.count_metrics import ExampleMetric
from nlpcli.runs.dev_samples import DevOutputs, write_outputs
from nlpcli.runs.finetuning.task_samples import task_outputs, task_samples
from nlpcli.tasks import TASKS
from nlpcli.tasks.tag_set import Tags
from nlpcli.tasks.text_to_text import TextToTextSettings

RESAMPLING = Resampling(200, 7)
SIZE = 40


def draw(seed, *choices):
    return np.random.default_rng(seed).choice(choices, SIZE).tolist()


def task_of(name, **attributes):
    """The task itself, of which only what predictions are measured with is there."""
    kind = TASKS.load(name)
    task = object.__new__(type(kind.__name__, (kind,), {}))
    for key, value in attributes.items():
        setattr(task, key, value)
    return task


def labels(seed):
    task = task_of("classify", labels=("no", "yes"))
    examples = [Example((f"text {i}",), label=label) for i, label in enumerate(draw(1, "no", "yes"))]
    return task, examples, [{"label": label, "probability": 0.5} for label in draw(seed, "no", "yes")]


def label_sets(seed):
    sets = [("a",), ("a", "b"), ("b", "c"), ()]
    task = task_of("multi-label", labels=("a", "b", "c"), labels_in=lambda example: example.label)
    examples = [Example((f"text {i}",), label=sets[i % 4]) for i in range(SIZE)]
    return task, examples, [{"labels": list(sets[k])} for k in draw(seed, 0, 1, 2, 3)]


def numbers(seed):
    task = task_of("regress", score_in=lambda example: float(example.label))
    examples = [Example((f"text {i}",), label=str(i % 7)) for i in range(SIZE)]
    noise = np.random.default_rng(seed).normal(size=SIZE)
    return task, examples, [{"score": i % 7 + noise[i].item()} for i in range(SIZE)]


def choices(seed):
    def right(example):
        return example.texts[1 + example.label]

    task = task_of("choice", choice_in=right, reference_in=right)
    examples = [Example(("which?", "this", "that"), label=label) for label in draw(2, 0, 1)]
    texts = [["this", "that"][k] for k in draw(seed, 0, 1)]
    return task, examples, [{"choice": text, "candidates": ["this", "that"]} for text in texts]


def tags(seed):
    rows = [["O", "B-PER", "I-PER"], ["B-LOC", "O", "O"], ["O", "O", "O"]]
    task = task_of("tag", tags=Tags(["O"], "bio"), tags_in=lambda example: example.label)
    examples = [Example(("a", "b", "c"), label=tuple(rows[i % 3])) for i in range(SIZE)]
    return task, examples, [{"tags": rows[k]} for k in draw(seed, 0, 1, 2)]


def answers(seed):
    task = task_of("span")
    gold = [["the red cat"], ["a dog", "dog"], []]
    examples = [
        Example(("who?", "text"), label=tuple(SimpleNamespace(text=text) for text in gold[i % 3])) for i in range(SIZE)
    ]
    return task, examples, [{"answer": text} for text in draw(seed, "red cat", "dog", "")]


def alike(seed):
    _, examples, predictions = numbers(seed)
    score_in = lambda example: float(example.label)  # noqa: E731
    return task_of("similarity", judged=lambda examples: "scores", score_in=score_in), examples, predictions


def alike_or_not(seed):
    task = task_of("similarity", judged=lambda examples: "two", score_in=lambda e: float(e.label))
    examples = [Example(("a", "b"), label=str(label)) for label in draw(3, 0, 1)]
    scores = np.random.default_rng(seed).random(SIZE)
    return task, examples, [{"score": scores[i].item()} for i in range(SIZE)]


def texts(measure):
    def made(seed):
        generator = SimpleNamespace(signature="beam:1|max:9")
        task = task_of("text-to-text", wording=TextToTextSettings(measure=measure), generator=generator)
        lines = ["the cat sat on the mat today", "a dog runs in the park", "we saw two small birds there"]
        gold = [(lines[i % 3],) if i % 2 else (lines[i % 3], lines[(i + 1) % 3]) for i in range(SIZE)]
        examples = [Example((f"text {i}",), label=gold[i]) for i in range(SIZE)]
        return task, examples, [{"text": text} for text in draw(seed, *lines, "the cat runs in the mat today")]

    return made


KINDS = {
    "classify": labels, "multi-label": label_sets, "regress": numbers, "choice": choices, "tag": tags, "span": answers,
    "similarity": alike, "pairs of two kinds": alike_or_not, "rouge": texts("rouge"), "bleu": texts("bleu"),
    "accuracy": texts("accuracy"), "exact match": texts("exact-match"),
}  # fmt: skip


def run_of(kind, seed, tmp_path, name="x", step=5):
    """A run that left what `kind` predicts, through its file, and the scores themselves."""
    task, examples, predictions = KINDS[kind](seed)
    shown = DevOutputs(2)
    samples = task_samples(task, examples, predictions, shown.chosen(SIZE))
    shown.fill(samples, *task_outputs(task, examples, predictions), "data")
    folder = tmp_path / f"{name}-{seed}"
    folder.mkdir()
    write_outputs(folder, shown, step)
    head, *items = map(json.loads, (folder / "outputs.jsonl").read_text().splitlines())
    scores = task.scores(examples, predictions, RESAMPLING)
    info = {"step": step, "metrics": {key: round(score.value, 6) for key, score in scores.items()}}
    config = {"task": task.name, "training": {"metric": next(iter(scores))}}
    outputs = Outputs(head["step"], head["data"], head["measures"], items)
    return Run(folder, folder.name, config, [], [], outputs, info, {}, {}, None), scores


@pytest.mark.parametrize("kind", KINDS)
def test_the_outputs_of_a_task_give_its_scores_and_intervals_again(kind, tmp_path):
    run, scores = run_of(kind, 11, tmp_path)
    found = {final.name: final for final in final_scores(run, RESAMPLING)}
    assert found.keys() == scores.keys()
    for name, score in scores.items():
        final = found[name]
        assert (final.value, final.low, final.high) == pytest.approx((score.value, score.low, score.high)), name
        assert final.signature == score.signature or final.signature.removesuffix("|beam:1|max:9") in score.signature


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_differs_from_itself_by_nothing_and_from_another_with_the_metrics_own_p_value(kind, tmp_path):
    (first, _), (second, _) = run_of(kind, 11, tmp_path), run_of(kind, 12, tmp_path)
    again, missing = paired_scores(first, first, RESAMPLING)
    assert not missing and {(p.difference, p.p_value) for p in again} == {(0.0, 1.0)}
    found, missing = paired_scores(first, second, RESAMPLING)
    assert not missing and {p.metric for p in found} == set(first.info["metrics"])
    for p in found:
        one, other = measured_again(first, p.metric), measured_again(second, p.metric)
        _, after = one.metric.compare(one.hypotheses, [other.hypotheses], one.references, RESAMPLING)
        assert p.p_value == after.p_value and p.items == SIZE
        assert p.difference == pytest.approx(
            second.info["metrics"][p.metric] - first.info["metrics"][p.metric], abs=1e-5
        )


def test_a_difference_without_a_p_value_is_not_called_a_difference(tmp_path, monkeypatch):
    (first, _), (second, _) = run_of("classify", 11, tmp_path), run_of("classify", 12, tmp_path)
    plain = ExampleMetric.compare

    def compare(self, *given):
        return [replace(score, p_value=None) for score in plain(self, *given)]

    monkeypatch.setattr(ExampleMetric, "compare", compare)
    found, missing = paired_scores(first, second, RESAMPLING)
    assert not found and len(missing) == len(first.info["metrics"])
    assert all("no p-value" in sentence for sentence in missing)


def test_runs_measured_on_different_data_are_not_paired(tmp_path):
    (first, _), (second, _) = run_of("classify", 11, tmp_path), run_of("classify", 12, tmp_path)
    other = Outputs(5, "elsewhere", second.outputs.measures, second.outputs.items)
    moved = Run(**{**vars(second), "outputs": other})
    found, missing = paired_scores(first, moved, RESAMPLING)
    assert not found and "different data" in missing[0]
    shorter = Run(**{**vars(second), "outputs": Outputs(5, "data", other.measures, other.items[:-1])})
    assert "one has 40 items and the other has 39" in paired_scores(first, shorter, RESAMPLING)[1][0]


def test_outputs_of_other_weights_than_those_kept_are_not_used(tmp_path):
    run, _ = run_of("classify", 11, tmp_path)
    later = Run(**{**vars(run), "info": {**run.info, "step": 9}})
    assert all(final.low is None for final in final_scores(later, RESAMPLING))
    assert paired_scores(run, later, RESAMPLING) == ([], ["runs without outputs have no paired tests"])


def test_a_score_that_the_outputs_do_not_give_again_has_no_interval(tmp_path):
    run, _ = run_of("classify", 11, tmp_path)
    run.info["metrics"]["accuracy"] += 1.0
    run.info["metrics"]["mean"] = 3.0
    found = {final.name: final for final in final_scores(run, RESAMPLING)}
    assert found["accuracy"].low is None and found["accuracy"].value == run.info["metrics"]["accuracy"]
    assert found["mean"].low is None and found["mcc"].low is not None


@pytest.mark.parametrize("damage", [{"metric": "no-such"}, {"metric": "f1", "options": {"x": 1}}, {}, None, 3])
def test_outputs_that_say_nothing_sensible_give_no_interval(tmp_path, damage):
    run, _ = run_of("classify", 11, tmp_path)
    run.outputs.measures["accuracy"] = damage
    assert measured_again(run, "accuracy") is None


def test_a_mean_over_parts_is_that_of_the_whole_and_its_interval_the_bootstraps():
    rng = np.random.default_rng(4)
    parts = [(float(rng.gamma(30)), int(rng.integers(20, 40))) for _ in range(60)]
    nats, tokens = np.array(parts).T
    score = PartMean("loss").corpus(parts, [parts], RESAMPLING)
    perplexity = PartMean("perplexity", "perplexity").corpus(parts, [parts], RESAMPLING)
    assert score.value == pytest.approx(nats.sum() / tokens.sum())
    assert perplexity.value == pytest.approx(np.exp(score.value))
    assert (perplexity.low, perplexity.high) == pytest.approx((np.exp(score.low), np.exp(score.high)))
    assert score.low < score.value < score.high
    drawn = np.random.default_rng(RESAMPLING.seed).choice(60, size=(200, 60))
    means = np.sort(nats[drawn].sum(1) / tokens[drawn].sum(1))
    assert (score.low, score.high) == pytest.approx((means[5], means[-6]))


def test_few_parts_give_no_interval():
    items = [{"nats": 3.0, "tokens": 2}] * 9
    measures = {"loss": {"metric": "mean", "options": {"of": "nats"}}}
    run = Run("x", "x", {}, [], [], Outputs(1, "d", measures, items), {"step": 1, "metrics": {"loss": 1.5}}, {}, {}, 1)
    assert measured_again(run, "loss") is None and final_scores(run, RESAMPLING)[0].value == 1.5
    more = Run(**{**vars(run), "outputs": Outputs(1, "d", measures, items + items)})
    assert measured_again(more, "loss").score(None).value == 1.5


def test_samples_are_spread_over_what_was_measured():
    task, examples, predictions = labels(11)
    samples = list(task_samples(task, examples, predictions, DevOutputs(3).chosen(SIZE)))
    assert [sample["text"] for sample in samples] == ["text 6", "text 20", "text 33"]
    assert samples[0]["reference"] in ("no", "yes") and samples[0]["probability"] == 0.5
    long = DevOutputs(1)
    long.fill([{"text": "x" * 5000}])
    assert len(long.samples[0]["text"]) == 1000


def test_a_bootstrap_needs_resamples():
    with pytest.raises(NlpcliError):
        Resampling(1)
