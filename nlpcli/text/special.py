"""Special tokens: ids with a role that no raw text can produce."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

ROLES = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")


@dataclass(frozen=True)
class SpecialTokens:
    """The ids with a role. Sentinels stand for removed spans (Raffel et al. 2020, section 3.1.4).

    The *spelling* of a special token in a text is text like any other: encoding never gives these ids.
    """

    pad: int = 0
    unk: int = 1
    bos: int = 2
    eos: int = 3
    cls: int = 4
    sep: int = 5
    mask: int = 6
    sentinels: tuple[int, ...] = ()

    @classmethod
    def first(cls, sentinels: int = 0) -> SpecialTokens:
        """The roles on the first ids, in the order of `ROLES`, then the sentinels."""
        return cls(*range(len(ROLES)), sentinels=tuple(range(len(ROLES), len(ROLES) + sentinels)))

    def all(self) -> frozenset[int]:
        """Every special id."""
        return self._ids

    @cached_property
    def _ids(self) -> frozenset[int]:
        return frozenset(self.names)

    @cached_property
    def names(self) -> dict[int, str]:
        """The spelling of every special id: `<pad>`, …, `<sentinel_0>`, …"""
        named = {getattr(self, role): f"<{role}>" for role in ROLES}
        return named | {id_: f"<sentinel_{n}>" for n, id_ in enumerate(self.sentinels)}

    def as_dict(self) -> dict[str, int | list[int]]:
        """Role to id, as it is written to a file."""
        return {role: getattr(self, role) for role in ROLES} | {"sentinels": list(self.sentinels)}
