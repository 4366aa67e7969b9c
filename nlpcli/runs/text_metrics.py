"""Metrics of language models on a dev text: loss, perplexity and bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.data.shard_set import ShardSet
    from nlpcli.text import Tokenizer

MEASURED = ("loss", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
"""The metrics that `text_metrics` gives."""


def text_metrics(
    losses: Iterable[Any],
    shards: ShardSet,
    tokenizer: Tokenizer,
    signatures: dict[str, str],
    *,
    window: int | None = None,
    stride: int | None = None,
    memory: str = "",
    streams: int = 1,
) -> dict[str, float]:
    """Loss, perplexity per token, word and byte, and bits per byte of the text in `shards`; `signatures` has their
    signatures.

    losses: the `Loss` parts that together cover the text once; window, stride, memory, streams: how it was cut and what
    was remembered, see `PerplexityProtocol`.
    """
    from nlpcli.evaluation.perplexity import PerplexityProtocol, perplexity

    nats, tokens = 0.0, 0
    for loss in losses:
        nats += float(loss.nll)
        tokens += loss.count
    protocol = PerplexityProtocol(window, stride, f"{tokenizer.kind}-{tokenizer.vocab_size}", memory, streams)
    scores = perplexity(
        nats, tokens=tokens, words=max(1, shards.text_words), bytes=max(1, shards.text_bytes), protocol=protocol
    )
    signatures.update({name: score.signature for name, score in scores.items()})
    return {name: score.value for name, score in scores.items()}
