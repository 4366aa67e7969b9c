"""What `nlpcli pretrain` can teach: each objective's way from a configuration and a corpus to something trainable."""

from __future__ import annotations

from collections.abc import Iterable

from nlpcli.config.lazy_tables import LazyTable
from nlpcli.config.numbers import parse_float
from nlpcli.errors import NlpcliError

OBJECTIVES = LazyTable(
    "objective",
    {
        "clm": "nlpcli.runs.pretraining.causal_lm:BUILDER",
        "mlm": "nlpcli.runs.pretraining.masked_lm:BUILDER",
        "nsp": "nlpcli.runs.pretraining.masked_lm:BUILDER",
        "sop": "nlpcli.runs.pretraining.masked_lm:BUILDER",
        "denoise": "nlpcli.runs.pretraining.denoising:BUILDER",
        "gap-sentences": "nlpcli.runs.pretraining.denoising:BUILDER",
        "plm": "nlpcli.runs.pretraining.permutation_lm:BUILDER",
    },
)
"""Name -> the `Builder` of the objective. Objectives of one builder can be learnt together."""

SYNONYMS: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys(("causal", "causal-lm", "lm", "language-model", "language-modeling", "gpt", "gpt2"), ("clm", None)),
    **dict.fromkeys(("masked", "masked-lm", "roberta"), ("mlm", None)),
    "bert": ("mlm+nsp", None),
    "albert": ("mlm+sop", None),
    "t5": ("denoise", "spans"),
    "span-corruption": ("denoise", "spans"),
    "bart": ("denoise", "infill,permute"),
    "denoising": ("denoise", None),
    **dict.fromkeys(("pegasus", "gsg"), ("gap-sentences", None)),
    **dict.fromkeys(("xlnet", "permutation"), ("plm", None)),
}
"""What an objective is called elsewhere, often by its model: the objective, and the noise of `denoise`."""

PRESETS = {
    "clm": "gpt-mini",
    "mlm": "roberta-nano",
    "nsp": "bert-nano",
    "sop": "bert-nano",
    "denoise": "bart-nano",
    "gap-sentences": "pegasus-nano",
    "plm": "xlnet-nano",
}
"""What an objective is tried with when no preset is named."""

T5_NOISE = ("spans", "iid", "drop", "prefix", "bert-style", "mass-style", "deshuffle")
"""The noises that T5's shape is tried with."""


def parse(text: str) -> dict[str, float]:
    """`mlm`, `mlm+nsp` or `mlm=1+nsp=0.5`: each objective's weight in the sum.

    Raises: NlpcliError for an unknown name, a name that comes twice, a weight that is no positive number, and one of an
    objective that is alone.
    """
    weights: dict[str, float] = {}
    for part in text.split("+"):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name.lower() in SYNONYMS:
            meant, noise = SYNONYMS[name.lower()]
            hint = f"write {meant}" + (f" with --noise {noise}" if noise else "")
            raise NlpcliError(f"objective '{text}': '{name}' can't be used in a sum or with a weight", hint=hint)
        OBJECTIVES.check(name)
        if name in weights:
            raise NlpcliError(f"objective '{text}' names {name} twice")
        weights[name] = _weight(text, number) if equals else 1.0
    if len(weights) == 1 and weights[name] != 1.0:
        raise NlpcliError(
            f"objective '{text}': a weight has no effect on a single objective",
            hint=f"write {name}, or a sum such as mlm=1+nsp=0.5",
        )
    return weights


def builder(objective: str) -> str:
    """The name under which `OBJECTIVES` has what builds this sum.

    Raises: NlpcliError for objectives that don't read the same input.
    """
    names = list(parse(objective))
    if "gap-sentences" in names and "mlm" in names:  # PEGASUS's encoder learns it on what is left of the text
        names.remove("mlm")
    if len({OBJECTIVES.place(name) for name in names}) > 1:
        raise NlpcliError(
            f"the objectives in '{objective}' need different inputs, so they can't be combined",
            hint="combine mlm with nsp, sop or gap-sentences",
        )
    return names[0]


def _weight(text: str, number: str) -> float:
    weight = parse_float(number)
    if weight is None or weight <= 0:
        raise NlpcliError(
            f"objective '{text}': the weight '{number}' is not a positive number",
            hint="write for example mlm=1+nsp=0.5",
        )
    return weight


def default_preset(objective: str, noise: str | None = None, overrides: Iterable[str] = ()) -> str:
    """What an objective, or a sum of them, is tried with.

    noise: what `denoise` was asked for; overrides: "a.b=value", among which `noise.kinds` wins over it.
    """
    weights = parse(objective)
    for assignment in overrides:
        key, _, value = assignment.partition("=")
        if key.strip() == "noise.kinds":
            noise = value.strip(" '\"")
    if "denoise" in weights:
        kind = (noise or "").split(":")[0].strip()
        if kind in T5_NOISE:
            return "t5-nano"
        if kind == "gap-sentences":
            return PRESETS[kind]
    if "gap-sentences" in weights:
        return PRESETS["gap-sentences"]
    return PRESETS[max(weights, key=lambda name: name in ("nsp", "sop"))]
