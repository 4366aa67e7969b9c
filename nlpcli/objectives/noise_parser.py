"""From a short text such as `infill:0.3,permute` or `spans:0.15:3` to a noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_float
from nlpcli.errors import NlpcliError, unknown
from nlpcli.objectives.gap_sentences import GapSentences
from nlpcli.objectives.noise import Bart, Noise
from nlpcli.objectives.span_corruption import KINDS, Spans

BART = {"mask": ("0.15",), "delete": ("0.15",), "infill": ("0.3", "3"), "permute": (), "rotate": ()}
T5 = {name: {"spans": ("0.15", "3"), "prefix": (), "deshuffle": ()}.get(name, ("0.15",)) for name in KINDS}
PEGASUS = {"gap-sentences": ("0.3", "0")}
NOISES = BART | T5 | PEGASUS
"""Every noise and the numbers that may follow it, with their defaults."""


def parse_noise(text: str, *, whole_words: bool = False, gaps: GapSentences | None = None) -> Noise:
    """The noise that `text` names: BART's joined by commas, or one of T5's, or gap-sentences.

    mask:RATE  delete:RATE  infill:RATE:MEAN  permute  rotate;  spans:RATE:MEAN  iid:RATE  drop:RATE  prefix
    bert-style:RATE  mass-style:RATE  deshuffle;  gap-sentences:RATIO:MLM, where MLM is the weight of
    the encoder's masked language modelling.  Numbers may be left out.

    whole_words: spans of `infill` count words. gaps: the settings of gap-sentences that the text doesn't name.
    Raises: NlpcliError for unknown names, a noise given twice, numbers out of range, and kinds that exclude others.
    """
    steps: dict[str, list[float]] = {}
    for part in text.split(","):
        name, *numbers = (word.strip() for word in part.split(":"))
        if name not in NOISES:
            raise unknown("noise", name, NOISES)
        if name in steps:
            raise NlpcliError(f"noise '{text}' names {name} twice")
        steps[name] = _numbers(name, numbers)
    alone = [name for name in steps if name not in BART]
    if not alone:
        return _bart(steps, whole_words)
    if len(steps) > 1:
        raise NlpcliError(
            f"noise '{text}': {alone[0]} can't be combined with other noises",
            hint=f"only {', '.join(BART)} can be combined",
        )
    ((name, values),) = steps.items()
    if name in PEGASUS:
        given = text.count(":")
        named: dict[str, Any] = dict(zip(("ratio", "mlm")[:given], values, strict=False))
        return replace(gaps or GapSentences(), **named)
    return Spans(name, *values)


def _numbers(name: str, given: list[str]) -> list[float]:
    defaults = NOISES[name]
    if len(given) > len(defaults):
        takes = f"at most {counted(len(defaults), 'number')}" if defaults else "no number"
        raise NlpcliError(
            f"noise '{':'.join([name, *given])}': {name} takes {takes}, not {len(given)}",
            hint=f"write it like {':'.join([name, *defaults])}",
        )
    numbers = [parse_float(number) for number in (*given, *defaults[len(given) :])]
    if None in numbers:
        wrong = (*given, *defaults)[numbers.index(None)]
        raise NlpcliError(
            f"noise '{':'.join([name, *given])}': '{wrong}' is not a number",
            hint=f"write it like {':'.join([name, *defaults])}",
        )
    return cast("list[float]", numbers)  # None is refused above


def _bart(steps: dict[str, list[float]], whole_words: bool) -> Bart:
    rates: dict[str, Any] = {name: values[0] for name, values in steps.items() if values}
    switches = {name: True for name, values in steps.items() if not values}
    mean: dict[str, Any] = {"mean": steps["infill"][1]} if "infill" in steps else {}
    return Bart(**rates, **switches, **mean, whole_words=whole_words)
