"""Looking into a model while it works: the weights of all its attention layers, by kind of attention and by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nlpcli.attention.hooks import Recorder, recording
from nlpcli.models.build import AnyModel


@contextmanager
def capture(model: AnyModel, *, gradients: bool = False) -> Iterator[dict[str, list[Recorder]]]:
    """Records the attention layers of `model` inside the `with`: for each site a recorder for each layer.

    Sites: as `Backbone.attention_sites` names them. A recorder has the weights (rows, heads, n, m) of each call of its
    layer, none where the layer was not called.
    gradients: outputs then have derivatives by these tensors, see `Recorder`; they must be enabled.
    """
    sites = model.body.attention_sites()
    with recording(*(layer for layers in sites.values() for layer in layers), gradients=gradients) as recorders:
        left = iter(recorders)
        yield {site: [next(left) for _ in layers] for site, layers in sites.items()}
