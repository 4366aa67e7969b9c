"""The folder of a training run: its choice, its contents, and checks before a run starts or resumes in it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from nlpcli.config.files import AlreadyThere, real_path, write_atomic, write_new
from nlpcli.config.folder_lock import check_unlocked
from nlpcli.config.grid import slug
from nlpcli.config.loading import dump_yaml
from nlpcli.config.schema import RunConfig
from nlpcli.config.temporary_files import is_free, sweep
from nlpcli.errors import NlpcliError, nearest
from nlpcli.runs.dev_samples import OUTPUTS
from nlpcli.runs.model_card import CARD
from nlpcli.runs.multi_process_run import agreed_folder
from nlpcli.runs.training_request import Request

CONFIG = "config.yaml"
TOKENIZERS = ("tokenizer", "source-tokenizer")


def choose_run(request: Request, config: RunConfig, what: str) -> Path:
    """The folder the run will have: `--out`, or one under runs/ that is named after `what` is trained and the model.

    Nothing is written yet, so that a run refused for its data leaves nothing behind.
    Raises: NlpcliError when the folder holds a run and neither resume nor overwrite is set, or holds something else.
    """
    return agreed_folder(lambda: _chosen(request, config, what))


def _chosen(request: Request, config: RunConfig, what: str) -> Path:
    out = request.out or _next_free(Path("runs"), f"{what}-{model_name(request, config).removeprefix(f'{what}-')}")
    check_unlocked(out)
    if request.resume:
        return out
    if out.exists() and not out.is_dir():
        raise NlpcliError(f"{out} is a file, not a folder")
    if not is_free(out):
        is_run = (out / CONFIG).exists()
        if not (is_run and request.overwrite):
            if not is_run:
                raise NlpcliError(f"{out} is not empty, and it is not the folder of a run", hint="choose another --out")
            raise NlpcliError(
                f"{out} already contains a run",
                hint="choose another --out, resume the run with --resume, or replace it with --overwrite",
            )
    return out


def _next_free(root: Path, stem: str) -> Path:
    number = 1
    while os.path.lexists(root / f"{stem}-{number}"):
        number += 1
    return root / f"{stem}-{number}"


def model_name(request: Request, config: RunConfig) -> str:
    """The name of a run's model: after the file of its settings, the model it begins with, or its preset.

    The number at the end of a run's name is left out: `mlm-roberta-nano` for runs/mlm-roberta-nano-1.
    """
    if request.config is not None:
        name = request.config.stem
    elif config.init:
        name = re.sub(r"-\d+$", "", real_path(Path(config.init)).name)
    else:
        name = Path(request.preset or request.default).stem
    return slug(name) or "model"


def open_run(run: Path, request: Request, config: RunConfig) -> None:
    """Puts the resolved configuration into the run directory; of a run that is overwritten, the rest goes.

    Raises: NlpcliError when another process has begun a run there since the folder was chosen.
    """
    for folder in (run, run / "checkpoints", run / "checkpoints" / "average"):
        sweep(folder)
    content = dump_yaml(config.model_dump())
    if request.resume or request.overwrite:
        if not request.resume:
            _clear(run)
        write_atomic(run / CONFIG, content)
        return
    try:
        write_new(run / CONFIG, content)
    except AlreadyThere:
        hint = "run the command again; it chooses a new folder" if request.out is None else "choose another --out"
        raise NlpcliError(f"another run has started in the folder {run}", hint=hint) from None


def _clear(run: Path) -> None:
    """Removes what a run consists of, and nothing else.

    The card goes first, so that what is left is not taken for finished; the configuration stays until it is replaced,
    so that the folder is a run's at any moment.
    """
    import shutil

    for name in (CARD, "model.yaml", "model.safetensors", "metrics.jsonl", "samples.jsonl", OUTPUTS):
        (run / name).unlink(missing_ok=True)
    for name in ("checkpoints", *TOKENIZERS, "tensorboard", "non-finite"):
        shutil.rmtree(run / name, ignore_errors=True)


def has_checkpoint(run: Path) -> bool:
    """Whether a run has something to be resumed from."""
    return any((run / "checkpoints").glob("step-[0-9]*"))


def check_run_to_resume(out: Path) -> None:
    """Raises: NlpcliError where there is no run."""
    if not out.exists():
        near = nearest(out.name, [path.name for path in out.parent.glob("*") if (path / CONFIG).is_file()])
        hint = f"did you mean '{out.parent / near}'?" if near else "leave out --resume to start a new run"
        raise NlpcliError(f"{out} does not exist, so there is no run to resume", hint=hint)
    if out.is_file():
        raise NlpcliError(f"{out} is a file, not the folder of a run", hint="name a run's folder with --out")
    if is_free(out) and any(out.iterdir()):  # leftovers
        raise NlpcliError(
            f"{out} contains nothing to resume, because the run has not saved anything yet",
            hint="run the same command without --resume",
        )
    if not (out / CONFIG).is_file():
        raise NlpcliError(f"{out} is not the folder of a run ({CONFIG} is missing)", hint=_other_run(out))


def _other_run(folder: Path) -> str:
    """Which run may be meant by a folder that is none: those in it, or the one that it is a part of."""
    seeds = sorted(folder.glob(f"seed-*/{CONFIG}"))
    if seeds:
        place = shlex.quote(str(folder))
        return f"it contains one run for each seed: nlpcli finetune --resume --seeds {len(seeds)} --out {place}"
    below = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if below:
        return f"name one of the runs in it, such as {below[0]}"
    above = next((path for path in real_path(folder).parents[:2] if (path / CONFIG).is_file()), None)
    return f"name the run with --out: {above}" if above else "name a run's folder with --out"
