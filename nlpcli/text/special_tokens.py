"""Special tokens: ids with a role that no raw text can produce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nlpcli.errors import NlpcliError

ROLES = ("pad", "unk", "bos", "eos", "cls", "sep", "mask")


@dataclass(frozen=True)
class SpecialTokens:
    """The ids with a role. Sentinels replace removed spans (Raffel et al. 2020, section 3.1.4).

    The *spelling* of a special token in a text is text like any other: encoding never gives these ids.

    Roles may share an id, as bos and cls do in BERT. A role that another program's tokenizer lacks is named in
    `absent` and has the id of another role; `check` refuses a missing role that is needed. `spellings`: (id, spelling)
    of special ids that are not called `<role>`, or that have no role.
    """

    pad: int = 0
    unk: int = 1
    bos: int = 2
    eos: int = 3
    cls: int = 4
    sep: int = 5
    mask: int = 6
    sentinels: tuple[int, ...] = ()
    spellings: tuple[tuple[int, str], ...] = ()
    absent: tuple[str, ...] = ()

    @classmethod
    def first(cls, sentinels: int = 0) -> SpecialTokens:
        """The roles on the first ids, in the order of `ROLES`, then the sentinels."""
        return cls(sentinels=tuple(range(len(ROLES), len(ROLES) + sentinels)))

    def check(self, *roles: str) -> None:
        """Raises: NlpcliError when one of the roles is absent."""
        for role in roles:
            if role in self.absent:
                raise NlpcliError(f"the tokenizer has no {role} token", hint="use a tokenizer that has this token")

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
        named |= {id_: f"<sentinel_{n}>" for n, id_ in enumerate(self.sentinels)}
        return named | dict(self.spellings)

    def as_dict(self) -> dict[str, Any]:
        """Role to id, as it is written to a file; what is not usual is left out where it is empty."""
        usual = {role: getattr(self, role) for role in ROLES} | {"sentinels": list(self.sentinels)}
        unusual = {"spellings": [list(pair) for pair in self.spellings], "absent": list(self.absent)}
        return usual | {name: value for name, value in unusual.items() if value}


def source_ids(tokens: Sequence[int], special: SpecialTokens) -> list[int]:
    """The encoder's input for the tokens of a sentence."""
    return [*tokens, special.eos]
