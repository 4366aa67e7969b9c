"""The search for the largest batch, on memory whose use is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlpcli.errors import RunFailed
from nlpcli.training import memory_use
from nlpcli.training.batch_size_search import BatchSizeSearch, Sizes
from nlpcli.training.memory_use import MemoryUse, memory_limit, peak_memory, reset_peak


def found(fixed, each, limit, sizes, *, raises=False, curve=1.0):
    """What the search finds where a batch of n takes fixed + each · n^curve, and the sizes it tried."""
    tried = []

    def measure(size):
        tried.append(size)
        peak = int(fixed + each * size**curve)
        if raises and peak > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return MemoryUse(peak, limit, 100)

    return BatchSizeSearch(measure, sizes).find(), tried


@given(
    fixed=st.integers(0, 10_000), each=st.integers(1, 50), limit=st.integers(10_000, 10**6),
    unit=st.sampled_from([1, 64, 256]), most=st.integers(256, 60_000), raises=st.booleans(),
)  # fmt: skip
def test_the_largest_batch_that_fits_is_found_where_memory_is_a_line(fixed, each, limit, unit, most, raises):
    most = max(most // unit, 1) * unit
    largest = min(most, (limit - fixed) // each // unit * unit)
    if largest < unit:
        with pytest.raises(RunFailed, match="memory does not hold a batch"):
            found(fixed, each, limit, Sizes(2048, unit, most), raises=raises)
        return
    size, tried = found(fixed, each, limit, Sizes(2048, unit, most), raises=raises)
    assert size % unit == 0 and fixed + each * size <= limit
    assert size >= 0.6 * largest - unit and len(tried) <= 20
    if most == largest >= 2048:
        assert size == most


@pytest.mark.parametrize("raises", [False, True])
def test_a_batch_that_takes_more_than_a_line_foretells_is_made_smaller(raises):
    size, tried = found(1000, 0.001, 10**6, Sizes(1024, 1, 10**6), raises=raises, curve=2.0)
    assert 1000 + 0.001 * size**2 <= 10**6 and size >= 0.5 * (999_000 / 0.001) ** 0.5
    assert max(tried) > size


def test_other_errors_end_the_search():
    def measure(size):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        BatchSizeSearch(measure, Sizes(8, 1, 32)).find()


def test_the_peak_of_a_process_is_that_since_the_reset():
    device = torch.device("cpu")
    large = torch.ones(30_000_000)
    before = peak_memory(device)
    del large
    reset_peak(device)
    if peak_memory(device) >= before:
        pytest.skip("this system can't measure peaks anew")
    small = peak_memory(device)
    held = torch.ones(10_000_000)
    assert 30e6 < peak_memory(device) - small < 60e6 and len(held)


def test_the_limit_is_a_share_of_what_is_free(monkeypatch, tmp_path):
    device = torch.device("cpu")
    monkeypatch.setattr(memory_use, "_held", lambda: 1000)
    monkeypatch.setattr(memory_use, "_free", lambda: [5000, 9000])
    assert memory_limit(device) == 4800


def test_a_control_group_limits_the_memory_of_its_processes(monkeypatch, tmp_path):
    for name, limit, use in (("", "max", "900"), ("a", "5000", "1000"), ("a/b", "max", "800")):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{use}\n")
    monkeypatch.setattr(memory_use, "_groups", lambda: [tmp_path / "a" / "b", tmp_path / "a", tmp_path])
    assert 4000 in memory_use._free()
    assert memory_use._group_numbers(tmp_path) == (None, None)
