from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from nlpcli.data.examples import Example
from nlpcli.data.suites import SUITES
from nlpcli.errors import NlpcliError
from nlpcli.runs.suites.suite import SuiteReport, TaskResult, chosen_tasks, find_model
from nlpcli.runs.suites.suite_scores import SuiteScores
from nlpcli.training.metric_direction import higher_is_better

TASKS = {(suite, task.name): task for suite, tasks in SUITES.items() for task in tasks}
CLASSIFIER = SimpleNamespace(
    name="classify",
    compared_labels=lambda examples, predictions: (
        [example.label for example in examples],
        [prediction["label"] for prediction in predictions],
    ),
)


def score(suite, name, gold, said, parts=None, ids=None):
    examples = [Example(("x",), label, id=id) for label, id in zip(gold, ids or gold, strict=True)]
    found = SuiteScores(TASKS[suite, name], parts)(CLASSIFIER, examples, [{"label": label} for label in said])
    return {metric: value.value for metric, value in found.items()}


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(st.lists(st.tuples(st.sampled_from("01"), st.sampled_from("01")), min_size=1, max_size=20))
def test_scores_of_labels_are_those_of_scikit_learn(pairs):
    gold, said = zip(*pairs, strict=True)
    assert score("glue", "CoLA", gold, said)["mcc"] == pytest.approx(100 * matthews_corrcoef(gold, said))
    found = score("glue", "QQP", gold, said)
    f1 = 100 * f1_score(gold, said, labels=["1"], average="macro", zero_division=0)
    accuracy = 100 * np.mean([a == b for a, b in pairs])
    assert found["f1"] == pytest.approx(f1) and found["accuracy"] == pytest.approx(accuracy)
    assert found["mean"] == pytest.approx((f1 + accuracy) / 2)


def test_each_part_has_its_score_and_their_mean_decides():
    scores = SuiteScores(TASKS["glue", "MNLI"], {"matched": 2, "mismatched": 3})
    assert scores.names == ("mean", "matched_accuracy", "mismatched_accuracy")
    found = score("glue", "MNLI", "aabbb", "abbba", {"matched": 2, "mismatched": 3})
    assert found == pytest.approx({"mean": 350 / 6, "matched_accuracy": 50, "mismatched_accuracy": 200 / 3})


def test_a_question_is_right_when_all_its_answers_are():
    ids = ["0:0:0", "0:0:1", "0:1:0", "1:0:0", "1:0:1"]
    found = score("superglue", "MultiRC", "10110", "10100", ids=ids)
    assert found["em"] == pytest.approx(200 / 3) and found["f1a"] == pytest.approx(80)


def test_the_likeliest_candidate_of_a_gap_is_compared_with_the_right_ones():
    rows = [("0:0:New York", "true", 0.4), ("0:0:the York", "true", 0.3), ("0:0:Ann", "false", 0.2),
            ("0:1:Bob", "true", 0.1), ("0:1:Bob Dole", "false", 0.2), ("1:1:Eve: Smith", "false", 0.9)]  # fmt: skip
    examples = [Example(("x",), label, id=id) for id, label, _ in rows]
    predictions = [{"label": "false", "probabilities": {"false": 1 - p, "true": p}} for _, _, p in rows]
    found = SuiteScores(TASKS["superglue", "ReCoRD"])(CLASSIFIER, examples, predictions)
    assert found["group_em"].value == pytest.approx(100 / 3)
    assert found["group_f1"].value == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)


def test_every_deciding_metric_is_better_when_it_is_higher():
    for task in TASKS.values():
        assert all(map(higher_is_better, SuiteScores(task).names))


def test_a_model_for_another_kind_of_task_is_refused():
    with pytest.raises(
        NlpcliError, match=r"STS-B needs a model fine-tuned with --task regress, but .* --task classify"
    ):
        score("glue", "STS-B", "1", "1")


def test_tasks_are_chosen_by_name_whatever_case_and_commas():
    assert [task.name for task in chosen_tasks("glue", ["rte,SST2", "sts-b"])] == ["SST-2", "STS-B", "RTE"]
    assert len(chosen_tasks("glue", [])) == len(SUITES["glue"])


def test_models_stand_in_folders_named_as_tasks_and_diagnostics_borrow_theirs(tmp_path):
    for name in ("RTE", "cb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.yaml").touch()
    (tmp_path / "wsc").mkdir()
    names = {task.name: task for task in SUITES["superglue"]}
    found = {name: find_model(tmp_path, task, only=list(names.values())) for name, task in names.items()}
    assert {name: path.name for name, path in found.items() if path} == {
        "CB": "cb", "RTE": "RTE", "AX-b": "RTE", "AX-g": "RTE",
    }  # fmt: skip
    assert find_model(tmp_path / "cb", names["CB"], only=[names["CB"]]) == tmp_path / "cb"
    with pytest.raises(NlpcliError, match="is a single model"):
        find_model(tmp_path / "cb", names["CB"], only=list(names.values()))


def test_the_average_is_of_tasks_that_count_and_says_what_it_lacks(tmp_path):
    def result(name, value, counts=True):
        return TaskResult(name, tmp_path, 10, {"accuracy": SimpleNamespace(value=value, interval=str)}, counts)

    report = SuiteReport("superglue", [result("CB", 80), result("RTE", 60), result("AX-g", 10, False)],
                         {"WiC": "no data", "WSC": "no model", "COPA": "no data"})  # fmt: skip
    assert report.average == 70
    assert [row[:2] for row in report.rows()][-2:] == [("AX-g", 10), ("average", 20)]
    assert list(report.rows())[-2][2] == "accuracy 10.00 (not in the average)"
    assert list(report.rows())[-1][2:] == ("partial: 2 of 5 tasks; no data: WiC, COPA; no model: WSC", "70.00")
    asked = SuiteReport("superglue", report.tasks, {"WiC": "left out"})
    assert list(asked.rows())[-1][2:] == ("partial: 2 of 3 tasks", "70.00")
    whole = SuiteReport("superglue", report.tasks, {})
    assert list(whole.rows())[-1][2:] == ("all 2 tasks", "70.00")
    assert SuiteReport("superglue", [result("AX-g", 10, False)], {}).average is None
