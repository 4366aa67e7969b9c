"""Examples with fewer references than others are measured by those they have."""

from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU, TER

from nlpcli.commands.generate.prompt_metrics import measure
from nlpcli.commands.report.output_scores import _texts
from nlpcli.evaluation import METRICS
from nlpcli.evaluation.generated_text_metrics import generated_text_scores

RIGHT = [("the cat sat on the mat", "a cat sat"), ("it is raining today",), ("yes", "yes it is", "it is")]
WRITTEN = ["the cat sat on a mat", "it rains today", "it is so"]
WITH_NONE = [[row[i] if i < len(row) else None for row in RIGHT] for i in range(3)]


def test_of_a_task_that_writes_texts():
    expected = BLEU().corpus_score(WRITTEN, WITH_NONE).score
    score = generated_text_scores("bleu", WRITTEN, RIGHT)["bleu"]
    assert score.value == expected and "|nrefs:var|" in score.signature
    assert all("|nrefs:var|" in score.signature for score in generated_text_scores("rouge", WRITTEN, RIGHT).values())


@pytest.mark.parametrize(("name", "kind"), [("bleu", BLEU), ("ter", TER)])
def test_of_answers_to_prompts(name, kind):
    score = measure(METRICS.load(name)(), RIGHT, WRITTEN, None)
    assert score.value == kind().corpus_score(WRITTEN, WITH_NONE).score and "|nrefs:var|" in score.signature
    nothing = measure(METRICS.load(name)(), [*RIGHT, ()], [*WRITTEN, ""], None)
    sets = [[*lines, missing] for lines, missing in zip(WITH_NONE, ("", None, None), strict=True)]
    assert nothing.value == kind().corpus_score([*WRITTEN, ""], sets).score


def test_of_one_reference_where_a_metric_takes_no_more():
    score = measure(METRICS.load("wer")(), RIGHT, WRITTEN, None)
    assert score == METRICS.load("wer")().corpus(WRITTEN, [[row[0] for row in RIGHT]])


def test_of_the_outputs_that_a_run_leaves():
    items = [{"output": output, "reference": list(reference)} for output, reference in zip(WRITTEN, RIGHT, strict=True)]
    assert _texts(items) == (WRITTEN, WITH_NONE)
    assert _texts([{"output": "a", "reference": "b"}]) == (["a"], [["b"]])
