"""A parallel corpus as two aligned shard sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nlpcli.config.counting import counted
from nlpcli.data.readers import count_lines, unequal
from nlpcli.data.shards import ShardSet, build_shards
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class ParallelShards:
    """Sentences and their translations as token ids: line n of the source files, line n of the target files.

    Raises: NlpcliError when the two sets don't have the same number of lines.
    """

    source: ShardSet
    target: ShardSet

    def __post_init__(self) -> None:
        if self.source.documents != self.target.documents:
            raise unequal(self.source.path, self.target.path, self.source.documents, self.target.documents)

    @classmethod
    def build(
        cls,
        source: Sequence[Path | str] | Path | str,
        target: Sequence[Path | str] | Path | str,
        tokenizer: Tokenizer | Path | str,
        *,
        target_tokenizer: Tokenizer | Path | str | None = None,
        workers: int | None = None,
    ) -> ParallelShards:
        """Builds, or finds in the cache, the shards of text files that are parallel one by one, line by line.

        target_tokenizer: the tokenizer of the target side; None: the same.
        Raises: NlpcliError for unequal numbers of lines (naming files and numbers) or of files, and as `build_shards`.
        """
        sources, targets = _several(source), _several(target)
        if len(sources) != len(targets):
            raise NlpcliError(
                f"the source side has {counted(len(sources), 'file')}, but the target side has {len(targets)}"
            )
        for one, other in zip(sources, targets, strict=True):
            if not (Path(one).is_file() and Path(other).is_file()):
                continue  # a pipe can be read only once
            counts = count_lines(one), count_lines(other)
            if counts[0] != counts[1]:
                raise unequal(one, other, *counts)
        sides = ((sources, tokenizer), (targets, target_tokenizer or tokenizer))
        built = [build_shards(p, t, documents="lines", keep_empty=True, workers=workers) for p, t in sides]
        if built[0].documents != built[1].documents:
            raise unequal(sources[0], targets[0], built[0].documents, built[1].documents)
        return cls(*built)

    def __len__(self) -> int:
        return self.source.documents

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target ids of one line, (source_length,) and (target_length,); a blank line has none."""
        return self.source.document(index), self.target.document(index)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(lines, 2), int64: tokens of source and target."""
        return np.column_stack([self.source.lengths, self.target.lengths])

    @property
    def fingerprint(self) -> str:
        """Identifies this corpus and its encoding."""
        return f"{self.source.fingerprint}+{self.target.fingerprint}"


def _several(paths: Sequence[Path | str] | Path | str) -> list[Path | str]:
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
