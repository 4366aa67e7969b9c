"""A source that is read and a target that is written: all three kinds of attention of an encoder-decoder.

A row of the decoder and of the cross-attention is the step that predicts a token, and is named by it, as in matrices of
alignment; the last one predicts the end. The decoder's columns are the tokens it has read: the start and the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nlpcli.config.generation import Generation
from nlpcli.decoding.beam import beam_search
from nlpcli.decoding.generation import generate
from nlpcli.decoding.translator import TranslatorSettings
from nlpcli.errors import NlpcliError
from nlpcli.objectives.pairs import source_ids
from nlpcli.recipes.generation import generation_of
from nlpcli.recipes.looking.asked import Given, Opened, Seen, view
from nlpcli.recipes.looking.rows import asked_and_answered, log_probability
from nlpcli.recipes.looking.tokens import Part, side
from nlpcli.recipes.translate import Search, search_settings
from nlpcli.visualization.capture import capture


@dataclass(frozen=True)
class _Pair:
    """What encoder and decoder read. source_start, target_start: ids before them; target: without its end."""

    source_start: Sequence[int]
    source: Sequence[int]
    target_start: Sequence[int]
    target: Sequence[int]


def read_pair(opened: Opened, given: Given) -> Seen:
    """Sites: "encoder", "decoder", "cross", and "source-encoder" where the model has one."""
    writes, reads = opened.writes, opened.reads
    pair = _tuned_pair(opened, given) if opened.task is not None else _pair(opened, given)
    source = opened.tensor([*pair.source_start, *source_ids(pair.source, reads.special)])
    target = opened.tensor([*pair.target_start, *pair.target])
    with capture(opened.model, gradients=opened.job.gradient) as recorded:
        hidden = opened.model.hidden(source, None, target)
    end = writes.special.eos
    read = [Part(pair.source_start, True), Part(pair.source), Part([reads.special.eos], True)]
    sources = side(reads, read)
    columns = side(writes, [Part(pair.target_start, True), Part(pair.target)])
    first = len(pair.target_start) - 1  # of several ids at the start none is predicted
    rows = side(writes, [Part(pair.target_start[1:], True), Part(pair.target), Part([end], True)])
    views = [
        *view("source-encoder", sources, sources, recorded.get("source-encoder", [])),
        *view("encoder", sources, sources, recorded["encoder"]),
        *view("decoder", rows, columns, recorded["decoder"]),
        *view("cross", rows, sources, recorded["cross"]),
    ]
    goal = None
    if opened.job.gradient:
        logits = opened.model.logits(hidden[0, first:])
        goal = log_probability(logits, opened.tensor([*pair.target, end])[0])
    written = given.target if given.target is not None else writes.decode([list(pair.target)])[0]
    notes = {"target": "given" if given.target is not None else "written by the model"}
    return Seen(views, {"source": given.text, "target": written}, notes, goal, "log-probability of the target")


def _pair(opened: Opened, given: Given) -> _Pair:
    """As `nlpcli translate` reads and writes."""
    info, model = opened.loaded.info, opened.model
    writes, reads = opened.writes, opened.reads
    start = list(info.get("source_start", ()))
    [source] = reads.encode([given.text])
    longest = opened.limit - len(start) - 1
    if len(source) > longest:
        opened.warn(f"{given.place}: cut to {longest} of its {len(source)} tokens, more than the model reads")
    source = source[:longest]
    target_start = list(info.get("target_start", ())) or [writes.special.bos]
    generation = generation_of(opened.loaded, {}, warn=opened.warn)
    if generation is not None:
        first = generation.forced_bos_token_id
        target_start = [generation.start, *([] if first is None else [first])]
    if given.target is None:
        target = _written(opened, start, source, target_start, generation)
    else:
        [target] = writes.encode([given.target])
        room = math.inf if model.max_length is None else model.max_length - len(target_start)
        if len(target) > room:
            raise NlpcliError(
                f"{given.place}: its target has {len(target)} tokens, and the model has positions for {room}",
                hint="give a shorter one",
            )
    return _Pair(start, source, target_start, target)


@torch.no_grad()
def _written(
    opened: Opened, start: list[int], source: list[int], target_start: list[int], generation: Generation | None
) -> list[int]:
    """The best target that beam search finds, with the beam the model was measured with in training.

    generation: decoding settings from a Hugging Face folder, which replace it.
    """
    model, special, usual = opened.model, opened.writes.special, TranslatorSettings()
    read = [*start, *source_ids(source, opened.reads.special)]
    state = model.init_state(model.encode(opened.tensor(read)))
    most = math.ceil(usual.length_factor * len(source)) + usual.length_constant
    if generation is not None:
        limits, first = [generation.new_tokens(1, most + 1)], target_start[:1]
        [[best, *_]] = generate(model, state, [first], generation, limits=limits, special=special, sources=[read])
        return list(best.ids[len(target_start) - 1 :])  # which begin with what is forced
    [hypotheses] = beam_search(
        model,
        state,
        [target_start],
        eos=special.eos,
        max_length=[most],
        room_for_end=True,
        settings=search_settings(Search(), special, opened.loaded.info.get("decoding", {})),
    )
    return list(hypotheses[0].ids) if hypotheses else []


def _tuned_pair(opened: Opened, given: Given) -> _Pair:
    """As `nlpcli predict` reads and writes, with the words that put the task."""
    task = opened.task
    item, target = asked_and_answered(opened, given)
    begin = len(task.layout.start)
    return _Pair(item.source[:begin], item.source[begin:], task.start, target)
