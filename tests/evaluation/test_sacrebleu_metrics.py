from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest, _bootstrap_resample

from nlpcli.errors import NlpcliError
from nlpcli.evaluation import METRICS, Resampling, bootstrap, sacrebleu_metrics
from nlpcli.evaluation.score import TEXT_PAIRS

REFERENCES = [[f"this is the line number {n} of a text" for n in range(16)]]
BASELINE = [f"this is line number {n} in a text" for n in range(16)]
SYSTEMS = [
    [f"this is the line number {n if n % 3 else 'x'} of a text" for n in range(16)],
    [f"here the number {n} of texts" for n in range(16)],
]


@pytest.mark.parametrize(("name", "kind"), [("bleu", BLEU), ("chrf", CHRF), ("ter", TER)])
def test_the_paired_test_is_sacrebleus_with_its_values_intervals_p_values_and_signature(name, kind, monkeypatch):
    ours = METRICS.load(name)().compare(BASELINE, SYSTEMS, REFERENCES, Resampling(100, 3))
    monkeypatch.setenv("SACREBLEU_SEED", "3")
    named = [(str(number), lines) for number, lines in enumerate([BASELINE, *SYSTEMS])]
    signatures, scores = PairedTest(named, {name: kind()}, REFERENCES, "bs", 100)()
    [(key, signature)] = signatures.items()
    assert len(ours) == 3
    for score, result in zip(ours, scores[key], strict=True):
        assert (score.name, score.value, score.p_value) == (key, result.score, result.p_value)
        assert (score.low, score.high) == pytest.approx((result.mean - result.ci, result.mean + result.ci))
        assert score.signature == f"{key}|{signature}"


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS.load(name).needs == TEXT_PAIRS])
def test_a_system_compared_with_itself_does_not_differ(name):
    _, same = METRICS.load(name)().compare(BASELINE, [list(BASELINE)], REFERENCES, Resampling(50))
    assert same.p_value == 1.0


def test_the_seed_zero_which_sacrebleus_paired_test_ignores_is_refused():
    with pytest.raises(NlpcliError, match="seed 0"):
        METRICS.load("bleu")().compare(BASELINE, SYSTEMS, REFERENCES, Resampling(10, 0))


@pytest.mark.parametrize(("name", "kind"), [("bleu", BLEU), ("chrf", CHRF), ("ter", TER)])
@pytest.mark.parametrize("exact", [1, 60, 1 << 24])
def test_resamples_are_sacrebleus_to_the_last_digit_however_they_are_summed(name, kind, exact, monkeypatch):
    monkeypatch.setattr(sacrebleu_metrics, "_EXACT", exact)
    monkeypatch.setattr(bootstrap, "_CELLS", 50)
    monkeypatch.setenv("SACREBLEU_SEED", "3")
    references = [*REFERENCES, [line[4:] for line in REFERENCES[0]]]
    metric = METRICS.load(name)()
    statistics = metric.collector(resampled=True)
    statistics.add(metric.line_statistics(SYSTEMS[1], references))
    theirs = kind()
    _, expected = _bootstrap_resample(theirs._extract_corpus_statistics(SYSTEMS[1], references), metric.build(), 40)
    found = sacrebleu_metrics._resampled(metric.build(), statistics, Resampling(40, 3))
    assert [score.score for score in found] == [score.score for score in expected]
