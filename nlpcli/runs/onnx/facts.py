"""What model.yaml says of a model in the ONNX format. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.loading import Strict, parse
from nlpcli.models.model_folder import DESCRIPTION

if TYPE_CHECKING:
    from torch import nn


class OnnxFacts(Strict):
    """What model.yaml says under `onnx`.

    layers, pooling, normalize: how the vector of a text is made of states; of a width of `width` numbers.
    max_length: the most tokens of a text. vector_length: the same where vectors are made, None: as the model says.
    segments: whether the graph has kinds of segments as an input. outputs: the name of the output of each task's head,
    by the name of the task, "" where there is one task. fingerprint: of the weights (`weights_fingerprint`).
    pairs_sha256: of pairs.onnx, where there is one.
    """

    quantization: str | None
    layers: str
    pooling: str
    normalize: bool
    width: int
    max_length: int
    vector_length: int | None
    segments: bool
    outputs: dict[str, str]
    fingerprint: str
    pairs_sha256: str | None


def facts_of(info: Mapping[str, Any], path: Path) -> OnnxFacts | None:
    """What model.yaml says of the graph, None where the model is no graph. Raises: NlpcliError for a changed file."""
    if "onnx" not in info:
        return None
    return parse(OnnxFacts, info["onnx"], str(Path(path) / DESCRIPTION))


def weights_fingerprint(body: nn.Module) -> str:
    """A digest of the weights of a model without heads; the same wherever the model lies, and in any form."""
    digest = hashlib.sha256()
    for name, tensor in sorted(body.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()
