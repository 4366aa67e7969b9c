"""A model folder: what it is, what it was trained for, where its parameters are, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlpcli import presets
from nlpcli.attention.crossover_lengths import LONGEST, faster_from, is_full
from nlpcli.commands.inspect.findings import Finding, Inspection, Section, amount, percent, size
from nlpcli.commands.inspect.parameter_groups import parameters_by_part, shared_matrices
from nlpcli.commands.inspect.weight_statistics import (
    header,
    not_finite,
    statistics,
    stored_types,
    weight_files,
    weight_section,
)
from nlpcli.config.counting import counted
from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError, reads_description
from nlpcli.runs.model_cost import as_facts, memory, operations
from nlpcli.runs.open_model import is_huggingface, open_model
from nlpcli.runs.signature import signature
from nlpcli.runs.verify_signature import DIFFERENT, NOT_CHECKED
from nlpcli.runs.verify_signature import verify as verified

LENGTH = 128
"""Tokens of an example for which FLOPs are counted, by default."""

_NOT_SHAPE = {
    "dropout", "attention_dropout", "activation_dropout", "output_dropout", "initialization", "init_std", "mlm_head",
    "pooler", "pair_head", "source_layers", "source_vocab_size",
}  # fmt: skip
_USES = {
    "translation": "translation (nlpcli translate)",
    "language-model": "text generation (nlpcli generate)",
    "encoder": "text vectors (nlpcli embed) or fine-tuning",
    "denoising": "denoising or fine-tuning",
}


@reads_description
def inspect_model(path: Path, *, length: int = LENGTH, weights: bool = False, verify: bool = False) -> Inspection:
    """The model in a folder of this program or of Hugging Face; its digest and its tokenizer are checked.

    length: tokens of an example for which FLOPs are counted. weights: every weight with its statistics.
    verify: the parts of the signature are computed again.
    Raises: NlpcliError for a model that is damaged, incomplete, or of a kind that is not known here.
    """
    path = Path(path)
    loaded = open_model(path, needs_tokenizer=False)
    config, info, files = loaded.config, loaded.info, weight_files(path)
    shape = config.model_dump()
    length = min(length, config.position_limit or length)
    parts = parameters_by_part(loaded.model, config.kind)
    total = sum(parts.values())
    counts = as_facts(operations(config, loaded.vocab_size, info.get("head"), length=length))
    stored = [tensor for file in files for tensor in header(file)]
    facts: dict[str, Any] = {
        "format": "huggingface" if is_huggingface(path) else "nlpcli",
        **({"model_type": info["read_from"]} if "read_from" in info else {}),
        "family": config.family,
        "model_kind": config.kind,
        "task": info.get("task"),
        "objective": _objective(path),
        "head": info.get("head"),
        "labels": _labels(info),
        "metrics": info.get("metrics") or {},
        "signatures": info.get("signatures") or {},
        "step": info.get("step"),
        "signature": signature(info, config),
        "layers": {_key(name): count for name, count in config.stacks.items()},
        "layer_type": config.layer_type,
        **{name: shape.get(name) for name in ("d_model", "heads", "d_ff", "norm", "activation", "positions")},
        "attention": _attention(shape),
        "kv_heads": shape.get("kv_heads") or (shape["heads"] if "kv_heads" in shape else None),
        "context_length": config.position_limit,
        "trained_context_length": info.get("context") or info.get("max_length"),
        "max_source_length": config.max_length if config.kind == "encoder-decoder" else None,
        "pooling": _pooling(path, info),
        "vocab_size": loaded.vocab_size,
        "tokenizer": None if loaded.own_tokenizer is None else loaded.own_tokenizer.kind,
        "presets": same_shape(config),
        "parameters": {"total": total, "by_part": {_key(name): count for name, count in parts.items()}},
        "shared_matrices": shared_matrices(loaded.model),
        "values_by_dtype": stored_types(stored),
        "memory_bytes": memory(config, total),
        "flops_per_token": counts,
        "bytes": sum(file.stat().st_size for file in files),
        "digest": "none" if is_huggingface(path) else "valid",  # of others, `open_model` would have raised an error
        "unused_weights": info.get("left_out", []),
    }
    sections = [_what(facts), *_measured(facts), _parameters(parts), _cost(facts)]
    if weights:
        facts["weights"] = list(statistics(files))
        sections.append(weight_section(facts["weights"]))
    findings = [*not_finite(files), *_slower(facts)]
    if verify:
        findings += _verify(path, facts, sections)
    title = f"a model: {facts['model_type']} " if "model_type" in facts else "a model: "
    title += f"{config.family} {config.kind}, {amount(total)} parameters"
    return Inspection("model", title, str(path), facts, sections, findings)


def _verify(path: Path, facts: dict[str, Any], sections: list[Section]) -> list[Finding]:
    """Adds what was found of the parts of the signature to `facts` and `sections`. Returns: those that differ."""
    checked = verified(path)
    facts["verified"] = [part.as_dict() for part in checked]
    rows = [(part.name, part.stated or "none", part.result + (f": {part.reason}" if part.reason else ""))
            for part in checked]  # fmt: skip
    sections.append(Section("Signature", rows, ("part", "stated", "computed again")))
    texts = {
        DIFFERENT: "the {0.name} of the signature is {0.stated}, but computed again it is {0.found}",
        NOT_CHECKED: "the {0.name} of the signature was not checked: {0.reason}",
    }
    return [
        Finding(f"signature_{part.result.replace(' ', '_')}", texts[part.result].format(part), 1,
                problem=part.result == DIFFERENT)
        for part in checked if part.result in texts
    ]  # fmt: skip


def _attention(shape: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The different entries of `model.attention`, those of an encoder first, and from which length on they pay."""
    found: dict[tuple[str, bool], dict[str, Any]] = {}
    kind = shape.get("kind")
    stacks = [(shape.get("attention"), kind == "decoder")]
    if kind == "encoder-decoder":
        stacks.append((shape.get("decoder_attention") or shape.get("attention"), True))
    for entries, causal in stacks:
        for text in entries or []:
            faster = None if is_full(text) else faster_from(text, causal=causal)
            found[text, causal] = {"entry": text, "full": is_full(text), "faster_from": faster}
    return list(found.values())


