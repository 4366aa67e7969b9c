"""The inputs of a model that distinguishes sentences: the words of each sentence, the sentences of a document."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from nlpcli.attention.hooks import Recorder
from nlpcli.commands.visualize_attention.encoder_inputs import head_gradient_target, read_texts, texts_of
from nlpcli.commands.visualize_attention.readable_tokens import Part, side
from nlpcli.commands.visualize_attention.request import (
    TITLES,
    AttentionInput,
    OpenedModel,
    RecordedPass,
    View,
    not_possible,
)
from nlpcli.models.backbone import SENTENCES, WORDS
from nlpcli.models.padded_batch import Row, stack
from nlpcli.tasks.input_layout import Layout
from nlpcli.visualization.attention_data import Side
from nlpcli.visualization.capture import capture


def read_document(opened: OpenedModel, given: AttentionInput) -> RecordedPass:
    """Sites: "words", whose queries are sentences, named by their numbers from 1; "sentences", with one query.

    Raises: NlpcliError for a model without attention, and for a text without words.
    """
    tokenizer = opened.loaded.tokenizer
    layout = Layout.of(opened.loaded.config, tokenizer.special, opened.loaded.info)
    row = layout.row(*read_texts(opened, given, layout))
    sentences = _sentences(row)
    if not sentences:
        raise not_possible(opened, "a picture of attention", f"{given.place} contains no words")
    with capture(opened.model, gradients=opened.job.gradient) as recorded:
        output = opened.model(stack([row], tokenizer.special.pad).to(opened.device))
    if not recorded:
        raise not_possible(opened, "a picture of attention", "the model has none (model.aggregation is not attention)")
    gradient_target, gradient_target_name = head_gradient_target(
        opened, output, [place for place, number in enumerate(_numbers(row)) if number >= 0]
    )
    numbers = Side(tuple(str(number) for number in range(1, len(sentences) + 1)))
    words = side(tokenizer, [Part(ids, group=name) for ids, name in zip(sentences, numbers.tokens, strict=True)])
    sizes = [len(ids) for ids in sentences]
    views = [
        View(WORDS, TITLES[WORDS], numbers, words, _first(recorded[WORDS]), lambda weights: beside(weights, sizes)),
        View(SENTENCES, TITLES[SENTENCES], Side(("document",)), numbers, _first(recorded[SENTENCES])),
    ]
    return RecordedPass(
        views, texts_of(given), gradient_target=gradient_target, gradient_target_name=gradient_target_name
    )


def _numbers(row: Row) -> list[int]:
    assert row.sentences is not None  # the layout of such a model gives them
    return list(row.sentences)


def _first(recorders: Sequence[Recorder]) -> list[Tensor]:
    """The recording of each layer's first call."""
    return [recorder[0] for recorder in recorders]


def _sentences(row: Row) -> list[list[int]]:
    """The ids of each sentence, without special tokens."""
    numbered = zip(_numbers(row), row.ids, strict=True)
    return [[id_ for _, id_ in own] for number, own in groupby(numbered, lambda pair: pair[0]) if number >= 0]


def beside(weights: Tensor, sizes: list[int]) -> Tensor:
    """From weights of sentences in rows of their own (sentences, heads, 1, longest) to (heads, sentences, words)."""
    found = [
        torch.nn.functional.pad(own[:, 0, :size], (sum(sizes[:number]), sum(sizes[number + 1 :])))
        for number, (own, size) in enumerate(zip(weights, sizes, strict=True))
    ]
    return torch.stack(found, dim=1)
