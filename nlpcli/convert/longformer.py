"""Longformer (Beltagy et al. 2020): RoBERTa with a window, and projections of their own for global tokens.

Global tokens are not a setting there, but an argument of a call (`global_attention_mask`). A model without our settings
is read with one global token, the first, as in its class for text classification.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nlpcli.attention.kinds import parse_attention
from nlpcli.convert.bert import ROBERTA
from nlpcli.convert.family import in_turn
from nlpcli.convert.name_map import Config, Pair, Weights, modules

_PREFIX = "longformer."
_GLOBAL = {f"self_attention.global_{name}": f"attention.self.{name}_global" for name in ("query", "key", "value")}


def _pairs(ours: Config, theirs: Config) -> list[Pair]:
    old = ROBERTA.prefix
    pairs = [
        replace(pair, theirs=_PREFIX + pair.theirs.removeprefix(old)) if pair.theirs.startswith(old) else pair
        for pair in ROBERTA.pairs(ours, theirs)
    ]
    for i in range(ours["encoder_layers"]):
        pairs += modules(_GLOBAL, f"encoder.layers.{i}.", f"{_PREFIX}encoder.layer.{i}.")
    return pairs


def _read(theirs: Config, weights: Weights) -> dict[str, Any]:
    given, layers = theirs["attention_window"], theirs["num_hidden_layers"]
    windows = [given] * layers if isinstance(given, int) else given
    if len(windows) != layers or not all(isinstance(w, int) and w > 0 and w % 2 == 0 for w in windows):
        raise ValueError(f"its attention_window is {given!r}, but must be an even number, or one for each layer")
    return ROBERTA.read(theirs, weights) | {"attention": in_turn([f"longformer:{window}" for window in windows])}


def _write(ours: Config) -> dict[str, Any]:
    entries = [parse_attention(text) for text in ours["attention"]]
    windows = [entries[i % len(entries)].numbers[0] for i in range(ours["encoder_layers"])]
    return {**ROBERTA.write(ours), "attention_window": windows}


def _lacks(ours: Config) -> list[str]:
    entries = [parse_attention(text) for text in ours["attention"]]
    fits = all(entry.name == "longformer" for entry in entries)
    return [] if fits and len({entry.numbers[1:] or (1,) for entry in entries}) == 1 else ["attention"]


LONGFORMER = replace(
    ROBERTA,
    model_type="longformer",
    prefix=_PREFIX,
    title="Longformer",
    handled=(*ROBERTA.handled, "attention"),
    defaults={**ROBERTA.defaults, "attention_window": 512},
    read=_read,
    write=_write,
    also=_lacks,
    checked=("attention_window",),
    pairs=_pairs,
    architecture=lambda ours: "LongformerForMaskedLM" if ours["mlm_head"] else "LongformerModel",
)
