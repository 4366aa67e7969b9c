"""Continuing texts with CTranslate2: the greedy search of a language model, run by that library in C++.

What differs there from `greedy_search`, and what is done about it:

- Tokens that are never written are taken out before its softmax. The choices are the same, the log-probabilities are
  not: where they are wanted, the finished text is scored in one pass.
- All texts of a batch have one limit, and a prompt is read token by token from the length of the shortest one on. So
  texts of similar length share a batch.
- It does not continue beyond its window. Here a text is continued from the last half of the window, as with
  `ContextShift`.
- A Python function that gets each token takes about half as long as a token of a small model. It is used for stop
  texts, for a text that is shown while it grows, and where texts of a batch have different limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.hypothesis import Hypothesis

if TYPE_CHECKING:
    from nlpcli.decoding.autoregressive import Watch
    from nlpcli.decoding.stop_conditions import StopConditions

_SPREAD = 8
"""Texts of a batch differ in length by at most this part of what is written."""
_SCORED_TOKENS = 2048
"""Tokens that are scored at once: their logits take that many rows of the vocabulary."""


def unsupported(constraints: Constraints) -> list[str]:
    """What of the constraints this search lacks, as options of the command."""
    lacking = {
        "--no-repeat-ngram": constraints.no_repeat_ngram,
        "--repetition-penalty": constraints.repetition_penalty != 1.0,
    }
    return [name for name, wanted in lacking.items() if wanted]


@dataclass
class _Text:
    """A text that grows. place: its row; ids: the prefix and what was written; read_from: where the model's context
    begins in it; limit: the length at which it stops; most, least: how many tokens the next call may and must write."""

    place: int
    ids: list[int]
    prefix: int
    limit: int
    read_from: int = 0
    most: int = 0
    least: int = 0
    logprob: float = 0.0
    end: int | None = None
    stopped: bool = False

    @property
    def complete(self) -> bool:
        return self.end is not None or self.stopped or len(self.ids) >= self.limit

    @property
    def context(self) -> list[int]:
        return self.ids[self.read_from :]

    def renew(self, window: int) -> None:
        """Drops all but the last half of the context when the model has no position for the next token."""
        if len(self.context) > window:
            self.read_from = len(self.ids) - max(1, window // 2)


class CTranslate2Generator:
    """Greedy search with a language model of CTranslate2.

    library: its generator. names: of all ids there. window: how many tokens the model looks back on. scores: whether
    log-probabilities are wanted, which are nan otherwise.
    """

    def __init__(self, library: Any, names: Sequence[str], *, window: int, scores: bool) -> None:
        self._library, self._names, self._window, self._scores = library, names, window, scores

    def greedy_search(
        self,
        prefixes: Sequence[Sequence[int]],
        conditions: StopConditions,
        *,
        constraints: Constraints,
        watch: Watch | None = None,
    ) -> list[Hypothesis]:
        """The greedy continuation of each prefix; as `nlpcli.decoding.greedy`, with renewal.

        constraints: none of those that are `unsupported`. A prefix has 1 to `window` tokens.
        """
        limit = conditions.max_length
        limits = [limit] * len(prefixes) if isinstance(limit, int) else limit
        texts = [
            _Text(place, list(prefix), len(prefix), len(prefix) + most)
            for place, (prefix, most) in enumerate(zip(prefixes, limits, strict=True))
        ]
        growing = texts
        while growing:
            for text in growing:
                text.renew(self._window)
                text.most = min(text.limit - len(text.ids), self._window + 1 - len(text.context))
                text.least = min(max(0, constraints.min_length - (len(text.ids) - text.prefix)), text.most)
            for batch in _batches(growing):
                self._extend(batch, conditions, constraints.suppress, watch)
            growing = [text for text in growing if not text.complete]
        return [self._hypothesis(text) for text in texts]

    def _hypothesis(self, text: _Text) -> Hypothesis:
        ids = text.ids[text.prefix : len(text.ids) - (text.end is not None)]
        logprob = text.logprob if self._scores else math.nan
        return Hypothesis(tuple(ids), logprob, logprob, text.end is not None, text.end)

    def _extend(
        self, batch: Sequence[_Text], conditions: StopConditions, suppress: Sequence[int], watch: Watch | None
    ) -> None:
        """Continues texts up to their limits or to their next renewal."""
        contexts = [text.context for text in batch]
        most = max(text.most for text in batch)
        follower = None
        if watch is not None or conditions.stop is not None or any(text.most < most for text in batch):
            follower = _Follower(batch, conditions, watch)
        results = self._call(
            follower,
            [[self._names[id_] for id_ in context] for context in contexts],
            max_length=most,
            min_length=batch[0].least,
            end_token=list(conditions.ends) or None,
            suppress_sequences=[[self._names[id_]] for id_ in suppress] or None,
        )
        for row, (text, result) in enumerate(zip(batch, results, strict=True)):
            written = result.sequences_ids[0]
            text.ids += written
            text.end = written[-1] if written[-1] in conditions.ends else None
            text.stopped = follower is not None and row in follower.stopped
        if self._scores:
            self._score(batch, contexts)

    def _call(self, follower: _Follower | None, contexts: Sequence[Sequence[str]], **options: Any) -> Any:
        """The results of the library. It runs in another thread, so that Ctrl-C is answered meanwhile."""
        worker = ThreadPoolExecutor(1)
        future = worker.submit(
            self._library.generate_batch, contexts, callback=follower, include_prompt_in_result=False,
            return_end_token=True, **options,
        )  # fmt: skip
        try:
            return future.result()
        except BaseException:
            if follower is not None:
                follower.given_up = True
            raise
        finally:
            worker.shutdown(wait=future.done())

    def _score(self, batch: Sequence[_Text], contexts: Sequence[Sequence[int]]) -> None:
        """Adds the log-probabilities of what follows the contexts."""
        spelled = [[self._names[id_] for id_ in text.context] for text in batch]
        results = self._library.score_batch(
            spelled, max_input_length=0, max_batch_size=_SCORED_TOKENS, batch_type="tokens"
        )
        for text, context, result in zip(batch, contexts, results, strict=True):
            text.logprob += math.fsum(result.log_probs[len(context) - 1 :])


class _Follower:
    """Gets each token of a batch as it is chosen, and returns whether its text stops there. stopped: these rows."""

    def __init__(self, batch: Sequence[_Text], conditions: StopConditions, watch: Watch | None) -> None:
        self._batch, self._conditions, self._watch = batch, conditions, watch
        self._new = [text.ids[text.prefix :] for text in batch]
        self._most = [len(new) + text.most for new, text in zip(self._new, batch, strict=True)]
        self.stopped: set[int] = set()
        self.given_up = False

    def __call__(self, step: Any) -> bool:
        row, token = step.batch_id, step.token_id
        if self.given_up or token in self._conditions.ends:
            return self.given_up
        new = self._new[row]
        new.append(token)
        if self._watch is not None:
            self._watch(self._batch[row].place, token)
        stop = self._conditions.stop
        if stop is not None and stop.found(new[-stop.looks_back :]):
            self.stopped.add(row)
        return row in self.stopped or len(new) >= self._most[row]


def _batches(texts: Sequence[_Text]) -> list[list[_Text]]:
    """Texts whose contexts are of similar length, with one least number of tokens.

    Where the shortest context is a single token, the library gives the others back with what was written.
    """
    batches: list[list[_Text]] = []
    for text in sorted(texts, key=lambda text: (text.least, len(text.context))):
        first = batches[-1][0] if batches else text
        longer = len(text.context) - len(first.context)
        near = longer <= text.most // _SPREAD and (longer == 0 or len(first.context) > 1)
        if batches and near and text.least == first.least:
            batches[-1].append(text)
        else:
            batches.append([text])
    return batches
