"""Decoding as `model.generate` of `transformers` does it, for models that come from a Hugging Face folder.

Greedy search and sampling are those of this program, with other rules (`nlpcli.decoding.logits_processors`). Beam
search is another: its hypotheses are ranked by log p / length^penalty, the end counted; those that reach the length
limit compete with those that ended; and `early_stopping` defines when a sentence is finished:

- true: as soon as there are as many finished hypotheses as beams;
- false: when the best live hypothesis, at its present length, ranks below the worst finished one;
- "never": when it would, at the length that favors it most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nlpcli.config.counting import counted
from nlpcli.config.generation_settings import Generation
from nlpcli.decoding.autoregressive import ContextShift, Watch, roll_out
from nlpcli.decoding.greedy import most_probable
from nlpcli.decoding.hypothesis import Hypothesis
from nlpcli.decoding.logits_processors import GenerationRules
from nlpcli.decoding.prefixes import device_of, length_limits
from nlpcli.decoding.sampling import SamplingSettings, sampler
from nlpcli.decoding.stop_conditions import Stop, StopConditions
from nlpcli.errors import NlpcliError
from nlpcli.models.decodable import Decodable
from nlpcli.text import SpecialTokens

_NEVER = -1e9  # the score of what is not there, as in `transformers`


@dataclass(frozen=True)
class GenerationInputs:
    """The inputs of each row of a batch: one entry per row in every field that is not None.

    limits: the most new tokens, the end counted; sources: what the encoder read, None for a decoder; streams: what
    distinguishes a row's random numbers from those of others, see `sampler`.
    """

    prefixes: Sequence[Sequence[int]]
    limits: Sequence[int]
    sources: Sequence[Sequence[int]] | None = None
    streams: Sequence[tuple[int, ...]] | None = None


@dataclass(frozen=True)
class HuggingFaceDecoder:
    """Continues texts as `model.generate` does with these settings.

    n_best: hypotheses of a beam search; seed: of samples. An end that the tokenizer takes for text (it is not among
    `special`) stays part of the text.
    """

    settings: Generation
    special: SpecialTokens
    n_best: int = 1
    seed: int = 1

    @torch.inference_mode()
    def generate(
        self,
        model: Decodable,
        state: object,
        inputs: GenerationInputs,
        *,
        stop: Stop | None = None,
        context_shift: ContextShift | None = None,
        watch: Watch | None = None,
    ) -> list[list[Hypothesis]]:
        """The continuations of each prefix, best first; for `context_shift` and `watch` see `roll_out`.

        Raises: NlpcliError when a prefix leaves no room.
        """
        settings, prefixes, sources = self.settings, inputs.prefixes, inputs.sources
        beams = settings.num_beams > 1 and not settings.do_sample
        window = model.max_length if context_shift is None else context_shift.window
        shiftable = context_shift is not None and not beams  # the hypotheses of a beam go on from states of their own
        limits = length_limits(inputs.limits, [len(prefix) for prefix in prefixes], window, shiftable=shiftable)
        device = device_of(model)
        rules = GenerationRules(settings, prefixes, limits, prefixes if sources is None else sources, device)
        if beams:
            found = _beams(model, state, prefixes, rules, limits, self.n_best)
            return [[self._with_end(one) for one in hypotheses] for hypotheses in found]
        rows = roll_out(
            model,
            state,
            prefixes,
            StopConditions(settings.ends, limits, stop=stop),
            constraints=rules,
            choose=sampler(self._sampling(), prefixes, inputs.streams) if settings.do_sample else most_probable,
            context_shift=context_shift,
            watch=watch,
        )
        return [[self._with_end(one)] for one in rows]

    def _sampling(self) -> SamplingSettings:
        settings = self.settings
        return SamplingSettings(settings.temperature, settings.top_k, settings.top_p, settings.min_p, self.seed)

    def _with_end(self, hypothesis: Hypothesis) -> Hypothesis:
        end = hypothesis.end
        if end is None or end in self.special.all():
            return hypothesis
        return replace(hypothesis, ids=(*hypothesis.ids, end))


def check_ids(settings: Generation, vocabulary: int, place: object) -> None:
    """Raises: NlpcliError when a setting names an id that a vocabulary of this size lacks."""
    named = {
        "forced_bos_token_id": (settings.forced_bos_token_id,),
        "forced_eos_token_id": settings.forced_ends,
        "decoder_start_token_id": (settings.decoder_start_token_id,),
        "bad_words_ids": [id_ for ids in settings.bad_words_ids for id_ in ids],
        "sequence_bias": [id_ for ids, _ in settings.sequence_bias for id_ in ids],
    }
    for name, ids in named.items():
        for id_ in ids:
            if id_ is not None and id_ >= vocabulary:
                raise NlpcliError(
                    f"{place}: {name} contains the token id {id_}, but the model's vocabulary has only "
                    f"{counted(vocabulary, 'token')}"
                )


def _beams(
    model: Decodable,
    state: object,
    prefixes: Sequence[Sequence[int]],
    rules: GenerationRules,
    limits: Sequence[int],
    n_best: int,
) -> list[list[Hypothesis]]:
    """A beam search for each length of a prefix, since the rows of one search grow together."""
    found: list[list[Hypothesis]] = [[] for _ in prefixes]
    for length in sorted({len(prefix) for prefix in prefixes}):
        places = [place for place, prefix in enumerate(prefixes) if len(prefix) == length]
        own = state
        if len(places) < len(prefixes):
            own = model.reorder(state, torch.tensor(places, device=rules.device))
        search = _BeamSearch(model, own, [prefixes[p] for p in places], rules, places, [limits[p] for p in places])
        for place, hypotheses in zip(places, search.run(), strict=True):
            found[place] = hypotheses[:n_best]
    return found


class _BeamSearch:
    """One batch of prefixes of one length; `beams` consecutive rows of a tensor belong to one sentence."""

    def __init__(
        self,
        model: Decodable,
        state: object,
        prefixes: Sequence[Sequence[int]],
        rules: GenerationRules,
        places: Sequence[int],
        limits: Sequence[int],
    ) -> None:
        settings, device = rules.settings, rules.device
        self.model, self.rules, self.settings, self.device = model, rules, settings, device
        self.beams, self.penalty, self.early = settings.num_beams, settings.length_penalty, settings.early_stopping
        self.prompt = len(prefixes[0])
        self.sentences = torch.arange(len(prefixes), device=device)  # those that are still searched
        self.places = torch.tensor(places, device=device)  # of the sentences in the whole batch
        self.limits = torch.tensor(limits, device=device)
        self.ends = torch.tensor(settings.ends, dtype=torch.long, device=device)
        index = self.sentences.repeat_interleave(self.beams)
        self.state = model.reorder(state, index, self.beams)
        self.history = torch.tensor([list(prefix) for prefix in prefixes], device=device)[index]
        self.live = torch.full((len(prefixes), self.beams), _NEVER, device=device)
        self.live[:, 0] = 0.0  # all beams are the same at first, so only one counts
        self.finished = torch.full_like(self.live, _NEVER)
        self.is_finished = torch.zeros_like(self.live, dtype=torch.bool)
        self.texts: list[list[Hypothesis | None]] = [[None] * self.beams for _ in prefixes]
        self.results: list[list[Hypothesis]] = [[] for _ in prefixes]

    def run(self) -> list[list[Hypothesis]]:
        """The finished hypotheses of each sentence, best first."""
        tokens, written = self.history, 0
        while len(self.sentences):
            written += 1
            logits, self.state = self.model.step(tokens, self.state)
            scores = logits.float().log_softmax(-1)
            rows = self.places[self.sentences].repeat_interleave(self.beams)
            scores = self.rules.apply(scores, self.history, rows).view(len(self.sentences), -1)
            vocabulary = scores.shape[1] // self.beams
            scores = (scores.view(-1, self.beams, vocabulary) + self.live[:, :, None]).flatten(1)
            wanted = max(2, 1 + len(self.ends)) * self.beams
            values, best = scores.topk(min(wanted, scores.shape[1]))
            beams, chosen = best // vocabulary, best % vocabulary
            at_limit = written >= self.limits[self.sentences]
            hits = torch.isin(chosen, self.ends) | at_limit[:, None]
            self._finish(values, beams, chosen, hits, written)
            self.live, order = (values + hits * _NEVER).topk(self.beams)
            done = self._done(written) | hits.all(1)
            tokens = self._advance(beams.gather(1, order), chosen.gather(1, order), done)
        return self.results

    def _finish(self, values: Tensor, beams: Tensor, chosen: Tensor, hits: Tensor, written: int) -> None:
        """Keeps the best of what has just ended and what ended before."""
        new = hits.clone()
        new[:, self.beams :] = False
        ranked = values / written**self.penalty
        if self.early is True:
            ranked = ranked + self.is_finished.all(1, keepdim=True) * _NEVER
        ranked = ranked + ~new * _NEVER
        merged = torch.cat((self.finished, ranked), 1)
        self.finished, order = merged.topk(self.beams)
        self.is_finished = torch.cat((self.is_finished, new), 1).gather(1, order)
        if not bool((order >= self.beams).any()):
            return
        parents = beams + self.beams * torch.arange(len(beams), device=self.device)[:, None]
        columns = zip(self.sentences.tolist(), order.tolist(), merged.tolist(), strict=True)
        for row, (sentence, places, scores) in enumerate(columns):
            texts = self.texts[sentence]
            self.texts[sentence] = [
                texts[place]
                if place < self.beams
                else self._hypothesis(
                    self.history[parents[row, place - self.beams]],
                    int(chosen[row, place - self.beams]),
                    scores[place],
                    float(values[row, place - self.beams]),
                )
                for place in places
            ]

    def _hypothesis(self, history: Tensor, token: int, score: float, logprob: float) -> Hypothesis:
        ids = tuple(history[self.prompt :].tolist())
        ended = token in self.settings.ends
        return Hypothesis(ids if ended else (*ids, token), score, logprob, ended, token if ended else None)

    def _done(self, written: int) -> Tensor:
        """Sentences in which no live hypothesis is expected to do better than the finished ones."""
        length: int | Tensor = written
        if self.early == "never" and self.penalty > 0:
            length = self.limits[self.sentences].float()
        best = self.live[:, 0] / length**self.penalty
        worst = torch.where(self.is_finished, self.finished.amin(1, keepdim=True), _NEVER)
        done = ~(best[:, None] > worst).any(1)
        return done | self.is_finished.all(1) if self.early is True else done

    def _advance(self, beams: Tensor, chosen: Tensor, done: Tensor) -> Tensor:
        """Brings state and history to the live hypotheses, without the sentences that are done; the next tokens."""
        for row in done.nonzero()[:, 0].tolist():
            sentence = int(self.sentences[row])
            texts = zip(self.texts[sentence], self.is_finished[row].tolist(), strict=True)
            self.results[sentence] = [text for text, there in texts if text is not None and there]
            if not self.results[sentence]:  # all rank below what is not there, by a penalty far below 0
                ids = tuple(self.history[row * self.beams, self.prompt :].tolist())
                self.results[sentence] = [Hypothesis(ids, _NEVER, float(self.live[row, 0]), ended=False)]
        stay = (~done).nonzero()[:, 0]
        parents = (beams + self.beams * torch.arange(len(beams), device=self.device)[:, None])[stay].flatten()
        tokens = chosen[stay].flatten()[:, None]
        self.sentences, self.live = self.sentences[stay], self.live[stay]
        self.finished, self.is_finished = self.finished[stay], self.is_finished[stay]
        if len(stay):
            self.state = self.model.reorder(self.state, parents, self.beams)
        self.history = torch.cat((self.history[parents], tokens), 1)
        return tokens
