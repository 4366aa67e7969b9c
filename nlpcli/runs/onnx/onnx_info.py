"""The settings of an ONNX model in its model.yaml. Imports no torch."""

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
    """The settings under `onnx` in model.yaml.

    layers, pooling, normalize: how the vector of a text is computed from states; width: its dimension.
    max_length: the most tokens of a text. vector_length: the same for vectors, None: as in the model.
    segments: whether segment ids are an input of the graph. outputs: task -> name of the output of its head; the task
    is "" if there is only one. fingerprint: of the weights (`weights_fingerprint`). pairs_sha256: of pairs.onnx, if it
    exists.
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
    """The settings under `onnx`, None for another model. Raises: NlpcliError for a changed file."""
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
