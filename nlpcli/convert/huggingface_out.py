"""Writes whole Hugging Face folders: config.json, weights and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlpcli.config.files import write_atomic
from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert import heads
from nlpcli.convert.family import Family
from nlpcli.convert.family_table import choose_family
from nlpcli.convert.folder_files import BODY, CONFIG, ORIGINAL_WEIGHTS, OWN, WEIGHTS, ZERO_START
from nlpcli.convert.generation_config import FILE as GENERATION
from nlpcli.convert.generation_config import as_json, written_generation
from nlpcli.convert.marian_target_start import ZeroStart
from nlpcli.convert.name_map import Config, Weights, halved
from nlpcli.convert.sentence_transformers_out import sentence_files
from nlpcli.convert.tokenizer_out import tokenizer_files
from nlpcli.text import SpecialTokens, Tokenizer

_WITHOUT_HEADS = (
    "BertModel",
    "RobertaModel",
    "XLMRobertaModel",
    "ElectraModel",
    "DistilBertModel",
    "ModernBertModel",
    "MPNetModel",
    "LongformerModel",
    "BigBirdModel",
)


@dataclass(frozen=True)
class _Model:
    """A model that is written, and the family and class of `transformers` that it becomes.

    head_class: None for a model without a head, and for one whose head gives vectors.
    """

    config: Config
    tokenizer: Tokenizer | None
    info: Mapping[str, Any]
    family: Family
    head_class: heads.HeadClass | None

    @classmethod
    def of(cls, config: Config, tokenizer: Tokenizer | None, info: Mapping[str, Any]) -> _Model:
        family, head = choose_family(config, info.get("read_from")), info.get("head")
        own_class = head and head.get("kind") != "vector"
        head_class = heads.class_for(family.model_type, family.title, info) if own_class else None
        return cls(config, tokenizer, info, family, head_class)

    @property
    def architecture(self) -> str:
        return self.head_class.name if self.head_class else self.family.architecture(self.config)

    @property
    def head(self) -> Mapping[str, Any] | None:
        return self.info.get("head") or None

    @property
    def special(self) -> SpecialTokens | None:
        if self.tokenizer is None:
            return None
        special = self.tokenizer.special
        # the targets of a Pegasus begin with padding, as others take for granted
        return replace(special, pad=special.bos) if self.family.model_type == "pegasus" else special

    @property
    def target_start(self) -> tuple[int | None, list[int]]:
        """The id that targets begin with, and those that are forced after it."""
        ids = self.info.get("special_ids") or {}
        start = ids.get("decoder_start_token_id") if self.special is None else self.special.bos
        first, *forced = self.info.get("target_start") or [start]
        return first, forced


def write_huggingface(
    folder: Path,
    *,
    config: Config,
    weights: Weights,
    tokenizer: Tokenizer | None,
    info: Mapping[str, Any],
    layout: Mapping[str, Any] | None = None,
) -> str:
    """Writes config.json, the weights and the tokenizer's files into `folder`; returns the class they are for.

    tokenizer: None for a model that came without one: `special_ids` in `info` are those of its config.json.
    layout: where special tokens stand in what a fine-tuned model reads, see `nlpcli.convert.tokenizer_template`.

    Raises: NlpcliError for a model or tokenizer that no class of `transformers` can express, naming the setting.
    """
    folder = Path(folder)
    model = _Model.of(ModelConfig.model_validate(dict(config)).model_dump(), tokenizer, info)
    theirs = _settings(model, weights)
    tensors, lost = _tensors(model, weights, theirs)
    zero_start, tensors, moved = _with_zero_start(model, tensors, theirs)
    if zero_start:
        theirs[OWN][ZERO_START] = zero_start.as_dict()
        theirs |= zero_start.settings()
    if model.architecture in _WITHOUT_HEADS:
        tensors = {name.removeprefix(model.family.prefix): tensor for name, tensor in tensors.items()}
    files = _tokenizer_files(model, theirs, layout)
    if zero_start:
        files = zero_start.tokenizer_files(files)
    if model.head and model.head_class is None:
        files |= sentence_files(model.config, model.head, _longest(model))
    elif model.config["kind"] != "encoder" and model.head_class is None:
        generation = _generation(model, theirs)
        theirs[OWN]["generation"] = zero_start.generation(generation) if zero_start else generation
        files[GENERATION] = as_json(theirs[OWN]["generation"])
    files[CONFIG] = as_json(theirs)
    files[WEIGHTS] = _safetensors(tensors, {"format": "pt"})
    if lost or moved:
        files[ORIGINAL_WEIGHTS] = _safetensors({**lost, **moved})
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomic(folder / name, content)
    return model.architecture


def _settings(model: _Model, weights: Weights) -> dict[str, Any]:
    """config.json, without what a zero vector at the start and the generation settings add."""
    info = model.info
    ids = dict(info.get("special_ids") or {}) if model.special is None else _special_ids(model.special)
    theirs = {
        "architectures": [model.architecture],
        **model.family.config_out(model.config),
        **_vocabulary(weights),
        **ids,
        "dtype": "float32",
        OWN: {"model": model.config, "info": {name: value for name, value in info.items() if name != "special_ids"}},
    }
    if model.config["kind"] == "encoder-decoder":
        theirs |= {"decoder_start_token_id": model.target_start[0], "forced_eos_token_id": None}
    return theirs | heads.settings_out(model.head_class, info) if model.head_class else theirs


def _tensors(model: _Model, weights: Weights, theirs: Config) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights under their names, and those of a model with a head that can't be restored exactly from them."""
    family, config, head_class = model.family, model.config, model.head_class
    if model.head:
        weights = {name.removeprefix(BODY): tensor for name, tensor in weights.items()}
    if config.get("positions") == "sinusoidal":
        weights = halved(weights)
    pairs = family.pairs(config, {**family.defaults, **theirs})
    if head_class:
        pairs = [pair for pair in pairs if pair.theirs.startswith(family.prefix)]
    tensors = heads.tensors_out(head_class, pairs, weights, config, model.info)
    if not model.head:
        return tensors, {}
    return tensors, _differing(weights, heads.tensors_in(head_class, pairs, tensors, config, model.info))


