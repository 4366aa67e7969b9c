"""Running text as a language model reads it: from left to right, after the memory of an earlier text where it has one.

A row is the step that predicts a token, and is named by it; the columns are the tokens read so far. So the first token
is in no row, and the last row is named by what the model holds most probable to follow, with a question mark.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nlpcli.commands.visualize_attention.encoder_inputs import item_and_answer, log_probability, texts_of
from nlpcli.commands.visualize_attention.readable_tokens import Part, readable, side
from nlpcli.commands.visualize_attention.request import AttentionInput, OpenedModel, RecordedPass, truncated, view
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError
from nlpcli.models.backbone import OWN
from nlpcli.runs.decoding_settings import beginning, text_start, window_of
from nlpcli.visualization.attention_data import Side
from nlpcli.visualization.capture import capture

MEMORY, TEXT = "memory", "text"


def read_stream(opened: OpenedModel, given: AttentionInput) -> RecordedPass:
    """A language model on a text. Site: "decoder"."""
    [ids] = opened.loaded.tokenizer.encode([given.text])
    start = text_start(opened.loaded)
    window = window_of(opened.loaded) - len(start)
    if len(ids) > window:
        opened.warn(truncated(given.place, len(ids), window))
    ids = ids[:window]
    if not ids:
        return _stream(opened, given, [Part(beginning(opened.loaded), special=True)])
    return _stream(opened, given, [*([Part(start, special=True)] if start else []), Part(ids)])


def read_prompt(opened: OpenedModel, given: AttentionInput) -> RecordedPass:
    """A language model tuned to answer in the stream it reads: a text, and its answer, given or written."""
    item, answer = item_and_answer(opened, given)
    start = len(opened.task.layout.start)
    prompt = [Part(item.source[:start], True, "source"), Part(item.source[start:], False, "source")]
    return _stream(opened, given, [*prompt, Part(answer, False, "target")])


def _stream(opened: OpenedModel, given: AttentionInput, parts: Sequence[Part]) -> RecordedPass:
    tokenizer, model = opened.loaded.tokenizer, opened.body
    memory, before = remembered(opened, given)
    ids = opened.tensor([id_ for part in parts for id_ in part.ids])
    with capture(model, gradients=opened.job.gradient) as recorded:
        hidden = model.hidden(ids, memory)[0] if model.has_memory else model.hidden(ids)
    logits = model.logits(hidden[0])
    own, keys = after(before, side(tokenizer, parts))
    guess = readable(tokenizer, int(logits[-1].argmax())) + "?"
    views = view("decoder", _following(own, guess), keys, recorded.get("decoder") or recorded.get(OWN, []))
    gradient_target = None
    if opened.job.gradient:
        if ids.size(1) < 2:
            raise NlpcliError(
                f"{given.place}: the text has only one token, but --gradient needs at least 2, because it "
                "differentiates the log-probability of the next tokens"
            )
        gradient_target = log_probability(logits[:-1], ids[0, 1:])
    texts = texts_of(given) | memory_text(opened)
    return RecordedPass(
        views,
        texts,
        gradient_target=gradient_target,
        gradient_target_name="log-probability of all tokens but the first",
    )


def _following(own: Side, guess: str) -> Side:
    """The tokens that are predicted where those of `own` have been read."""
    return Side(
        (*own.tokens[1:], guess),
        (*own.words[1:], -1),
        (*own.special[1:], True),
        (*own.groups[1:], own.groups[-1]) if own.groups else (),
        own.positions,
    )


# --- memory ------------------------------------------------------------------------------------------------------


def remembered(opened: OpenedModel, given: AttentionInput) -> tuple[list[torch.Tensor] | None, Side | None]:
    """The memory of each layer after the earlier text, and the text's tokens; None where there is none."""
    if opened.job.memory is None:
        return None, None
    tokenizer, model = opened.loaded.tokenizer, opened.body
    [ids] = tokenizer.encode([opened.job.memory])
    if not ids:
        return None, None
    length = model.memory_length
    if len(ids) > length:
        opened.warn(
            f"{given.place}: the earlier text has {counted(len(ids), 'token')}, "
            f"but the memory contains only the last {length:,}"
        )
    with torch.no_grad():
        _, memory = model.hidden(opened.tensor(ids))
    return memory, side(tokenizer, [Part(ids[-length:], group=MEMORY)])


def memory_text(opened: OpenedModel) -> dict[str, str]:
    """The earlier text, by its part."""
    return {} if opened.job.memory is None else {MEMORY: opened.job.memory}


def after(before: Side | None, own: Side) -> tuple[Side, Side]:
    """The tokens read, and all that they may attend to: those of the memory, and themselves.

    Words and positions are counted on.
    """
    if before is None:
        return own, own
    count = max(before.words, default=-1) + 1
    words = tuple(word if word < 0 else word + count for word in own.words)
    places = tuple(range(len(before), len(before) + len(own)))
    own = Side(own.tokens, words, own.special, (TEXT,) * len(own), places)
    keys = Side(
        before.tokens + own.tokens, before.words + words, before.special + own.special, before.groups + own.groups
    )
    return own, keys
