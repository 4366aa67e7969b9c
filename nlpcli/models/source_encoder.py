"""A new encoder under a pretrained one, for translating out of a language it does not know (Lewis et al. 2020, 3.4).

The new encoder reads ids of its own vocabulary; its states take the place of the token embeddings in the pretrained
encoder, which adds its positions as ever. So the pretrained model is taught to read the other language as if it were a
noisy form of its own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nlpcli.attention.masks import AttentionMask
from nlpcli.models.stack import Stack
from nlpcli.models.transformer import EncoderDecoder, embedding_of


class SourceEncoder(nn.Module):
    """(batch, m) ids -> (batch, m, d_model) states: an embedding of `vocab_size` pieces, and a stack of `layers`.

    embedding, stack: as those of the model it stands under, so that the width is the same.
    """

    def __init__(self, *, vocab_size: int, layers: int, embedding: dict[str, Any], stack: dict[str, Any]) -> None:
        super().__init__()
        self.embedding = embedding_of(nn.Embedding(vocab_size, stack["d_model"]), embedding, stack)
        self.encoder = Stack(layers, **stack)

    def forward(self, source: Tensor, mask: AttentionMask | None = None) -> Tensor:
        """mask: of padding; None when there is none."""
        return self.encoder(self.embedding(source), mask)


def first_stage(model: EncoderDecoder) -> list[str]:
    """The names of what learns in the first of the paper's two stages, while the rest of the pretrained model is still.

    That is the new encoder, the pretrained positions, and what projects the input of the first encoder layer's
    attention.
    """
    projections = {f"encoder.layers.0.self_attention.{name}" for name in ("query", "key", "value")}
    positions = {"encoder_embedding.positions", "decoder_embedding.positions", "encoder.positions", "decoder.positions"}
    return [
        name
        for name, _ in model.named_parameters()
        if name.startswith("source_encoder.") or name.rpartition(".")[0] in projections | positions
    ]
