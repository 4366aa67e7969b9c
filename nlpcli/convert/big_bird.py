"""BigBird (Zaheer et al. 2020): BERT whose attention is a pattern of blocks.

Short texts and full attention (`attention_type` original_full) give the same numbers as in `transformers`. Long texts
don't: in evaluation the classes there take block 0 for every random block, which then counts several times, and in
training they sample other blocks for each head. Here the blocks of a layer are sampled once, for training and
evaluation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nlpcli.attention.kinds import parse_attention
from nlpcli.attention.patterns import Full
from nlpcli.attention.random_patterns import BigBird
from nlpcli.convert.bert import BERT
from nlpcli.convert.family import in_turn
from nlpcli.convert.name_map import Config, Pair, Weights

_FULL, _SPARSE = "original_full", "block_sparse"
_DEFAULT = BigBird(64, 3)  # without a value in config.json


def _pairs(ours: Config, theirs: Config) -> list[Pair]:
    """Their classes have a pooler even where nothing reads it; it is zeros for a model of ours without one."""
    return [
        replace(pair, theirs=pair.theirs.replace("bert.pooler.dense.", "bert.pooler."))
        for pair in BERT.pairs({**ours, "pooler": True}, theirs)
    ]


def _read(theirs: Config, weights: Weights) -> dict[str, Any]:
    pooler = weights.get("bert.pooler.weight")
    return BERT.read(theirs, weights) | {
        "pooler": pooler is not None and bool(pooler.count_nonzero()),
        "attention": _attention_in(theirs),
    }


def _attention_in(theirs: Config) -> list[str]:
    """An entry for each layer, whose number is the seed of its random blocks."""
    kind, size, count = (theirs[name] for name in ("attention_type", "block_size", "num_random_blocks"))
    if kind == _FULL:
        return ["full"]
    if kind != _SPARSE:
        raise ValueError(f"its attention_type is {kind!r}")
    if not (isinstance(size, int) and isinstance(count, int) and size > 0 and count >= 0):
        raise ValueError(f"its block_size is {size!r} and its num_random_blocks is {count!r}")
    seeds = range(theirs["num_hidden_layers"]) if count else range(1)
    return in_turn([str(BigBird(size, count, seed)) for seed in seeds])


def _patterns(ours: Config) -> list[BigBird | None] | None:
    """The pattern of each entry, None for full attention; None where something else is among them."""
    found: list[BigBird | None] = []
    for entry in map(parse_attention, ours["attention"]):
        if entry.name != "softmax" or not isinstance(entry.pattern, (Full, BigBird)):
            return None
        found.append(entry.pattern if isinstance(entry.pattern, BigBird) else None)
    return found


def _write(ours: Config) -> dict[str, Any]:
    [pattern, *_] = _patterns(ours) or [None]
    sizes = pattern or _DEFAULT
    return {
        **BERT.write(ours),
        "attention_type": _FULL if pattern is None else _SPARSE,
        "block_size": sizes.size,
        "num_random_blocks": sizes.count,
    }


def _lacks(ours: Config) -> list[str]:
    patterns = _patterns(ours)
    alike = patterns is not None and len({pattern and (pattern.size, pattern.count) for pattern in patterns}) == 1
    return ([] if alike else ["attention"]) + (["pair_head"] if ours["pair_head"] and not ours["mlm_head"] else [])


def _architecture(ours: Config) -> str:
    if ours["mlm_head"]:
        return "BigBirdForPreTraining" if ours["pair_head"] else "BigBirdForMaskedLM"
    return "BigBirdModel"


BIG_BIRD = replace(
    BERT,
    model_type="big_bird",
    title="BigBird",
    same={**BERT.same, "scale_embeddings": "rescale_embeddings"},
    handled=(*BERT.handled, "attention"),
    defaults={
        **BERT.defaults,
        "hidden_act": "gelu_new",
        "max_position_embeddings": 4096,
        "rescale_embeddings": False,
        "attention_type": _SPARSE,
        "block_size": _DEFAULT.size,
        "num_random_blocks": _DEFAULT.count,
    },
    only={"is_decoder": False, "add_cross_attention": False, "use_bias": True},
    read=_read,
    write=_write,
    also=_lacks,
    checked=("attention_type", "block_size", "num_random_blocks"),
    pairs=_pairs,
    architecture=_architecture,
)
