"""Whether a model is what its signature states: each part computed again from what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpcli.config.loading import load_yaml, parse
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.run_folder import CONFIG
from nlpcli.runs.signature import settings_digest, short, weights_digest
from nlpcli.runs.training_request import PreparedRun, Request

EQUAL, DIFFERENT, NOT_CHECKED = "equal", "different", "not checked"


@dataclass(frozen=True)
class CheckedPart:
    """A part of a signature. result: EQUAL, DIFFERENT or NOT_CHECKED; reason: why it was not checked."""

    name: str
    stated: str | None
    found: str | None
    result: str
    reason: str = ""

    def as_dict(self) -> dict[str, str | None]:
        return {"part": self.name, "stated": self.stated, "found": self.found, "result": self.result,
                "reason": self.reason}  # fmt: skip


def verify(folder: Path) -> list[CheckedPart]:
    """The parts of the signature of the run `folder`, recomputed: parameters, tokenizer, data, the weights that
    training started from, settings, seed and weights.

    The training data is read and encoded as for training; its files must still be where they were.
    Raises: NlpcliError for a folder whose model has no signature.
    """
    from nlpcli.models.build import build_model, count_parameters
    from nlpcli.models.model_folder import read_info
    from nlpcli.text import load_tokenizer

    folder = Path(folder)
    info = read_info(folder)
    trained = info.get("trained")
    if not isinstance(trained, Mapping):
        raise NlpcliError(
            f"{folder}: the model has no signature",
            hint="only a model that was trained by this version of nlpcli, and not converted since, has one",
        )
    config = parse(RunConfig, load_yaml(folder / CONFIG), str(folder / CONFIG)) if (folder / CONFIG).is_file() else None

    def check(name: str, stated: object, compute: Any) -> CheckedPart:
        try:
            found = compute()
        except (NlpcliError, OSError) as error:
            return CheckedPart(name, _text(stated), None, NOT_CHECKED, str(error))
        return CheckedPart(name, _text(stated), _text(found), EQUAL if found == stated else DIFFERENT)

    def parameters() -> int:
        return count_parameters(build_model(info["model"], info["vocab_size"], info.get("head")))

    def of_config(compute: Any) -> Any:
        if config is None:
            raise NlpcliError(f"{folder / CONFIG} is missing")
        return compute(config)

    return [
        check("parameters", trained.get("parameters"), parameters),
        check("tokenizer", info.get("tokenizer"), lambda: load_tokenizer(folder / "tokenizer").fingerprint),
        check("data", trained.get("data"), lambda: of_config(lambda config: data_fingerprint(folder, config))),
        check("init", trained.get("init"), lambda: of_config(_init)),
        check("settings", trained.get("settings"), lambda: of_config(settings_digest)),
        check("seed", trained.get("seed"), lambda: of_config(lambda config: config.training.seed)),
        check("weights", info.get("sha256"), lambda: weights_digest(folder)),
    ]


def data_fingerprint(folder: Path, config: RunConfig) -> str:
    """The fingerprint of the data of a run, which is read and encoded as for training.

    Raises: NlpcliError when it can't be read.
    """
    found: list[PreparedRun] = []
    request = Request(default="", out=folder, resume=True, in_place_of_training=found.append)
    if config.task:
        from nlpcli.runs.finetuning.finetune import finetune as prepare
    else:
        from nlpcli.runs.pretraining.pretrain import pretrain as prepare
    prepare(request, _Silent())
    return found[0].data


def _init(config: RunConfig) -> str | None:
    if not config.init:
        return None
    found = weights_digest(Path(config.init))
    if found is None:
        raise NlpcliError(f"{config.init}: the folder of the model contains no weights")
    return found


def _text(value: object) -> str | None:
    return None if value is None else short(value) if isinstance(value, str) else str(value)


class _Silent:
    """A listener that shows nothing."""

    def note(self, text: str) -> None: ...

    def opened(self, run: Path) -> None: ...

    def started(self, progress: Any, share: float) -> None: ...

    def stepped(self, progress: Any, share: float, loss: float, lr: float, speed: float) -> None: ...

    def evaluated(self, progress: Any, metrics: Mapping[str, float], improved: bool) -> None: ...

    def stopped(self, progress: Any, reason: str) -> None: ...
