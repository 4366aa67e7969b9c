"""The first weights, by the scheme of each lineage."""

from __future__ import annotations

import math

from torch import Tensor, nn

from nlpcli.attention.longformer import LongformerAttention
from nlpcli.attention.multi_head import MultiHeadAttention
from nlpcli.layers.feed_forward import FeedForward
from nlpcli.layers.positions import LearnedPositions, RelativeBias
from nlpcli.models.recurrent_layers import initialize_layer
from nlpcli.models.stack import Stack


def initialize(model: nn.Module, *, scheme: str = "xavier", std: float = 0.02, layers: int = 1) -> None:
    """Fills the weights in place; biases become 0, norms 1.

    xavier: matrices uniform after Glorot and Bengio 2010, embeddings normal with deviation d_model^-½, as in the
    Transformer's lineage. normal: everything normal with deviation `std`, and the matrices that write into the
    residual stream divided by √(2 · layers) (Radford et al. 2019). bert: everything normal with deviation `std`, cut
    off at twice that (Devlin et al. 2019). t5: by the fan-in of each matrix, queries smaller by √d_key since
    scores are not scaled, embeddings with deviation 1 (Raffel et al. 2020, through Mesh TensorFlow). Recurrent layers
    begin in one way: `initialize_layer`.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if scheme == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                into_stream = scheme == "normal" and name.endswith(("attention.output", "feed_forward.outer"))
                _normal(module.weight, std / math.sqrt(2 * layers) if into_stream else std, scheme)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            _normal(module.weight, module.embedding_dim**-0.5 if scheme == "xavier" else std, scheme)
        elif isinstance(module, nn.RNNBase):
            initialize_layer(module)
        elif isinstance(module, (LearnedPositions, RelativeBias)):
            _normal(module.weight, std, scheme)
        elif isinstance(module, Stack) and module.global_tokens is not None:
            _normal(module.global_tokens, std, scheme)
    if scheme == "t5":
        _by_fan_in(model)


def _normal(weight: Tensor, std: float, scheme: str) -> None:
    if scheme == "bert":
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
    else:
        nn.init.normal_(weight, std=std)


def _by_fan_in(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            if module.query is not None:
                nn.init.normal_(module.query.weight, std=(module.query.in_features * module.d_key) ** -0.5)
            for matrix in (module.key, module.value, module.output):
                if matrix is not None:
                    nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)
            if isinstance(module, LongformerAttention):
                module.begin_as_local()
        elif isinstance(module, FeedForward):
            for part in (module.inner, module.gate, module.outer):
                if part is not None:
                    nn.init.normal_(part.weight, std=part.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=1.0)
        elif isinstance(module, Stack) and isinstance(module.positions, RelativeBias):
            width = module.layers[0].self_attention.value.in_features
            nn.init.normal_(module.positions.weight, std=width**-0.5)
