"""Bootstrap resampling of segments.

Each resample has as many segments as the test set, sampled with replacement; their counts are summed and scored
again. Source: Koehn 2004, sections 3 and 4; interval and p-value are cut as sacreBLEU cuts them, so that the numbers
of all metrics mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nlpcli.evaluation.score import Resampling

_CELLS = 1 << 20  # sampled segments held at once; bounds the memory whatever the number of segments


def sampled_segments(segments: int, resampling: Resampling) -> Iterator[np.ndarray]:
    """The numbers of the segments sampled into each resample: (rows, segments), chunk by chunk.

    The same number of segments and the same resampling give the same samples, which are those of sacreBLEU.
    """
    rng = np.random.default_rng(resampling.seed)
    rows = max(1, _CELLS // max(1, segments))
    for start in range(0, resampling.samples, rows):
        yield rng.choice(segments, size=(min(rows, resampling.samples - start), segments), replace=True)


def sampled_weights(segments: int, resampling: Resampling) -> Iterator[np.ndarray]:
    """How often each segment was sampled into each resample: (rows, segments) floats, chunk by chunk."""
    for sampled in sampled_segments(segments, resampling):
        yield weights_of(sampled)


def weights_of(sampled: np.ndarray) -> np.ndarray:
    """How often each segment was sampled, from the numbers of the sampled ones; both (rows, segments)."""
    size, segments = sampled.shape
    places = sampled + segments * np.arange(size)[:, None]
    return np.bincount(places.ravel(), minlength=size * segments).reshape(size, segments).astype(np.float64)


def resampled_sums(counts: Sequence[np.ndarray], resampling: Resampling) -> list[np.ndarray]:
    """Sums over resampled segments, the same samples for every system.

    counts: one (segments, k) array a system; returns one (samples, k) array a system.
    """
    sums: list[list[np.ndarray]] = [[] for _ in counts]
    for weights in sampled_weights(len(counts[0]), resampling):
        for system, table in zip(sums, counts, strict=True):
            system.append(weights @ table)  # (rows, k)
    return [np.concatenate(system) for system in sums]


def interval(scores: np.ndarray) -> tuple[float, float, float]:
    """low, high and mean of resampled scores (samples,): 1/40 of them lies below low and 1/40 above high."""
    ordered = np.sort(scores)
    cut = len(ordered) // 40
    return float(ordered[cut]), float(ordered[-cut - 1]), float(ordered.mean())


def paired_p_value(system: np.ndarray, baseline: np.ndarray, difference: float) -> float:
    """How often chance alone gives a difference above the one measured, from paired resamples (samples,).

    p = (1 + #{ |s_i - b_i| - mean|s - b| > difference }) / (samples + 1)

    and 1 for no difference at all, where the count would leave out the ties that chance makes.
    """
    if difference == 0:
        return 1.0
    differences = np.abs(system - baseline)
    exceeding = int(np.sum(differences - differences.mean() > difference))
    return (exceeding + 1) / (len(differences) + 1)
