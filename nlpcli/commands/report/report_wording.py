"""Numbers, settings and outputs of a report in words, for all forms alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from nlpcli.commands.report.output_scores import Final, Paired
from nlpcli.commands.report.report import Output, Report
from nlpcli.config.model_settings import DEFAULT

NOTHING = "–"
_NOT_IN_PERCENT = re.compile("loss|perplexity|^bits_")
_LESS_PRECISE = 20  # from which on two decimals are enough


def number(value: float, final: Final) -> str:
    """`final`'s value or one of its ends: two decimals for percentages, otherwise as many as suit its size."""
    in_percent = not _NOT_IN_PERCENT.search(final.name)
    return f"{value:.2f}" if in_percent or abs(final.value) >= _LESS_PRECISE else f"{value:.4f}"


def score(final: Final | None) -> str:
    """`33.35 [32.10, 34.60]`, or the value alone where there is no interval."""
    if final is None:
        return NOTHING
    if not isinstance(final.value, (int, float)):  # a log may hold anything
        return str(final.value)
    if final.low is None or final.high is None:
        return number(final.value, final)
    return f"{number(final.value, final)} [{number(final.low, final)}, {number(final.high, final)}]"


def difference(paired: Paired) -> str:
    return f"{paired.difference:+.2f}" if abs(paired.difference) >= 0.095 else f"{paired.difference:+.4f}"


def verdict(paired: Paired) -> str:
    """The result of a paired test at the usual level of 5 %, in words."""
    if paired.difference == 0:
        return "no difference"
    if paired.p_value >= 0.05:
        return "not significant"
    return "better" if paired.better else "worse"


def setting(value: object) -> str:
    """A setting as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value)) or "[]"
    return str(value)


def cost(name: str, value: Any) -> str:
    """A cost of a run (minutes, FLOPs, memory …) for a table. A log may hold anything in the place of a number."""
    if value is None:
        return NOTHING
    if not isinstance(value, (int, float)):
        return str(value)
    if name == "minutes":
        return f"{value:.1f}" if value < 600 else f"{value:,.0f}"
    if name == "flops":
        return f"{value:.2e}".replace("e+", "e")
    if name == "tokens_per_second":
        return f"{value:,.0f}"
    return f"{value:,}"


def at(output: Output) -> str:
    """At which step, or from which to which, an output was given."""
    if output.last > output.step:
        return f"step {output.step:,} to {output.last:,}"
    return f"step {output.step:,}"


def facts(report: Report) -> list[tuple[str, list[str]]]:
    """The runs' tasks, settings and reasons for stopping, as rows of a table: a heading, and a cell for each run."""
    rows = [
        ("task", [_what(run.task, run.config) for run in report.runs]),
        ("stopped", [run.stopped for run in report.runs]),
        ("best checkpoint", [run.best_checkpoint for run in report.runs]),
    ]
    names = dict.fromkeys(name for own in report.cost for name in own)
    return rows + [
        ("FLOPs" if name == "flops" else name.replace("_", " "), [cost(name, own[name]) for own in report.cost])
        for name in names
    ]


def _what(task: str, config: dict[str, Any]) -> str:
    model = config.get("model") or {}
    family = "" if model.get("family") in (None, DEFAULT) else f"{model['family']} "
    return f"{task}, {family}{model.get('kind', '')}".rstrip(", ")


def signatures(report: Report) -> list[tuple[str, str]]:
    """How each score was measured, each way once."""
    found = dict.fromkeys((s.name, s.signature) for own in report.scores for s in own if s.signature)
    return sorted(found, key=lambda pair: report.metrics.index(pair[0]))


def some(outputs: Sequence[Output], count: int) -> Iterator[Output]:
    """At most `count` of the outputs, the first and the last among them."""
    if len(outputs) <= count:
        return iter(outputs)
    places = dict.fromkeys(round(i * (len(outputs) - 1) / (count - 1)) for i in range(count))
    return (outputs[place] for place in places)
