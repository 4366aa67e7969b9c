"""Texts and pairs of texts as an encoder, or a model under a head, reads them: whole, with their special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nlpcli.commands.visualize_attention.readable_tokens import Part, behind_global_tokens, side
from nlpcli.commands.visualize_attention.request import (
    AttentionInput,
    OpenedModel,
    RecordedPass,
    not_possible,
    truncated,
    view,
)
from nlpcli.data.examples import Example
from nlpcli.errors import unknown
from nlpcli.models.backbone import OWN
from nlpcli.models.padded_batch import Rows, stack
from nlpcli.tasks import TASKS
from nlpcli.tasks.input_layout import Layout, cut
from nlpcli.visualization.attention_data import Side
from nlpcli.visualization.capture import capture


def read_rows(opened: OpenedModel, given: AttentionInput) -> RecordedPass:
    """Sites: "encoder", of XLNet "content", of decoders "decoder"; all three of an encoder-decoder under a head.

    The rows of a decoder are the tokens it reads: under a head it predicts no text.
    """
    parts = laid_out(opened, given)
    tokens = side(opened.loaded.tokenizer, parts)
    rows = rows_of(opened, parts)
    with capture(opened.model, gradients=opened.job.gradient) as recorded:
        if opened.model is opened.body:
            states = opened.model(rows.ids, rows.mask, rows.segments)
            gradient_target, gradient_target_name = _own_gradient_target(opened, states, rows.ids, tokens)
        else:
            output = opened.model(rows)
            gradient_target, gradient_target_name = head_gradient_target(opened, output, ordinary(tokens))
    read = tokens
    if opened.body.direction == "source-to-target" and opened.model.side == "decoder":
        start = side(opened.loaded.tokenizer, [Part([opened.model.start], special=True)])
        read = _moved(tokens, start)
    read_by_encoder = behind_global_tokens(opened.loaded.config.global_token_count, tokens)
    left_to_right = opened.body.direction == "left-to-right"
    views = [
        *view("encoder", read_by_encoder, read_by_encoder, recorded.get("encoder", [])),
        *view("decoder", read, read, recorded.get("decoder", [])),
        *view("cross", read, tokens, recorded.get("cross", [])),
        *view("decoder" if left_to_right else "content", tokens, tokens, recorded.get(OWN, [])),
    ]
    return RecordedPass(
        views, texts_of(given), gradient_target=gradient_target, gradient_target_name=gradient_target_name
    )


def texts_of(given: AttentionInput) -> dict[str, str]:
    """The texts that were read, by part."""
    return {"text": given.text} if given.second is None else {"a": given.text, "b": given.second}


def laid_out(opened: OpenedModel, given: AttentionInput) -> list[Part]:
    """One or two texts with the special tokens of the model's layout; long texts are cut, with a warning."""
    tokenizer = opened.loaded.tokenizer
    layout = Layout.of(opened.loaded.config, tokenizer.special, opened.loaded.info)
    kept = read_texts(opened, given, layout)
    first, last = ("", "") if len(kept) == 1 else ("a", "b")
    parts = [Part(layout.start, True, first), Part(kept[0], False, first)]
    if len(kept) > 1:
        parts += [Part(layout.between, True, first), Part(kept[1], False, last)]
    parts.append(Part(layout.end, True, last))
    if not any(part.ids for part in parts):
        return [Part(layout.empty or (tokenizer.special.eos,), True)]
    return parts


def read_texts(opened: OpenedModel, given: AttentionInput, layout: Layout) -> list[Sequence[int]]:
    """The ids of one or two texts without special tokens; texts that are too long are cut, with a warning."""
    texts = [given.text] if given.second is None else [given.text, given.second]
    ids = layout.encode(opened.loaded.tokenizer, texts)
    room = layout.room(len(texts), opened.limit)
    total = sum(map(len, ids))
    if total > room:
        opened.warn(truncated(given.place, total, room))
    return cut(ids, room)