def _with_zero_start(
    model: _Model, tensors: dict[str, Tensor], theirs: Config
) -> tuple[ZeroStart | None, dict[str, Tensor], dict[str, Tensor]]:
    """The changes by which the targets of a Marian begin with a zero vector, None where nothing needs to be; the
    weights after it; and those that were changed, from before."""
    if model.family.model_type != "marian" or model.head or model.tokenizer is None:
        return None, tensors, {}
    change = ZeroStart.of(model.tokenizer, theirs)
    moved = change.move(tensors, theirs)
    before = _differing(tensors, moved)
    return (change, moved, before) if before else (None, tensors, {})


def _tokenizer_files(model: _Model, theirs: Config, layout: Mapping[str, Any] | None) -> dict[str, bytes]:
    """{} for a model without tokenizer."""
    if model.tokenizer is None or model.special is None:
        return {}
    is_tuned_xlnet = model.family.model_type == "xlnet" and bool(model.head)
    return tokenizer_files(
        model.tokenizer,
        kind=model.config["kind"],
        max_length=_longest(model),
        segments=theirs.get("type_vocab_size", 0) > 1 or is_tuned_xlnet,
        layout=layout,
        left=is_tuned_xlnet,
        padding=model.special.pad,
    )


def _generation(model: _Model, theirs: Config) -> dict[str, Any]:
    _, forced = model.target_start
    more = {"forced_bos_token_id": forced[0]} if forced else {}
    return written_generation({**theirs, **more}, model.special, model.info)


def _safetensors(tensors: Weights, metadata: dict[str, str] | None = None) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, metadata)


def _special_ids(special: SpecialTokens) -> dict[str, int]:
    return {f"{role}_token_id": getattr(special, role) for role in ("pad", "bos", "eos") if role not in special.absent}


def _differing(weights: Weights, back: Weights) -> dict[str, Tensor]:
    """Those weights that don't come back as they were."""
    return {n: tensor for n, tensor in weights.items() if n not in back or not torch.equal(back[n], tensor.cpu())}


def _longest(model: _Model) -> int | None:
    """The most tokens the tokenizer is to give."""
    config = model.config
    longest = config["max_length"] if config.get("positions") != "relative" else None
    tuned = model.info.get("max_length") if model.head else None
    return min(n for n in (longest, tuned) if n is not None) if longest or tuned else None


def _vocabulary(weights: Weights) -> dict[str, int]:
    tokens = next(tensor for name, tensor in weights.items() if name.endswith("embedding.tokens.weight"))
    return {"vocab_size": tokens.size(0)}
