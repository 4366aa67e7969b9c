"""XLNet's two streams under an order of factorisation, and its content stream after a memory."""

from __future__ import annotations

import numpy as np
import torch

from nlpcli.commands.visualize_attention.encoder_inputs import laid_out, log_probability, ordinary, rows_of, texts_of
from nlpcli.commands.visualize_attention.language_model_inputs import after, memory_text, remembered
from nlpcli.commands.visualize_attention.readable_tokens import side
from nlpcli.commands.visualize_attention.request import AttentionInput, OpenedModel, RecordedPass, not_possible, view
from nlpcli.models.backbone import OWN
from nlpcli.visualization.attention_data import Side
from nlpcli.visualization.capture import capture


def read_in_order(opened: OpenedModel, given: AttentionInput) -> RecordedPass:
    """Sites: "content" and "query".

    A row of the query stream predicts the token that names it, out of those before it in the order; the content stream
    sees that token, too. In a random order special tokens come last. What the last layer's content stream sees has no
    part in the predictions: there is no gradient of it.
    """
    job, model = opened.job, opened.body
    parts = laid_out(opened, given)
    memory, before = remembered(opened, given)
    own, keys = after(before, side(opened.loaded.tokenizer, parts))
    rows = rows_of(opened, parts)
    assert job.order is not None  # an order is what this reader is chosen for
    rank = ranks(own, job.order, job.seed)
    order = torch.from_numpy(rank).to(opened.device)
    visible = (order[None, :] < order[:, None])[None]  # (1, n, n)
    places = torch.arange(len(own), device=opened.device)[None]
    with capture(model, gradients=job.gradient) as recorded:
        states, _ = model.permutation_hidden(rows.ids, visible, places, memory, segments=rows.segments)
    query, content = (view(name, own, keys, recorded[OWN], call=call) for call, name in enumerate(("query", "content")))
    gradient_target = None
    if job.gradient:
        gradient_target = log_probability(model.logits(states[0]), rows.ids[0], ordinary(own))
    else:
        with capture(model) as recorded:
            model.hidden(rows.ids, memory, segments=rows.segments, visible=visible)
        content = view("content", own, keys, recorded[OWN])
    notes = {"order": " ".join(own.tokens[place] for place in np.argsort(rank))}
    texts = texts_of(given) | memory_text(opened)
    return RecordedPass(
        [*content, *query], texts, notes, gradient_target, "log-probability of the tokens in this order"
    )


def ranks(tokens: Side, order: str, seed: int) -> np.ndarray:
    """The place of each token in an order of factorisation, from 0: (n,)."""
    if order == "left-to-right":
        return np.arange(len(tokens))
    special = np.flatnonzero(tokens.special)
    shuffled = np.random.default_rng(seed).permutation(np.array(ordinary(tokens), dtype=np.int64))
    return np.argsort(np.concatenate([shuffled, special]))


def read_after_memory(opened: OpenedModel, given: AttentionInput) -> RecordedPass:
    """The content stream after an earlier text. Site: "content"."""
    if opened.job.gradient:
        raise not_possible(opened, "gradient times attention", "only the query stream predicts tokens", "add --order")
    parts = laid_out(opened, given)
    memory, before = remembered(opened, given)
    own, keys = after(before, side(opened.loaded.tokenizer, parts))
    rows = rows_of(opened, parts)
    with capture(opened.body) as recorded:
        opened.body.hidden(rows.ids, memory, segments=rows.segments)
    return RecordedPass(view("content", own, keys, recorded[OWN]), texts_of(given) | memory_text(opened))
