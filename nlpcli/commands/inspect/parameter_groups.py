"""Where a model's parameters are: embeddings, attention, feed-forward layers, norms, what predicts, a task's head."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nlpcli.models.layer_groups import depth_groups

if TYPE_CHECKING:
    from torch import nn


_PARTS = (  # the first that fits a parameter's name; {} is the stack it stands in
    (r"^(head|tasks)\.|^layer_(weights|scale)$", "task head"),
    (r"embedding\.(tokens|projection)\.", "token embeddings"),
    (r"embedding\.positions\.|^(en|de)coder\.positions\.|\.encoder\.positions\.", "positions"),
    (r"^words\.", "word encoder"),
    (r"^sentences\.", "sentence encoder"),
    (r"embedding\.segments\.", "segment embeddings"),
    (r"embedding\.norm\.", "embedding norm"),
    (r"^query_embedding$", "initial query state"),
    (r"layers\.\d+\.self_attention\.", "{} self-attention"),
    (r"cross_attention\.", "{} cross-attention"),
    (r"layers\.\d+\.attention\.", "{} self-attention"),
    (r"layers\.\d+\.feed_forward\.", "{} feed-forward"),
    (r"layers\.\d+\.(weight|bias)_", "{} recurrent layers"),
    (r"^attention\.", "attention to past states"),
    (r"^decoder\.bridge\.", "decoder initial state"),
    (r"^decoder\.(readout|combine)\.", "decoder output layer"),
    (r"^output_weight_owner\.|^output(_bias)?$|^adaptive_softmax\.", "vocabulary output"),
    (r"^documents$", "document vectors"),
    (r"^mlm_head\.", "masked-token head"),
    (r"^pooler\.", "pooler"),
    (r"^pair_head\.", "pair head"),
    (r"norm\.", "{} norms"),
)


def part_of(name: str, kind: str = "encoder") -> str:
    """The part to which the parameter of that name belongs. kind: of the model, whose only stack it names."""
    bare = name.removeprefix("body.")
    prefix = ""
    if bare.startswith("source_encoder."):
        prefix, bare = "source ", bare.removeprefix("source_encoder.")
    stack = prefix + ("encoder" if bare.startswith("encoder.") else "decoder" if bare.startswith("decoder.") else kind)
    for pattern, part in _PARTS:
        if re.search(pattern, bare):
            return part.format(stack) if "{}" in part else prefix + part
    return "other"


def parameters_by_part(model: nn.Module, kind: str = "encoder") -> dict[str, int]:
    """How many parameters each part has, shared matrices in the first place only; together they are all there are.

    Parameters without a known name are counted by depth, see `nlpcli.models.layer_groups.depth_groups`.
    """
    depth = {id(p): group.name for group in depth_groups(model) for p in group.parameters}
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name, kind)
        if part == "other":
            stack, _, layer = depth[id(parameter)].partition(".")
            part = f"{stack} layers" if layer else stack
        found[part] = found.get(part, 0) + parameter.numel()
    return found


def shared_matrices(model: nn.Module) -> list[list[str]]:
    """The names of parameters that are one matrix under several names, where there are such."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]
