"""Where a run begins: the weights, the tokenizer and the shape of a model that is there already."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.files import real_path
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.temporary_files import find_finished
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from types import ModuleType

    from nlpcli.models.build import AnyModel
    from nlpcli.models.model_with_head import WithHead

_HEADS = ("mlm_head.", "pooler.", "pair_head.", "output_weight_owner.", "output_bias", "query_embedding")
_SOURCE = "source_encoder."
_SETTINGS = ("read_from", "source_start", "target_start", "text_start", "document_end", "pooling", "generation")
"""Entries of a folder's description that tasks use."""


@dataclass(frozen=True)
class InitialModel:
    """A model to begin with: `weights` of its body under the names of a model without a task's head."""

    path: Path
    config: ModelConfig
    weights: Mapping[str, Any]
    tokenizer: Any  # None for a model that came without one
    info: dict[str, Any]
    problem: dict[str, Any]  # of the task it was tuned for before, if any
    head: dict[str, Any]  # that task's head: its settings
    head_weights: Mapping[str, Any]
    vocab_size: int = 0  # how many tokens the model has vectors for
    source_tokenizer: Any = None  # of a model that reads sources with another one


def open_initial_model(path: str) -> InitialModel:
    """The model in a run's folder or a Hugging Face folder. Raises: NlpcliError as `open_model`."""
    folder = Path(path)
    files = [file for file in find_finished(folder, "*") if file.is_file()]
    changed = tuple(sorted((file.name, file.stat().st_mtime_ns) for file in files))
    return _opened(path, real_path(folder), changed)


@functools.lru_cache(maxsize=1)  # read for its shape first, then for its weights
def _opened(path: str, resolved: Path, changed: tuple[tuple[str, int], ...]) -> InitialModel:
    from nlpcli.runs.open_model import open_model

    found = open_model(Path(path), needs_tokenizer=False)
    weights = found.model.state_dict()
    head = found.info.get("head") or {}
    own = {name: tensor for name, tensor in weights.items() if name.startswith("head.")} if head else {}
    body = {name.removeprefix("body."): t for name, t in weights.items() if name.startswith("body.")}
    info = {key: found.info[key] for key in _SETTINGS if key in found.info} | _pooling(Path(path), head)
    return InitialModel(
        Path(path), found.config, body if head else weights, found.own_tokenizer, info,
        dict(found.info.get("problem") or {}), dict(head), own, found.vocab_size, found.source_tokenizer,
    )  # fmt: skip


def _pooling(path: Path, head: Mapping[str, Any]) -> dict[str, str]:
    """How a model makes vectors, where it was tuned to, here or by sentence-transformers."""
    from nlpcli.convert.sentence_transformers_in import pooling_of

    if head.get("kind") == "vector":
        return {"pooling": head["pooling"]}
    try:
        pooling = pooling_of(path)
    except NlpcliError:  # of no matter for most tasks; `nlpcli embed` reports it
        return {}
    return {} if pooling is None else {"pooling": pooling}


def info_of(run: Path) -> dict[str, Any]:
    """The description of the model that the resumed run was initialized with, from the run's own folder."""
    from nlpcli.models.model_folder import DESCRIPTION, read_info

    info = read_info(run) if (run / DESCRIPTION).exists() else {}
    return {key: info[key] for key in _SETTINGS if key in info}


def body_config(config: ModelConfig) -> ModelConfig:
    """A model as the body under a task's head: without the heads of its pretraining."""
    return config.without_pretraining_heads()


def without_source(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights without those that read sources, for a model with a new source encoder."""
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(_SOURCE)}
    if "decoder_embedding.tokens.weight" in kept:  # the matrix of both, where sources have another vocabulary
        kept["encoder_embedding.tokens.weight"] = kept["decoder_embedding.tokens.weight"]
    return kept


def load_initial_weights(
    model: AnyModel, start: InitialModel, weights: Mapping[str, Any], *, same_problem: bool = False
) -> list[str]:
    """Copies `weights`, those of `start` or what was made of them, into `model`.

    same_problem: the head is kept, too. Else its inner layer begins as BERT's pooler, where there is one. A
    source encoder without any entry in `weights` is new.

    Returns: the names of weights that are new.
    Raises: NlpcliError when a weight of the body is missing or has another shape.
    """
    import torch

    from nlpcli.models.model_folder import unshared

    body = model.body
    own = body.state_dict()
    needed = unshared(own)
    may_be_new = _HEADS if any(name.startswith(_SOURCE) for name in weights) else (*_HEADS, _SOURCE)
    missing = [name for name in needed if name not in weights and not name.startswith(may_be_new)]
    wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    for names, what in ((missing, "needs"), (wrong, "has another shape for")):
        if names:
            raise NlpcliError(
                f"{start.path}: the architecture {what} the weight '{names[0]}'"
                + (f" and {len(names) - 1:,} more" * (len(names) > 1)),
                hint="do not change the settings of the model's architecture",
            )
    body.load_state_dict({name: tensor for name, tensor in weights.items() if name in own}, strict=False)
    new = [name for name in needed if name not in weights]
    for prefix, part in model.task_heads().items():
        new += [prefix + name for name in _begin_head(part, start, torch, same_problem and not prefix)]
    return new


def _begin_head(model: WithHead, start: InitialModel, torch: ModuleType, same_problem: bool) -> list[str]:
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("body.")}
    fitting = {name: t for name, t in start.head_weights.items() if name in own and own[name].shape == t.shape}
    if same_problem and fitting.keys() == own.keys():
        model.load_state_dict(fitting, strict=False)
        return []
    dense = getattr(model.head, "dense", None)
    pooler = {part: start.weights.get(f"pooler.dense.{part}") for part in ("weight", "bias")}
    if dense is not None and pooler["weight"] is not None and pooler["weight"].shape == dense.weight.shape:
        with torch.no_grad():
            dense.weight.copy_(pooler["weight"])
            dense.bias.copy_(pooler["bias"])
        return [name for name in own if not name.startswith("head.dense.")]
    return list(own)