def _slower(facts: Mapping[str, Any]) -> list[Finding]:
    """Attention that full attention would be faster than at the lengths of the training."""
    length = facts["trained_context_length"]
    found = []
    for one in facts["attention"] if length else []:
        if not one["full"] and (one["faster_from"] is None or length < one["faster_from"]):
            text = (
                f"attention '{one['entry']}' is {_faster(one)}, and this model was trained on texts of up to "
                f"{length:,} tokens"
            )
            found.append(Finding("attention_slower_than_full", text, 1))
    return found


def _faster(one: Mapping[str, Any]) -> str:
    if one["faster_from"] is None:
        return f"not faster than full attention up to {LONGEST:,} tokens"
    return f"faster than full attention from about {one['faster_from']:,} tokens on"


def _key(name: str) -> str:
    """A name for readers as a key of `--json`: `encoder_self_attention`."""
    return name.replace(" ", "_").replace("-", "_")


def same_shape(config: ModelConfig) -> list[str]:
    """The presets of this shape: all settings are theirs but dropout, the first weights, and heads of pretraining."""
    skipped = _NOT_SHAPE | config.without_effect
    own = _shape(config, skipped)
    return [name for name in presets.names() if _shape(_preset(name), skipped) == own]


def _preset(name: str) -> ModelConfig:
    return ModelConfig.model_validate(presets.load(name).get("model") or {})


def _shape(config: ModelConfig, skipped: set[str]) -> dict[str, Any]:
    found = {name: value for name, value in config.model_dump().items() if name not in skipped}
    for name in {"d_key", "d_value"} & found.keys():
        found[name] = found[name] or config.d_model / found["heads"]
    return found


def _objective(path: Path) -> str | None:
    """The training objective in the run's configuration beside the model."""
    from nlpcli.config.loading import load_yaml
    from nlpcli.runs.run_folder import CONFIG

    if is_huggingface(path) or not (path / CONFIG).is_file():
        return None
    found = load_yaml(path / CONFIG)
    return found.get("task") or found.get("objective")


def _pooling(path: Path, info: Mapping[str, Any]) -> str | None:
    """The pooling of the model for vectors of texts, if it or its folder has one."""
    from nlpcli.convert.sentence_transformers_in import sentence_settings

    if (info.get("head") or {}).get("kind") == "vector":
        return info["head"].get("pooling")
    try:
        return sentence_settings(path).pooling
    except NlpcliError:  # `nlpcli embed` reports the reason
        return None


def _labels(info: Mapping[str, Any]) -> list[str]:
    problem = info.get("problem") or {}
    labels = problem.get("labels") or []
    return list(labels) if isinstance(labels, Sequence) and not isinstance(labels, str) else []


