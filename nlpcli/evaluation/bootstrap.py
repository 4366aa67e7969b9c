"""Bootstrap resampling of segments.

Segments are drawn with replacement as often as there are segments; the counts of the drawn ones are summed and scored
again. Source: Koehn 2004, sections 3 and 4; interval and p-value are cut as sacreBLEU cuts them, so that the numbers
of all metrics mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nlpcli.evaluation.score import Resampling

_CELLS = 1 << 20  # draws held at once; bounds the memory whatever the number of segments


def drawn_segments(segments: int, resampling: Resampling) -> Iterator[np.ndarray]:
    """The numbers of the segments sampled into each resample: (rows, segments), chunk by chunk.

    The same number of segments and the same resampling give the same draws, which are those of sacreBLEU.
    """
    rng = np.random.default_rng(resampling.seed)
    rows = max(1, _CELLS // max(1, segments))
    for start in range(0, resampling.samples, rows):
        yield rng.choice(segments, size=(min(rows, resampling.samples - start), segments), replace=True)


def drawn_weights(segments: int, resampling: Resampling) -> Iterator[np.ndarray]:
    """How often each segment was sampled into each resample: (rows, segments) floats, chunk by chunk."""
    for drawn in drawn_segments(segments, resampling):
        yield weights_of(drawn)


def weights_of(drawn: np.ndarray) -> np.ndarray:
    """How often each segment was drawn, from the numbers of those drawn; both (rows, segments)."""
    size, segments = drawn.shape
    places = drawn + segments * np.arange(size)[:, None]
    return np.bincount(places.ravel(), minlength=size * segments).reshape(size, segments).astype(np.float64)


def resampled_sums(counts: Sequence[np.ndarray], resampling: Resampling) -> list[np.ndarray]:
    """Sums over resampled segments, the same draws for every system.

    counts: one (segments, k) array a system; returns one (samples, k) array a system.
    """
    sums: list[list[np.ndarray]] = [[] for _ in counts]
    for weights in drawn_weights(len(counts[0]), resampling):
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
