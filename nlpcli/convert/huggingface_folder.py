"""Whole checkpoint folders: config.json, weights and tokenizer, read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlpcli.config.files import check_regular, plain_name, write_atomic
from nlpcli.config.lazy_tables import LazyTable
from nlpcli.config.loading import parse
from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert import heads
from nlpcli.convert.family import Family
from nlpcli.convert.generation_config import FILE as GENERATION
from nlpcli.convert.generation_config import as_json, kept_generation, written_generation
from nlpcli.convert.marian_target_start import ZeroStart
from nlpcli.convert.name_map import Config, Pair, Weights, halved, has
from nlpcli.convert.sentence_transformers_out import sentence_files
from nlpcli.convert.tokenizer_in import has_tokenizer, no_tokenizer_files, read_json, read_tokenizer
from nlpcli.convert.tokenizer_out import tokenizer_files
from nlpcli.convert.tokenizer_template import layout_of
from nlpcli.errors import NlpcliError, reads_description
from nlpcli.text import SpecialTokens, Tokenizer

FAMILIES = LazyTable(
    "model type",
    {
        "bert": "nlpcli.convert.bert:BERT",
        "roberta": "nlpcli.convert.bert:ROBERTA",
        "gpt2": "nlpcli.convert.gpt:GPT2",
        "openai-gpt": "nlpcli.convert.gpt:GPT",
        "bart": "nlpcli.convert.bart:BART",
        "t5": "nlpcli.convert.t5:T5",
        "pegasus": "nlpcli.convert.bart:PEGASUS",
        "marian": "nlpcli.convert.bart:MARIAN",
        "xlnet": "nlpcli.convert.xlnet:XLNET",
        "xlm-roberta": "nlpcli.convert.bert:XLM_ROBERTA",
        "electra": "nlpcli.convert.bert:ELECTRA",
        "mpnet": "nlpcli.convert.bert:MPNET",
        "modernbert": "nlpcli.convert.modernbert:MODERNBERT",
        "distilbert": "nlpcli.convert.distilbert:DISTILBERT",
        "gpt_neox": "nlpcli.convert.rotary:GPT_NEOX",
        "llama": "nlpcli.convert.rotary:LLAMA",
        "mistral": "nlpcli.convert.rotary:MISTRAL",
        "qwen3": "nlpcli.convert.rotary:QWEN3",
    },
)
"""The families that are read and written; of several that fit, the first is written."""

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
PICKLED = "pytorch_model.bin"
KEPT = "nlpcli.safetensors"  # weights that would not come back from theirs as they were
_OWN = "nlpcli"  # where config.json keeps what the other side has no words for
_SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
_ZERO_START = "zero_start"  # there: what was changed so that targets begin with a zero vector
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_WITHOUT_HEADS = (
    "BertModel",
    "RobertaModel",
    "XLMRobertaModel",
    "ElectraModel",
    "DistilBertModel",
    "ModernBertModel",
    "MPNetModel",
)
_BODY = "body."  # before the names of a model's weights under a head
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


# --- reading -----------------------------------------------------------------------------------------------------


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
    weights = _full_names(_tensors(path, allow_pickle), family)
    kept = _load(path / KEPT) if (path / KEPT).exists() else {}
    theirs, weights, zero_start = _before_zero_start(theirs, weights, kept, family)
    kept = kept if tuned else {}
    place = str(path / CONFIG)
    whole = {**family.defaults, **theirs}
    derived = family.config_in(theirs, weights, place)
    if cls is not None and "tie" in derived:
        derived["tie"] = "all"  # there is no other matrix for an output
    ours = _own_config(theirs, derived, family, whole, weights, kept, place) or derived
    if tuned and family.fixed.get("family", "transformer") == "transformer":
        ours |= _BARE
    pairs = family.pairs(ours, whole)
    stored = [pair for pair in pairs if cls is None or pair.theirs.startswith(family.prefix)]
    pairs = [pair for pair in pairs if cls is None or pair.theirs.startswith(family.prefix) or pair.theirs in weights]
    try:
        found = heads.tensors_in(cls, pairs, weights, ours, tuned)
        if kept:
            found = _as_they_were(found, kept, cls, stored, weights, ours, tuned)
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
        found = {name if name.startswith(heads.OURS) else _BODY + name: tensor for name, tensor in found.items()}
    size = rows if tokenizer is None else tokenizer.vocab_size
    return Checkpoint(ours, found, tokenizer, size, _info(path, theirs, ours, tokenizer, zero_start) | tuned, left_out)


def _before_zero_start(
    theirs: dict[str, Any], weights: dict[str, Tensor], kept: Weights, family: Family
) -> tuple[dict[str, Any], dict[str, Tensor], ZeroStart | None]:
    """Settings and weights as they were before a zero vector was made for the start, and what was changed; None for
    a folder that was changed since: it is a Marian like others."""
    change = ZeroStart.read(theirs[_OWN].get(_ZERO_START))
    before = change.undo(weights, kept, {**family.defaults, **theirs}) if change else None
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
    return {"task": _TASKS[family.kind], **theirs[_OWN]["info"], **_tuned(theirs)}


def _tuned(theirs: Config) -> dict[str, Any]:
    """What is said of the task a model was fine-tuned for, {} for a model without head."""
    cls, own = heads.class_in(theirs), theirs[_OWN]["info"]
    if cls is None:
        return {name: own[name] for name in ("task", "problem", "head")} if own.get("head") else {}
    problem = {name: own[name] for name in ("task", "problem")} if own else heads.problem_in(cls, theirs)
    return {**problem, "head": heads.head_in(cls, theirs)}


def _as_they_were(
    found: Weights,
    kept: Weights,
    cls: heads.HeadClass | None,
    pairs: list[Pair],
    weights: Weights,
    ours: Config,
    tuned: Mapping[str, Any],
) -> dict[str, Tensor]:
    """`found` with the weights that were kept beside it, as long as the others are still what was made of them."""
    whole = {**found, **kept}
    again = heads.tensors_out(cls, pairs, whole, ours, tuned)
    same = all(again[name].shape == weights[name].shape for name in again) and all(
        torch.allclose(again[name], weights[name], atol=1e-6) for name in again
    )
    return whole if same else dict(found)


def _described(path: Path) -> tuple[dict[str, Any], Family]:
    theirs = read_json(path / CONFIG)
    kind = theirs.get("model_type")
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
    own = theirs.setdefault(_OWN, {})
    sections = [own, *(own.setdefault(name, {}) for name in ("model", "info") if isinstance(own, dict))]
    if not all(isinstance(section, dict) for section in sections):
        raise NlpcliError(
            f"{path / CONFIG}: the value of '{_OWN}' was not written by nlpcli", hint=f"remove '{_OWN}' from the file"
        )
    if not isinstance(own["info"].get("task", ""), str):
        raise NlpcliError(f"{path / CONFIG}: the task in '{_OWN}' is not a name", hint=f"remove '{_OWN}' from the file")
    if not heads.still_holds(own["info"], theirs):
        own["info"] = {}
    return theirs, FAMILIES.load(kind)


def _own_config(
    theirs: Config, derived: Config, family: Family, whole: Config, weights: Weights, kept: Weights, place: str
) -> dict[str, Any] | None:
    """The configuration this program left in config.json, when the rest of the folder still agrees with it."""
    if not theirs[_OWN]["model"]:
        return None
    ours = parse(ModelConfig, theirs[_OWN]["model"], f"{place}: {_OWN}.model").model_dump()
    sizes = ("d_model", "heads", "d_ff", "encoder_layers", "decoder_layers", "norm_eps", "activation")
    if any(ours[name] != derived[name] for name in sizes if name in derived and name not in _other_stack(family)):
        return None
    for pair in family.pairs(ours, whole):
        here = [has(ours, name) for name in pair.ours]
        if any(here) and pair.theirs not in weights and not all(name in kept for name in pair.ours):
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
    own = theirs[_OWN]
    writes = ours["kind"] != "encoder" and heads.class_in(theirs) is None
    generation = kept_generation(path, theirs, own.get("generation")) if writes else None
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
        said = generation or {}
        start = said.get("decoder_start_token_id", theirs.get("decoder_start_token_id", eos))
        info |= {"source_start": [bos], "target_start": [start, said.get("forced_bos_token_id", bos)]}
    if heads.class_in(theirs) is not None:  # it was tuned on what its tokenizer makes of texts
        layout = layout_of(tokenizer, ours) if tokenizer is not None else None
        info |= {"max_length": _longest(path, ours)} | ({"layout": layout} if layout else {})
    return info


def _longest(path: Path, ours: Config) -> int:
    """The most tokens of a text."""
    file = path / "tokenizer_config.json"
    said = read_json(file).get("model_max_length") if file.exists() else None
    least = ours["max_length"] if ours.get("positions") == "learned" else _LONGEST
    return min(said, least) if isinstance(said, int) and said > 0 else least


def _tensors(path: Path, allow_pickle: bool) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    files = list(_shards(path, WEIGHTS))
    for file in files:
        found |= _load(file)
    if not files:
        files = list(_shards(path, PICKLED))
        if not files:
            raise NlpcliError(f"{path}: the folder contains no weights ({WEIGHTS} is missing)")
        if not allow_pickle:
            raise NlpcliError(
                f"{path}: the weights are a pickle ({PICKLED}), which can run code when it is loaded",
                hint="convert it once: nlpcli convert --allow-pickle MODEL OUT (this loads only tensors)",
            )
        for file in files:
            check_regular(file)
            try:
                loaded = torch.load(file, map_location="cpu", weights_only=True)
            except Exception:  # the library raises many kinds
                raise NlpcliError(f"{file}: the file is damaged or contains more than tensors") from None
            if not isinstance(loaded, dict) or not all(
                isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()
            ):
                raise NlpcliError(f"{file}: the file is not a state dict, which maps names to tensors")
            found |= loaded
    return {name: tensor.float() for name, tensor in found.items() if tensor.is_floating_point()}


def _load(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_regular(file)
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise NlpcliError(f"{file}: the weights can't be read ({error})") from None


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _shards(path: Path, name: str) -> Iterator[Path]:
    """The one file of that name, or those its index lists."""
    if (path / name).exists():
        yield path / name
    elif (path / f"{name}.index.json").exists():
        listed = read_json(path / f"{name}.index.json").get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(part, str) for part in listed.values()):
            raise NlpcliError(f"{path / name}.index.json: 'weight_map' does not name the file of each weight")
        for part in sorted(set(listed.values())):
            yield path / plain_name(part, f"{path / name}.index.json")


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


# --- writing -----------------------------------------------------------------------------------------------------


def choose_family(config: Config, read_from: str | None = None) -> Family:
    """The family that a model came from, or else the first one, that can express a configuration.

    Raises: NlpcliError naming what the nearest one can't.
    """
    if read_from is not None and read_from in FAMILIES and not (own := FAMILIES.load(read_from)).misfits(config):
        return own
    families = [FAMILIES.load(name) for name in FAMILIES]
    kinds = [(family.kind, family.fixed.get("family", "transformer")) for family in families]
    families = [f for f, kind in zip(families, kinds, strict=True) if kind == (config["kind"], config["family"])]
    if not families:
        raise NlpcliError(f"transformers has no class for model.family '{config['family']}'")
    best = min(families, key=lambda family: len(family.misfits(config)))
    best.config_out(config)
    return best


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
    from safetensors.torch import save

    folder = Path(folder)
    config = ModelConfig.model_validate(dict(config)).model_dump()
    family = choose_family(config, info.get("read_from"))
    head = info.get("head")
    cls = heads.class_for(family.model_type, family.title, info) if head and head.get("kind") != "vector" else None
    architecture = cls.name if cls else family.architecture(config)
    special = None if tokenizer is None else tokenizer.special
    if special is not None and family.model_type == "pegasus":  # targets begin with padding, as others take for granted
        special = replace(special, pad=special.bos)
    ids = dict(info.get("special_ids") or {}) if special is None else _special_ids(special)
    theirs = {
        "architectures": [architecture],
        **family.config_out(config),
        **_rows(weights),
        **ids,
        "dtype": "float32",
        _OWN: {"model": config, "info": {name: value for name, value in info.items() if name != "special_ids"}},
    }
    start = ids.get("decoder_start_token_id") if special is None else special.bos
    first, *forced = info.get("target_start") or [start]
    if config["kind"] == "encoder-decoder":
        theirs |= {"decoder_start_token_id": first, "forced_eos_token_id": None}
    if cls:
        theirs |= heads.settings_out(cls, info)
    if head:
        weights = {name.removeprefix(_BODY): tensor for name, tensor in weights.items()}
    if config.get("positions") == "sinusoidal":
        weights = halved(weights)
    pairs = family.pairs(config, {**family.defaults, **theirs})
    if cls:
        pairs = [pair for pair in pairs if pair.theirs.startswith(family.prefix)]
    tensors = heads.tensors_out(cls, pairs, weights, config, info)
    kept = _kept(weights, heads.tensors_in(cls, pairs, tensors, config, info)) if head else {}
    zero_start = None
    if family.model_type == "marian" and not head and tokenizer is not None:
        change = ZeroStart.of(tokenizer, theirs)
        moved = change.move(tensors, theirs)
        if kept := _kept(tensors, moved):
            zero_start, tensors = change, moved
            theirs[_OWN][_ZERO_START] = change.as_dict()
            theirs |= change.settings()
    if architecture in _WITHOUT_HEADS:
        tensors = {name.removeprefix(family.prefix): tensor for name, tensor in tensors.items()}
    files: dict[str, bytes] = {}
    if tokenizer is not None and special is not None:
        files = tokenizer_files(
            tokenizer,
            kind=config["kind"],
            max_length=_reads(config, info),
            segments=theirs.get("type_vocab_size", 0) > 1 or (family.model_type == "xlnet" and bool(head)),
            layout=layout,
            left=family.model_type == "xlnet" and bool(head),
            padding=special.pad,
        )
    if zero_start:
        files = zero_start.tokenizer_files(files)
    if head and cls is None:
        files |= sentence_files(config, head, _reads(config, info))
    elif config["kind"] != "encoder" and cls is None:
        more = {"forced_bos_token_id": forced[0]} if forced else {}
        generation = written_generation({**theirs, **more}, special, info)
        theirs[_OWN]["generation"] = zero_start.generation(generation) if zero_start else generation
        files[GENERATION] = as_json(theirs[_OWN]["generation"])
    files[CONFIG] = as_json(theirs)
    files[WEIGHTS] = save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, {"format": "pt"})
    if kept:
        files[KEPT] = save({name: tensor.detach().cpu().clone() for name, tensor in kept.items()})
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_atomic(folder / name, content)
    return architecture


def _special_ids(special: SpecialTokens) -> dict[str, int]:
    return {f"{role}_token_id": getattr(special, role) for role in ("pad", "bos", "eos") if role not in special.absent}


def _kept(weights: Weights, back: Weights) -> dict[str, Tensor]:
    """Those weights that don't come back as they were."""
    return {n: tensor for n, tensor in weights.items() if n not in back or not torch.equal(back[n], tensor.cpu())}


def _reads(config: Config, info: Mapping[str, Any]) -> int | None:
    """The most tokens the tokenizer is to give."""
    longest = config["max_length"] if config.get("positions") != "relative" else None
    tuned = info.get("max_length") if info.get("head") else None
    return min(n for n in (longest, tuned) if n is not None) if longest or tuned else None


def _rows(weights: Weights) -> dict[str, int]:
    tokens = next(tensor for name, tensor in weights.items() if name.endswith("embedding.tokens.weight"))
    return {"vocab_size": tokens.size(0)}