def _what(facts: Mapping[str, Any]) -> Section:
    stacks = (f"{count} {name.replace('_', ' ')}" for name, count in facts["layers"].items() if count)
    layers = " + ".join(stacks) or "none"
    context = (
        f"{counted(facts['context_length'], 'token')}"
        if facts["context_length"]
        else "not limited by the position encoding"
    )
    if facts["trained_context_length"]:
        context += f"; trained on up to {facts['trained_context_length']:,}"
    elif facts["max_source_length"]:
        context += f"; sources are truncated to {counted(facts['max_source_length'], 'token')}"
    sizes = [f"d_model {facts['d_model']}"]
    if facts["heads"]:
        few = f" ({facts['kv_heads']} of keys and values)" if facts["kv_heads"] not in (None, facts["heads"]) else ""
        sizes.append(f"{counted(facts['heads'], 'head')}{few}")
    if facts["d_ff"]:
        sizes.append(f"d_ff {facts['d_ff']}")
    rows = [
        ("format", "Hugging Face" if facts["format"] == "huggingface" else "nlpcli, digest verified"),
        ("use", _USES.get(facts["task"], f"{facts['task']} (nlpcli predict, nlpcli evaluate)")),
        ("layers", f"{layers}; {', '.join(sizes)}"),
        ("layer type", facts["layer_type"]),
        ("context", context),
        ("vocabulary", f"{counted(facts['vocab_size'], 'token')} ({facts['tokenizer'] or 'no tokenizer'})"),
        ("equal presets", ", ".join(facts["presets"]) or "none"),
    ]
    for one in facts["attention"]:
        if not one["full"]:
            rows.insert(-3, ("attention", f"{one['entry']}: {_faster(one)}"))
    if facts["objective"] and facts["objective"] != facts["task"]:
        rows.insert(2, ("trained on", facts["objective"]))
    if facts["head"]:
        heads = facts["head"]["heads"] if "heads" in facts["head"] else facts["head"]
        rows.insert(2, ("head", ", ".join(f"{name} {value}" for name, value in heads.items())))
    elif facts["pooling"]:
        rows.insert(2, ("pooling", facts["pooling"]))
    if facts["labels"]:
        shown = ", ".join(map(str, facts["labels"][:12]))
        rows.insert(3, ("labels", f"{len(facts['labels'])} ({shown}" + (", …)" if len(facts["labels"]) > 12 else ")")))
    if facts["signature"]:
        rows.append(("signature", facts["signature"]))
    if facts["unused_weights"]:
        rows.append(
            (
                "unused weights",
                f"{len(facts['unused_weights']):,} ({facts['unused_weights'][0]}"
                + ", …" * (len(facts["unused_weights"]) > 1)
                + ")",
            )
        )
    return Section("Model", rows)


def _measured(facts: Mapping[str, Any]) -> list[Section]:
    signatures = facts["signatures"]
    rows = [[name, f"{value:.4g}", signatures.get(name, "")] for name, value in facts["metrics"].items()]
    title = "Scores on the dev set" + (f" (step {facts['step']:,})" if facts["step"] else "")
    return [Section(title, rows, ("metric", "value", "signature"))] if rows else []


def _parameters(parts: Mapping[str, int]) -> Section:
    total = sum(parts.values())
    rows = [[name, f"{count:,}", percent(count, total)] for name, count in parts.items()]
    return Section("Parameters", [*rows, ["total", f"{total:,}", ""]], ("part", "count", "share"))


def _cost(facts: Mapping[str, Any]) -> Section:
    used, counts = facts["memory_bytes"], facts["flops_per_token"]
    stored = ", ".join(f"{name}" for name in facts["values_by_dtype"])
    rows = [
        ("on disk", f"{size(facts['bytes'])} ({stored})"),
        ("weights in memory", f"{size(used['weights'])} in float32, {size(used['weights'] / 2)} in 16 bits"),
        ("training memory", f"{size(used['training'])} with AdamW, without the activations of a batch"),
    ]
    source = f", {size(used['cache_per_source_token'])} per source token" if "cache_per_source_token" in used else ""
    if used.get("cache_window") and not used["cache_per_token"]:
        rows.append(("decoding state", f"{size(used['cache_window'])}, however long the text is{source} (float32)"))
    elif "cache_per_token" in used:
        window = f", at most {size(used['cache_window'])} for layers with windows" if "cache_window" in used else ""
        rows.append(
            ("key-value cache", f"{size(used['cache_per_token'])} per generated token{window}{source} (float32)")
        )
    rows.append(
        (
            "FLOPs per token",
            f"{amount(counts['forward'])} for the forward pass, {amount(counts['training'])} in training",
        )
    )
    if counts["decoding"] is not None:
        rows.append(("FLOPs in decoding", f"{amount(counts['decoding'])} per generated token"))
    return Section(f"Cost (FLOPs for a sequence of {counted(counts['sequence_length'], 'token')})", rows)