def rows_of(opened: OpenedModel, parts: list[Part]) -> Rows:
    """The result of `laid_out` as tensors."""
    config, special = opened.loaded.config, opened.loaded.tokenizer.special
    layout = Layout.of(config, special, opened.loaded.info)
    texts = [part.ids for part in parts if not part.special]
    row = layout.row(*texts)
    return stack([row], special.pad, segments=config.segment_count > 1).to(opened.device)


def _moved(tokens: Side, start: Side) -> Side:
    """`tokens` moved by one place, after a start."""
    return Side(
        (*start.tokens, *tokens.tokens[:-1]),
        (*start.words, *tokens.words[:-1]),
        (*start.special, *tokens.special[:-1]),
        (tokens.groups[0], *tokens.groups[:-1]) if tokens.groups else (),
    )


# --- what is differentiated --------------------------------------------------------------------------------------


def _own_gradient_target(opened: OpenedModel, states: torch.Tensor, ids: torch.Tensor, tokens: Side) -> tuple[Any, str]:
    """For a model without a head: the log-probability of the tokens themselves, the special ones not counted."""
    if not opened.job.gradient:
        return None, ""
    model = opened.model
    if getattr(model, "mlm_head", None) is None:
        hint = "add --order (XLNet predicts tokens in a factorization order)" if opened.body.permutes else None
        raise not_possible(opened, "gradient times attention", "the model makes no prediction", hint)
    logits = model.logits(model.mlm_hidden(states[0]))
    return log_probability(logits, ids[0], ordinary(tokens)), "log-probability of the tokens"


def head_gradient_target(opened: OpenedModel, output: torch.Tensor, words: Sequence[int]) -> tuple[Any, str]:
    """For the output of a head: the logit of the predicted or chosen label, a score, or the logits of all predictions.

    words: the places of tokens that are not special.
    """
    job = opened.job
    if not job.gradient:
        return None, ""
    head, problem = opened.model.head, opened.loaded.info.get("problem") or {}
    labels = list(problem.get("labels") or ())
    if head.output_of == "text" and output.size(-1) == len(labels) > 1:
        if job.label is not None and job.label not in labels:
            raise unknown("label of this model", job.label, labels)
        index = int(output[0].argmax()) if job.label is None else labels.index(job.label)
        return output[0, index], f"logit of the {'predicted ' * (job.label is None)}label '{labels[index]}'"
    if job.label is not None:
        raise not_possible(
            opened, f"the label '{job.label}'", "the model predicts no label for a text", "leave out --target-label"
        )
    if head.output_of == "text":
        return output[0].max(), "score"
    if head.output_of == "tokens":
        if not TASKS.load(opened.loaded.info["task"]).by_words:  # start and end of an answer
            return output[0].amax(dim=0).sum(), "logits of the answer's first and last token"
        return output[0][words].amax(dim=-1).sum(), "logits of the predicted tags"
    raise not_possible(opened, "gradient times attention", "the model computes vectors and makes no prediction")


def log_probability(
    logits: torch.Tensor, targets: torch.Tensor, counted: list[int] | slice = slice(None)
) -> torch.Tensor:
    """Σ_t log p(target_t) over the places `counted`, in nats, of logits (n, vocab) and targets (n,)."""
    return logits[counted].log_softmax(-1).gather(-1, targets[counted][:, None]).sum()


def ordinary(tokens: Side) -> list[int]:
    """The places of tokens that are not special."""
    return [place for place, special in enumerate(tokens.special) if not special]


def item_and_answer(opened: OpenedModel, given: AttentionInput) -> tuple[Any, list[int]]:
    """A text as a text-to-text task puts it, and the ids of the answer that is given, or that the model writes."""
    task = opened.task
    texts = (given.text,) if given.second is None else (given.text, given.second)
    [[item]] = task.encode([Example(texts, given.target, place=given.place)])
    if given.target is not None:
        return item, list(item.target)
    with torch.no_grad():
        [answer] = task.outputs(opened.model, task.collate([item]).to(opened.device))
    return item, list(answer)
