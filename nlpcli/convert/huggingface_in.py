"""Reads whole Hugging Face folders: config.json, weights and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlpcli.config.loading import parse
from nlpcli.config.model_facts import ModelFacts
from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert import heads
from nlpcli.convert.family import Family
from nlpcli.convert.family_table import FAMILIES
from nlpcli.convert.folder_files import (
    BODY,
    CONFIG,
    CTRANSLATE2_WEIGHTS,
    ORIGINAL_WEIGHTS,
    OWN,
    ZERO_START,
    load_tensors,
    read_weights,
)
from nlpcli.convert.generation_config import own_generation
from nlpcli.convert.marian_target_start import ZeroStart
from nlpcli.convert.name_map import Config, Pair, Weights, halved, has
from nlpcli.convert.tokenizer_in import has_tokenizer, no_tokenizer_files, read_json, read_tokenizer
from nlpcli.convert.tokenizer_template import layout_of
from nlpcli.errors import NlpcliError, reads_description
from nlpcli.text import Tokenizer

_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_BARE = {"mlm_head": False, "pooler": False, "pair_head": False}  # an encoder under a task's head
_LONGEST = 512  # tokens, of models that have no greatest length
_TASKS = {"encoder": "encoder", "decoder": "language-model", "encoder-decoder": "translation"}


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face folder in our terms. left_out: names of weights that nothing here has a use for.

    tokenizer: None for a folder without its files. vocab_size: how many tokens the model has vectors for.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    tokenizer: Tokenizer | None
    vocab_size: int
    info: dict[str, Any]
    left_out: list[str]


@reads_description
def read_huggingface(path: Path, *, allow_pickle: bool = False, needs_tokenizer: bool = True) -> Checkpoint:
    """The checkpoint in the folder `path`; its weights as 32-bit numbers under our names.

    allow_pickle: also read `pytorch_model.bin`, which is a pickle; only tensors are taken from it.
    needs_tokenizer: refuse a folder without any of a tokenizer's files.

    Raises: NlpcliError for a folder that is none, a model type or setting that is not known here, missing weights.
    """
    path = Path(path)
    theirs, family = _described(path)
    without_tokenizer = not has_tokenizer(path)
    if without_tokenizer and needs_tokenizer:
        raise no_tokenizer_files(path)
    cls = heads.class_in(theirs)
    tuned = _tuned(theirs)
    weights = _full_names(read_weights(path, allow_pickle), family)
    originals = load_tensors(path / ORIGINAL_WEIGHTS) if (path / ORIGINAL_WEIGHTS).exists() else {}
    theirs, weights, zero_start = _before_zero_start(theirs, weights, originals, family)
    originals = originals if tuned else {}
    place = str(path / CONFIG)
    whole = {**family.defaults, **theirs}
    derived = family.config_in(theirs, weights, place)
    if cls is not None and "tie" in derived:
        derived["tie"] = "all"  # there is no other matrix for an output
    ours = _own_config(theirs, derived, family, whole, weights, originals, place) or derived
    if tuned and family.fixed.get("family", "transformer") == "transformer":
        ours |= _BARE
    pairs = family.pairs(ours, whole)
    stored = [pair for pair in pairs if cls is None or pair.theirs.startswith(family.prefix)]
    pairs = [pair for pair in pairs if cls is None or pair.theirs.startswith(family.prefix) or pair.theirs in weights]
    try:
        found = heads.tensors_in(cls, pairs, weights, ours, tuned)
        if originals:
            found = _with_originals(found, originals, cls, stored, weights, ours, tuned)
        if ours.get("positions") == "sinusoidal" and derived.get("positions") == "sinusoidal-halves":
            found = halved(found, back=True)
    except KeyError as error:
        raise NlpcliError(f"{path}: the weight {error} is missing") from None
    except (RuntimeError, ValueError, IndexError) as error:
        raise NlpcliError(f"{path}: the shape of a weight does not match {CONFIG} ({_first_line(error)})") from None
    used = {pair.theirs for pair in [*pairs, *(cls.pairs(ours) if cls else ())]}
    left_out = [name for name in weights if name not in used and not name.endswith(family.ignored)]
    rows = _rows_of(found, path)
    described = {**theirs, "vocab_size": rows, "is_encoder_decoder": family.kind == "encoder-decoder"}
    tokenizer = None if without_tokenizer else read_tokenizer(path, described, zero_start)
    if tokenizer is not None and tokenizer.vocab_size > rows:
        raise NlpcliError(f"{path}: the tokenizer has {tokenizer.vocab_size:,} tokens, but the model has only {rows:,}")
    if tuned:
        found = {name if name.startswith(heads.OURS) else BODY + name: tensor for name, tensor in found.items()}
    size = rows if tokenizer is None else tokenizer.vocab_size
    return Checkpoint(ours, found, tokenizer, size, _info(path, theirs, ours, tokenizer, zero_start) | tuned, left_out)


def _before_zero_start(
    theirs: dict[str, Any], weights: dict[str, Tensor], originals: Weights, family: Family
) -> tuple[dict[str, Any], dict[str, Tensor], ZeroStart | None]:
    """Settings and weights as they were before a zero vector was made for the start, and what was changed; None for
    a folder that was changed since: it is a Marian like others."""
    change = ZeroStart.read(theirs[OWN].get(ZERO_START))
    before = change.undo(weights, originals, {**family.defaults, **theirs}) if change else None
    if change is None or before is None:
        return theirs, weights, None
    return change.settings_before(theirs), before, change


def _rows_of(weights: Weights, path: Path) -> int:
    """The size of the vocabulary that the model has vectors for."""
    tables = [tensor for name, tensor in weights.items() if name.endswith("embedding.tokens.weight")]
    if not tables or tables[0].dim() != 2:
        raise NlpcliError(f"{path}: the token embeddings are missing")
    return tables[0].size(0)


@reads_description
def read_description(path: Path) -> dict[str, Any]:
    """`task` and, for a fine-tuned model, `problem` and `head`, as model.yaml has them.

    Raises: NlpcliError as `read_huggingface`, without reading the weights.
    """
    theirs, family = _described(Path(path))
    return {"task": _TASKS[family.kind], **theirs[OWN]["info"], **_tuned(theirs)}


def _tuned(theirs: Config) -> dict[str, Any]:
    """The description of the task a model was fine-tuned for, {} for a model without head."""
    cls, own = heads.class_in(theirs), theirs[OWN]["info"]
    if cls is None:
        return {name: own[name] for name in ("task", "problem", "head")} if own.get("head") else {}
    problem = {name: own[name] for name in ("task", "problem")} if own else heads.problem_in(cls, theirs)
    return {**problem, "head": heads.head_in(cls, theirs)}


def _with_originals(
    found: Weights,
    originals: Weights,
    cls: heads.HeadClass | None,
    pairs: list[Pair],
    weights: Weights,
    ours: Config,
    tuned: Mapping[str, Any],
) -> dict[str, Tensor]:
    """`found` with the original weights beside it, as long as the others are still what was made of them."""
    whole = {**found, **originals}
    again = heads.tensors_out(cls, pairs, whole, ours, tuned)
    same = all(again[name].shape == weights[name].shape for name in again) and all(
        torch.allclose(again[name], weights[name], atol=1e-6) for name in again
    )
    return whole if same else dict(found)


def _described(path: Path) -> tuple[dict[str, Any], Family]:
    theirs = read_json(path / CONFIG)
    kind = theirs.get("model_type")
    if kind is None and (path / CTRANSLATE2_WEIGHTS).is_file():
        raise NlpcliError(
            f"{path} is a folder for CTranslate2, which nlpcli writes and does not read",
            hint="use the model that it was made from",
        )
    if kind is None:
        raise NlpcliError(
            f"{path / CONFIG}: the key 'model_type' is missing",
            hint=f"these model types are supported: {', '.join(FAMILIES)}",
        )
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise NlpcliError(
            f"{path / CONFIG}: the model type '{kind}' is not supported",
            hint=f"these model types are supported: {', '.join(FAMILIES)}",
        )
    own = theirs.setdefault(OWN, {})
    sections = [own, *(own.setdefault(name, {}) for name in ("model", "info") if isinstance(own, dict))]
    if not all(isinstance(section, dict) for section in sections):
        raise NlpcliError(
            f"{path / CONFIG}: the value of '{OWN}' was not written by nlpcli", hint=f"remove '{OWN}' from the file"
        )
    if not isinstance(own["info"].get("task", ""), str):
        raise NlpcliError(f"{path / CONFIG}: the task in '{OWN}' is not a name", hint=f"remove '{OWN}' from the file")
    parse(ModelFacts, own["info"], f"{path / CONFIG}: {OWN}.info")
    if not heads.still_holds(own["info"], theirs):
        own["info"] = {}
    return theirs, FAMILIES.load(kind)


def _own_config(
    theirs: Config, derived: Config, family: Family, whole: Config, weights: Weights, originals: Weights, place: str
) -> dict[str, Any] | None:
    """The configuration this program left in config.json, when the rest of the folder still agrees with it."""
    if not theirs[OWN]["model"]:
        return None
    ours = parse(ModelConfig, theirs[OWN]["model"], f"{place}: {OWN}.model").model_dump()
    sizes = ("d_model", "heads", "d_ff", "encoder_layers", "decoder_layers", "norm_eps", "activation")
    if any(ours[name] != derived[name] for name in sizes if name in derived and name not in _other_stack(family)):
        return None
    if family.checked and family.misfits(ours):
        return None
    if any(family.write(ours)[name] != whole.get(name) for name in family.checked):
        return None
    for pair in family.pairs(ours, whole):
        here = [has(ours, name) for name in pair.ours]
        if any(here) and pair.theirs not in weights and not all(name in originals for name in pair.ours):
            return None
        if pair.theirs in weights and not all(here):
            parts = pair.back(weights[pair.theirs])
            if any(bool(part.count_nonzero()) for part, wanted in zip(parts, here, strict=True) if not wanted):
                return None
    return ours


def _other_stack(family: Family) -> tuple[str, ...]:
    return {"encoder": ("decoder_layers",), "decoder": ("encoder_layers",)}.get(family.kind, ())


def _info(
    path: Path, theirs: Config, ours: Config, tokenizer: Tokenizer | None, zero_start: ZeroStart | None
) -> dict[str, Any]:
    own = theirs[OWN]
    writes = ours["kind"] != "encoder" and heads.class_in(theirs) is None
    generation = own_generation(path, theirs, own.get("generation")) if writes else None
    if generation is not None and zero_start is not None:
        generation = zero_start.generation_before(generation)
    ids = {name: theirs[name] for name in _SPECIAL_IDS if isinstance(theirs.get(name), int)}
    special_ids = {} if tokenizer is not None else {"special_ids": ids}
    if own["info"]:
        return {
            **own["info"],
            **special_ids,
            **({"generation": generation} if generation and "generation" in own else {}),
        }
    info: dict[str, Any] = {"task": _TASKS[ours["kind"]], "read_from": theirs["model_type"], **special_ids}
    if generation is not None:
        info["generation"] = generation
    if ours["kind"] == "decoder":
        info["document_end"] = "eos_token_id" in ids if tokenizer is None else "eos" not in tokenizer.special.absent
        start = (layout_of(tokenizer, ours) or {}).get("start") if tokenizer is not None else None
        info |= {"text_start": start} if start else {}
    if theirs["model_type"] == "bart":  # it was made to read <s> A </s> and to write </s> <s> B </s>
        bos, eos = ids.get("bos_token_id", 0), ids.get("eos_token_id", 2)
        if tokenizer is not None:
            bos, eos = tokenizer.special.bos, tokenizer.special.eos
        decoding = generation or {}
        start = decoding.get("decoder_start_token_id", theirs.get("decoder_start_token_id", eos))
        info |= {"source_start": [bos], "target_start": [start, decoding.get("forced_bos_token_id", bos)]}
    if heads.class_in(theirs) is not None:  # it was tuned on what its tokenizer makes of texts
        layout = layout_of(tokenizer, ours) if tokenizer is not None else None
        info |= {"max_length": _longest(path, ours)} | ({"layout": layout} if layout else {})
    return info


def _longest(path: Path, ours: Config) -> int:
    """The most tokens of a text."""
    file = path / "tokenizer_config.json"
    stored = read_json(file).get("model_max_length") if file.exists() else None
    least = ours["max_length"] if ours.get("positions") == "learned" else _LONGEST
    return min(stored, least) if isinstance(stored, int) and stored > 0 else least


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _full_names(weights: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Names as the class with all heads has them: a model without heads is stored without the prefix."""
    prefix = "" if any(name.startswith(family.prefix) for name in weights) else family.prefix
    found = {}
    for name, tensor in weights.items():
        for old, new in _OLD_NAMES.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        found[prefix + name] = tensor
    return {**family.otherwise(found), **found}
