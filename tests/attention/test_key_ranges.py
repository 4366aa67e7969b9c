from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nlpcli.attention.key_ranges import intersection, union

RANGES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5)


@given(RANGES, RANGES)
def test_ranges_are_joined_and_met_as_sets_are(left, right):
    def places(ranges):
        return {place for start, end in ranges for place in range(start, end)}

    assert places(union(left)) == places(left)
    assert places(intersection(union(left), union(right))) == places(left) & places(right)
