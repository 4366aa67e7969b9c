"""Metrics of lines: what is added from portions gives the score of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpcli.evaluation import METRICS, Resampling
from nlpcli.evaluation.line_statistics import CautionCounts, LineMetric, Statistics
from nlpcli.evaluation.score import TEXT_PAIRS
from nlpcli.evaluation.unspaced_scripts import SAMPLE

OF_LINES = [name for name in METRICS if METRICS.load(name).needs == TEXT_PAIRS]
LINE = st.lists(st.sampled_from(["the", "cat", "Cat.", "sat", "你好", "3.5%", "{", "}"]), max_size=7).map(" ".join)
PAIRS = st.lists(st.tuples(LINE, LINE), min_size=2, max_size=12)


def test_every_metric_of_texts_is_one_of_lines():
    assert all(issubclass(METRICS.load(name), LineMetric) for name in OF_LINES)


@pytest.mark.parametrize("resampling", [None, Resampling(7, 3)])
@pytest.mark.parametrize("name", OF_LINES)
@settings(max_examples=25)
@given(pairs=PAIRS, cut=st.integers(1, 11))
def test_statistics_of_portions_give_the_score_and_cautions_of_the_whole(name, resampling, pairs, cut):
    hypotheses, references = (list(lines) for lines in zip(*pairs, strict=True))
    metric, caution_counts = METRICS.load(name)(), CautionCounts(SAMPLE)
    found = metric.collector(resampled=resampling is not None)
    for start in range(0, len(pairs), cut):
        part = hypotheses[start : start + cut], [references[start : start + cut]]
        found.add(metric.line_statistics(*part))
        caution_counts.add(metric.caution_counts(*part), part[1][0])
    assert metric.score_from(found, "1", resampling) == metric.corpus(hypotheses, [references], resampling)
    assert metric.cautions_from(caution_counts.numbers, caution_counts.sample) == metric.cautions(
        hypotheses, [references]
    )


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.integers(1, 30))
def test_sums_of_floats_are_those_of_adding_line_after_line(values, cut):
    expected = 0.0
    for value in values:
        expected += value
    found = Statistics()
    for start in range(0, len(values), cut):
        found.add(np.array(values[start : start + cut])[:, None])
    assert found.sums.tolist() == [expected]
