"""Translating with CTranslate2: the search of `Translator`, run by that library in C++.

What both do alike: candidates of a step, complete hypotheses among the first beam_size of them, the number of complete
hypotheses that ends a search. What differs there, and what is done about it:

- Its score is log p / length^α. For Wu's normalization it ranks by log p itself, and what it returns is ranked again by
  our own `Ranking`. It returns beam_size hypotheses at most, but nothing better is lost: fewer than beam_size were
  complete before the last step, so one of the last step is returned, and what is left out is no longer and no more
  probable than that one.
- Tokens that are never written are taken out before its softmax, which changes the other probabilities, and after ours.
  So nothing is taken out, but in a greedy search whose scores nobody looks at: there the tokens stay the same.
- It limits the length of a whole batch.

A sentence is searched again by `otherwise` where its translation is not complete within its own limit, and where one of
its hypotheses has a token that is never written. Where that happens often, `otherwise` does all that follows. A greedy
search whose scores nobody looks at needs neither: its translation is cut at the limit. What can't be seen are such
tokens in hypotheses that were given up: they could have taken the place of another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.decoding.line_translator import Candidate, Job, LineTranslator, TranslatorSettings
from nlpcli.decoding.search_settings import BeamSettings
from nlpcli.text import Tokenizer

_ALMOST_ZERO = 1e-30
"""α for log-probabilities themselves: with 0 its search would end by another rule."""
_TRIED, _OFTEN = 64, 0.25
"""`otherwise` does everything once this share of so many sentences was searched again."""


def unsupported(settings: TranslatorSettings) -> list[str]:
    """What of the settings this translator lacks, as options of the command."""
    search = settings.search
    if not isinstance(search, BeamSettings):
        return ["--sample"]
    ranking, limits = search.ranking, search.constraints
    lacking = {
        "--coverage-penalty": ranking.coverage_penalty,
        "--min-length": limits.min_length,
        "--no-repeat-ngram": limits.no_repeat_ngram,
        "--repetition-penalty": limits.repetition_penalty != 1.0,
        "--beam-patience inf": math.isinf(search.enough),
        "--beam-patience with --beam-size 1": search.beam_size == 1 < search.enough,
        "--n-best with --length-normalization wu": search.n_best > 1 and ranking.normalization == "wu",
        "--length-penalty below 0 with --length-normalization wu": ranking.length_penalty < 0
        and ranking.normalization == "wu",
        "--alignments": settings.alignments,
    }
    return [name for name, wanted in lacking.items() if wanted]


@dataclass(frozen=True)
class CTranslate2Model:
    """A model as CTranslate2 has it.

    library: its translator. names: of all ids there. rows: how many positions the folder has, and positions: how many
    the model has; None where nothing limits them.
    """

    library: Any  # a ctranslate2.Translator, which is imported only where it is installed
    names: Sequence[str]
    rows: int | None
    positions: int | None


class CTranslate2Translator(LineTranslator):
    """Translates with a model of CTranslate2; see `LineTranslator` for more.

    otherwise: gives what searches where this can't. The settings are none of those that are `unsupported`.
    """

    def __init__(
        self,
        model: CTranslate2Model,
        tokenizer: Tokenizer,
        settings: TranslatorSettings,
        *,
        otherwise: Callable[[], LineTranslator],
        warn: Callable[[str], None] | None = None,
        source_tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__(tokenizer, settings, positions=model.positions, warn=warn, source_tokenizer=source_tokenizer)
        assert isinstance(settings.search, BeamSettings)
        self._library, self._names, self._rows = model.library, model.names, model.rows
        self._ids = {name: id_ for id_, name in enumerate(model.names)}
        self._otherwise = otherwise
        self._beam = settings.search
        self._never = frozenset(self._beam.constraints.suppress)
        self._takes_out = self._beam.beam_size == 1 and not settings.scores
        self._alpha = _alpha(self._beam.ranking)
        self._searched = self._again = 0  # sentences, and those of them that were searched again

    def search(self, jobs: Sequence[Job]) -> list[tuple[Candidate, ...]]:
        """See `LineTranslator.search`."""
        if self._searched >= _TRIED and self._again > _OFTEN * self._searched:
            return self._otherwise().search(jobs)
        limits = [self._own_limit(job) for job in jobs]
        results = self._results(jobs, max(limits))
        found = [self._found(*each) for each in zip(jobs, results, limits, strict=True)]
        again = [place for place, hypotheses in enumerate(found) if hypotheses is None]
        self._searched += len(jobs)
        self._again += len(again)
        candidates = [self.candidates(one or (), [[*h.ids] for h in one or ()], None) for one in found]
        if again:
            others = self._otherwise().search([jobs[place] for place in again])
            for place, other in zip(again, others, strict=True):
                candidates[place] = other
        return candidates

    def _own_limit(self, job: Job) -> int:
        """How many tokens a translation may have before its end, which needs a position, too."""
        rows = math.inf if self._rows is None else self._rows
        return min(self.limit(job), int(min(rows - 1, 2**30)))

    def _results(self, jobs: Sequence[Job], limit: int) -> Any:
        beam, names = self._beam, self._names
        own_ranking = beam.beam_size == 1 or beam.ranking.normalization == "average"
        return self._library.translate_batch(
            [[names[id_] for id_ in job.source[:-1]] for job in jobs],  # the library adds the end
            beam_size=beam.beam_size,
            patience=beam.enough / beam.beam_size,
            num_hypotheses=beam.n_best if own_ranking else beam.beam_size,
            length_penalty=self._alpha,
            suppress_sequences=[[names[id_]] for id_ in sorted(self._never)] if self._takes_out else None,
            max_input_length=0,
            max_decoding_length=limit + 1,
            min_decoding_length=0,
            return_scores=not self._takes_out,  # without them the library computes no softmax
            return_end_token=True,
        )

    def _found(self, job: Job, result: Any, limit: int) -> list[Hypothesis] | None:
        """The n best of a sentence, None where our own search might find others."""
        positions_suffice = limit == self.limit(job)
        return self._cut(result, limit) if self._takes_out and positions_suffice else self._hypotheses(result, limit)

    def _cut(self, result: Any, limit: int) -> list[Hypothesis]:
        """What greedy search found of a sentence up to its limit, which its batch may exceed."""
        [tokens] = result.hypotheses
        ids = [self._ids[token] for token in tokens]
        ended = ids[-1] == self.tokenizer.special.eos
        ids = ids[:-1] if ended else ids
        ended = ended and len(ids) <= limit
        return [Hypothesis(tuple(ids[:limit]), math.nan, math.nan, ended)]

    def _hypotheses(self, result: Any, limit: int) -> list[Hypothesis] | None:
        """See `_found`."""
        found = []
        for tokens, score in zip(result.hypotheses, result.scores or [math.nan], strict=True):
            ids = [self._ids[token] for token in tokens]
            if not self._never.isdisjoint(ids):
                return None
            ended = bool(ids) and ids[-1] == self.tokenizer.special.eos
            logprob = score * float(len(ids)) ** self._alpha
            own = self._beam.ranking.score(logprob, len(ids))
            found.append(Hypothesis(tuple(ids[:-1] if ended else ids), own, logprob, ended))
        best = sorted(found, key=lambda hypothesis: hypothesis.score, reverse=True)[: self._beam.n_best]
        return best if all(one.ended and len(one.ids) <= limit for one in best) else None


def _alpha(ranking: Ranking) -> float:
    """The exponent of the length by which the library ranks; the mean log-probability is its own ranking."""
    alpha = ranking.length_penalty if ranking.normalization == "average" else 0.0
    return alpha or _ALMOST_ZERO
