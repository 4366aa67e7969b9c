"""Looking into a model while it works: the weights of all its attention layers, by kind of attention and by layer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from nlpcli.attention.hooks import Recorder, recording

_LAYER = re.compile(r"^(?:body\.)?(?:(?P<stack>.+)\.)?layers\.\d+\.(?P<kind>\w+)$")
_SITES = {
    ("encoder", "self_attention"): "encoder",
    ("source_encoder.encoder", "self_attention"): "source-encoder",
    ("decoder", "self_attention"): "decoder",
    ("decoder", "cross_attention"): "cross",
}
OWN = "own"
"""The site of a model that is one stack and nothing else, as Transformer-XL and XLNet are."""


@contextmanager
def capture(model: nn.Module, *, gradients: bool = False) -> Iterator[dict[str, list[Recorder]]]:
    """What the attention layers of `model` hand out inside the `with`: for each site a recorder for each layer.

    Sites: "encoder", "decoder", "cross", "source-encoder", `OWN`; the path of the layers for others. A recorder has the
    weights (rows, heads, n, m) of each call of its layer, none where the layer was not called.
    gradients: outputs then have derivatives by these tensors, see `Recorder`; they must be enabled.
    """
    layers = {name: module for name, module in model.named_modules() if hasattr(module, "recorder")}
    with recording(*layers.values(), gradients=gradients) as recorders:
        found: dict[str, list[Recorder]] = {}
        for name, recorder in zip(layers, recorders, strict=True):
            found.setdefault(site_of(name), []).append(recorder)
        yield found


def site_of(name: str) -> str:
    """The site to which the attention layer belongs that a model has under `name`, as named_modules() says it."""
    layer = _LAYER.match(name)
    if layer is None:
        return name
    if layer["stack"] is None:
        return OWN
    return _SITES.get((layer["stack"], layer["kind"]), f"{layer['stack']}.{layer['kind']}")
