"""Tables from names to objects, which are imported only when they are looked up."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nlpcli.errors import unknown


class LazyTable:
    """Choices such as the objectives or the metrics: `name -> "module:attribute"`.

    Listing the names imports nothing; `load` imports one module and returns its attribute. synonyms: other
    names of an entry. absent: names in other programs that have no entry here (`nlpcli.errors.unknown`).
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str],
        *,
        synonyms: Mapping[str, str] | None = None,
        absent: Iterable[str] = (),
    ) -> None:
        self.kind = kind
        self.absent = frozenset(absent)
        self._entries = dict(entries)
        self._synonyms = dict(synonyms or {})

    def names(self) -> list[str]:
        return list(self._entries)

    def check(self, name: str) -> str:
        """`name`, or the entry it is a synonym of. Raises: NlpcliError with the nearest spelling for another name."""
        found = self._synonyms.get(str(name).lower().replace("_", "-"), name)
        if found not in self._entries:
            raise unknown(self.kind, str(name), self._entries, self.absent)
        return found

    def place(self, name: str) -> str:
        """Where `name` is found, as "module:attribute"."""
        return self._entries[self.check(name)]

    def load(self, name: str) -> Any:
        module, attribute = self.place(name).split(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
