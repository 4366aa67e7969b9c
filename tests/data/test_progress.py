"""Work reports its steps to whoever follows it, and to nobody else."""

from __future__ import annotations

from nlpcli.data.progress import followed, following


def test_each_step_is_reported_when_it_is_done():
    events = []
    with following(lambda *step: events.append(step)):
        for item in followed("ab", "reading", 2):
            events.append(item)
    assert events == [("reading", 0, 2), "a", ("reading", 1, 2), "b", ("reading", 2, 2)]


def test_without_a_follower_items_go_by_in_silence():
    events = []
    assert list(followed("ab", "reading")) == ["a", "b"]
    with following(lambda *step: events.append(step)):
        pass
    assert list(followed("ab", "reading")) == ["a", "b"] and events == []
