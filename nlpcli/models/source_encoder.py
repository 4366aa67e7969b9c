"""A new encoder below a pretrained one, for translation from a language that is new to it (Lewis et al. 2020, 3.4).

The new encoder reads ids of its own vocabulary; its states take the place of the token embeddings in the pretrained
encoder, which adds its positions as ever. So the pretrained model is taught to read the other language as if it were a
noisy form of its own.
"""

from __future__ import annotations

from torch import Tensor, nn

from nlpcli.attention.masks import AttentionMask
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.initialization import initialize
from nlpcli.models.stack import Stack
from nlpcli.models.transformer import EncoderDecoder, embedding_of


class SourceEncoder(nn.Module):
    """(batch, m) ids -> (batch, m, d_model) states: an embedding of `vocab_size` tokens, and a stack of `layers`.

    settings: those of the model it stands under, so that the width is the same.
    """

    def __init__(self, settings: TransformerConfig, *, layers: int, vocab_size: int) -> None:
        super().__init__()
        self.embedding = embedding_of(nn.Embedding(vocab_size, settings.d_model), settings)
        self.encoder = Stack(layers, settings)

    def forward(self, source: Tensor, mask: AttentionMask | None = None) -> Tensor:
        """mask: of padding; None when there is none."""
        return self.encoder(self.embedding(source), mask)


def add_source_encoder(model: EncoderDecoder, config: TransformerConfig, *, layers: int, vocab_size: int) -> None:
    """Puts a new encoder of `layers` layers, which reads ids of another vocabulary, under that of `model`.

    config: that of `model`, whose kind of layers the new ones are.
    """
    encoder = SourceEncoder(config, layers=layers, vocab_size=vocab_size)
    initialize(encoder, scheme=config.initialization, std=config.init_std, layers=layers)
    model.encoder_embedding.tokens = model.decoder_embedding.tokens  # its own is read by nobody any more
    model.source_encoder = encoder


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
