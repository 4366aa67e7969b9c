"""The raw text of a pretraining run: checked at the start, read as often as needed, with a part as the dev set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.schema import DataConfig
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.data.shards import ShardSet
    from nlpcli.text import Tokenizer


@dataclass(frozen=True)
class Corpus:
    """The files that `settings` names; standard input and pipes among them have been copied to temporary files."""

    settings: DataConfig
    train: list[Path]
    dev: list[Path]

    @classmethod
    @contextmanager
    def opened(cls, settings: DataConfig) -> Iterator[Corpus]:
        """Raises: NlpcliError for files that are missing, unreadable or without text, before anything is written."""
        from nlpcli.data.repeatable_input import repeatable

        if not settings.train:
            raise NlpcliError(
                "no training text is given", hint="name files, folders or patterns such as 'texts/*.txt' with --data"
            )
        if not settings.dev and not settings.dev_fraction:
            raise NlpcliError(
                "the run has no dev set",
                hint="name dev data with --dev, or use a share of the training text with --set data.dev_fraction=0.05",
            )
        with repeatable(settings.train) as train:
            if settings.dev:
                with repeatable(settings.dev) as dev:
                    corpus = cls(settings, train, dev)
                    corpus._check()
                    yield corpus
            else:
                corpus = cls(settings, train, [])
                corpus._check()
                yield corpus

    def _check(self) -> None:
        from nlpcli.data.readers import read_documents

        for files in (self.train, self.dev):
            if files:
                next(iter(read_documents(files, **self._format())))

    def texts(self) -> Iterator[str]:
        """The training text of a tokenizer: the documents, line by line where a whole file is one."""
        from nlpcli.data.readers import TextSource, read_documents, read_parts, split_lines

        if self.settings.documents != "file":
            yield from read_documents(self.train, **self._format())
            return
        for path in self.train:
            for text, _ in read_parts(path, TextSource("file")):
                yield from split_lines(text)

    def shards(self, tokenizer: Tokenizer, *, sentences: bool = False) -> tuple[ShardSet, ShardSet]:
        """The token ids of the training and the dev text; with `sentences`, sentence by sentence.

        Raises: NlpcliError where sentences are needed and the settings rule them out.
        """
        from nlpcli.data.readers import TextSource
        from nlpcli.data.shards import build_shards

        settings = self.settings
        build = partial(
            build_shards,
            tokenizer=tokenizer,
            documents=TextSource(settings.documents, settings.field, settings.column),
            sentences=self._sentences() if sentences else None,
            workers=settings.workers,
        )
        shards = build(self.train)
        return (shards, build(self.dev)) if self.dev else shards.split(settings.dev_fraction)

    def _sentences(self) -> str:
        if self.settings.sentences == "none":
            raise NlpcliError(
                "this objective needs sentences, but data.sentences is none",
                hint="set data.sentences to lines or split",
            )
        return "split" if self.settings.sentences == "auto" else self.settings.sentences

    def _format(self) -> dict[str, Any]:
        return {"format": self.settings.documents, "field": self.settings.field, "column": self.settings.column}
