"""The model card of a run, README.md: what it is, how it was trained, how it ended, what it scores. Written last."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.config.files import read_regular
from nlpcli.config.schema import RunConfig
from nlpcli.runs.signature import versions

if TYPE_CHECKING:
    from nlpcli.training.device import Machine
    from nlpcli.training.training_loop_types import Outcome

CARD = "README.md"
_FIELD = re.compile(r"^- (command|data|trained|machine|versions|stopped|best checkpoint): (.*)$", re.MULTILINE)
_PARAMETERS = re.compile(r"([\d,]+) parameters?\.")


def read_card(run: Path) -> dict[str, str]:
    """command, data, trained, machine, stopped and best checkpoint in the card of the folder `run`, and the number
    of parameters without commas; {} where there is no card, or one that is none of a run."""
    path = Path(run) / CARD
    if not path.is_file():
        return {}
    text = read_regular(path).decode("utf-8", "replace")
    found = dict(_FIELD.findall(text))
    if (parameters := _PARAMETERS.search(text)) is not None:
        found["parameters"] = parameters[1].replace(",", "")
    return found if {"stopped", "best checkpoint", "trained"} <= found.keys() else {}


@dataclass(frozen=True)
class CardFacts:
    """The entries of a card besides settings and outcome: the command, the number of parameters, the machine, the
    fingerprint of the training data, the signatures of metrics by name, and that of the model."""

    command: str
    parameters: int
    machine: Machine
    fingerprint: str
    signatures: Mapping[str, str]
    signature: str | None


def card_of(config: RunConfig, run: Path, outcome: Outcome, facts: CardFacts) -> str:
    """The card, with what `read_card` finds in its list."""
    progress = outcome.progress
    escaped = {
        name: text.replace("|", r"\|") for name, text in facts.signatures.items()
    }  # a bare bar would end the cell
    results = "\n".join(
        f"| {name} | {value:.4f} | {escaped.get(name, '')} |" for name, value in outcome.metrics.items()
    )
    files = ", ".join(f"`{name}`" for name in config.data.dev)
    dev = files or f"the last {100 * config.data.dev_fraction:g} % of the training text"
    return f"""# {run.name}

{config.description or "A model trained with nlpcli"}. \
{f"Task: {config.task}" if config.task else f"Objective: {config.objective}"}. \
The model has {counted(facts.parameters, "parameter")}.

- command: `{facts.command}`
- data: `{", ".join(config.data.train)}`, fingerprint `{facts.fingerprint}`
- trained: {counted(progress.step, "step")}, {counted(progress.tokens, "token")}, {progress.seconds / 60:.1f} minutes
- machine: {facts.machine.describe()}
- versions: {", ".join(f"{name} {version}" for name, version in versions().items())}
- stopped: {outcome.reason}, {time.strftime("%Y-%m-%d")}
- best checkpoint: {outcome.kept}

Signature of the model, which `nlpcli inspect --verify` checks:

    {facts.signature}

Metrics of the best checkpoint on the dev set ({dev}):

| metric | value | signature |
|---|---|---|
{results}
"""
