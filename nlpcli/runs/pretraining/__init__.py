"""The objectives of `nlpcli pretrain`: by name, in sums, and what they are called elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nlpcli.config.lazy_tables import LazyTable
from nlpcli.config.number_parsing import parse_float
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.runs.pretraining.prepared_objective import ObjectiveSpec

OBJECTIVES = LazyTable(
    "objective",
    {
        "clm": "nlpcli.runs.pretraining.causal_lm:CLM",
        "mlm": "nlpcli.runs.pretraining.masked_lm:MLM",
        "nsp": "nlpcli.runs.pretraining.masked_lm:NSP",
        "sop": "nlpcli.runs.pretraining.masked_lm:SOP",
        "denoise": "nlpcli.runs.pretraining.denoising:DENOISE",
        "gap-sentences": "nlpcli.runs.pretraining.denoising:GAP_SENTENCES",
        "plm": "nlpcli.runs.pretraining.permutation_lm:PLM",
        "word2vec": "nlpcli.runs.pretraining.word_vectors:WORD2VEC",
        "paragraph-vector": "nlpcli.runs.pretraining.word_vectors:PARAGRAPH_VECTOR",
        "skip-thought": "nlpcli.runs.pretraining.skip_thought:SKIP_THOUGHT",
    },
)
"""Name -> `ObjectiveSpec`, which has all that the program needs of an objective."""

DEFAULT_OBJECTIVE = "clm"
"""The objective when none is named."""


def synonyms() -> dict[str, tuple[str, str | None]]:
    """Other names of an objective, often that of its model -> the objective, and the noise that goes with it."""
    return {name: meant for own in map(OBJECTIVES.load, OBJECTIVES) for name, meant in own.synonyms.items()}


def parse(text: str) -> dict[str, float]:
    """`mlm`, `mlm+nsp` or `mlm=1+nsp=0.5`: each objective's weight in the sum.

    Raises: NlpcliError for an unknown name, a name that comes twice, a weight that is not a positive number, and one
    of a single objective.
    """
    weights: dict[str, float] = {}
    for part in text.split("+"):
        name, equals, number = (side.strip() for side in part.partition("="))
        if name not in OBJECTIVES and name.lower() in (other := synonyms()):
            meant, noise = other[name.lower()]
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


def spec_of(objective: str) -> ObjectiveSpec:
    """The `ObjectiveSpec` of an objective or of a sum of objectives.

    Raises: NlpcliError for objectives that don't read the same input.
    """
    specs = {name: OBJECTIVES.load(name) for name in parse(objective)}
    for spec in specs.values():
        if all(other.prepare is spec.prepare or name in spec.takes for name, other in specs.items()):
            return spec
    first = next(iter(specs))
    fits = [name for name in OBJECTIVES if name != first and _fit(first, name)]
    alone = f"choose one of them; {first} can't be combined with others"
    raise NlpcliError(
        f"the objectives in '{objective}' need different inputs, so they can't be combined",
        hint=f"combine {first} with {', '.join(fits[:-1])} or {fits[-1]}" if fits[1:] else alone,
    )


def _fit(one: str, other: str) -> bool:
    """Whether two objectives read the same input."""
    first, second = OBJECTIVES.load(one), OBJECTIVES.load(other)
    return first.prepare is second.prepare or one in second.takes or other in first.takes


def _weight(text: str, number: str) -> float:
    weight = parse_float(number)
    if weight is None or weight <= 0:
        raise NlpcliError(
            f"objective '{text}': the weight '{number}' is not a positive number",
            hint="write for example mlm=1+nsp=0.5",
        )
    return weight


def default_preset(objective: str, noise: str | None = None, overrides: Iterable[str] = ()) -> str:
    """The preset of an objective, or of a sum of them, when no model is named.

    noise: the requested noise; overrides: "a.b=value", among which `noise.kinds` wins over it.
    """
    for assignment in overrides:
        key, _, value = assignment.partition("=")
        if key.strip() == "noise.kinds":
            noise = value.strip(" '\"")
    specs = [OBJECTIVES.load(name) for name in parse(objective)]
    chosen = max(specs, key=lambda spec: spec.preset_precedence)
    return chosen.preset_for(noise or "") or chosen.preset
