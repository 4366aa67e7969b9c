"""Fine-tuning: from examples of a task to a model that does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.recipes.run import Listener, Request, language_metrics, open_run, resolve, train
from nlpcli.tasks import TASKS


def finetune(request: Request, listener: Listener) -> tuple[Path, Any]:
    """Trains a model for a task. Returns: the run directory and the `Outcome`.

    Raises: NlpcliError for wrong settings or data, RunFailed when training diverges, KeyboardInterrupt after it saved.
    """
    config = resolve(request)
    TASKS.check(config.task or "translation")
    return translation(request, config, listener)


def translation(request: Request, config: RunConfig, listener: Listener) -> tuple[Path, Any]:
    """Trains a translator on two parallel text files."""
    if config.model.kind != "encoder-decoder":
        raise NlpcliError(f"translation needs an encoder-decoder, and this model is a {config.model.kind}")
    if len(config.data.train) != 2:
        raise NlpcliError("translation needs two training files", hint="--train SOURCE TARGET")
    if len(config.data.dev) != 2:
        raise NlpcliError("translation needs two files to measure progress on", hint="--dev SOURCE TARGET")

    from nlpcli.data.parallel import ParallelShards
    from nlpcli.data.readers import read_parallel
    from nlpcli.tasks.translation import Translation
    from nlpcli.training.device import prepare

    source, target = config.data.train
    for pair in (config.data.train, config.data.dev):
        _check_parallel(*pair)
    run = open_run(request, config, "translation")
    listener.note(f"run: {run}")
    machine = prepare(config.training.device, config.training.precision, config.training.threads)
    tokenizer = get_tokenizer(request, config, run, listener)
    shards = ParallelShards.build(source, target, tokenizer, workers=config.data.workers)
    dev = ParallelShards.build(*config.data.dev, tokenizer, workers=config.data.workers)
    sampling = config.data.subword_sampling
    task = Translation(
        shards,
        dev,
        tokenizer,
        batch_tokens=config.training.batch_tokens,
        max_length=config.data.max_length,
        label_smoothing=config.training.label_smoothing,
        seed=config.training.seed,
        sampling=sampling,
        texts=list(read_parallel(source, target)) if sampling else None,
    )
    listener.note(f"{len(task):,} pairs" + (f", {task.left_out:,} empty or too long left out" * bool(task.left_out)))

    def evaluate(model: Any) -> dict[str, float]:
        return language_metrics(task.evaluate(model, machine.device))[0]

    outcome = train(
        request=request, config=config, run=run, task=task, tokenizer=tokenizer, machine=machine,
        info={"task": "translation"}, evaluate=evaluate, listener=listener, data_fingerprint=shards.fingerprint,
    )  # fmt: skip
    return run, outcome


def _check_parallel(source: str, target: str) -> None:
    """Reads both files once, before anything is written: every fault of theirs is told at the start."""
    from nlpcli.data.readers import read_parallel

    for _ in read_parallel(source, target):
        pass


def get_tokenizer(request: Request, config: RunConfig, run: Path, listener: Listener) -> Any:
    """The tokenizer that was given, the run's own when it is resumed, or one trained on the training text."""
    from nlpcli.data.readers import read_lines
    from nlpcli.models.directory import TOKENIZER
    from nlpcli.text import load_tokenizer, train_tokenizer

    if request.resume:
        return load_tokenizer(run / TOKENIZER)
    if request.tokenizer is not None:
        return load_tokenizer(request.tokenizer)
    settings = config.tokenizer
    listener.note(f"training a tokenizer: {settings.type}, {settings.vocab_size:,} pieces")
    return train_tokenizer(
        settings.type,
        (line for path in config.data.train for line in read_lines(path)),
        vocab_size=settings.vocab_size,
        sentinels=settings.sentinels,
        normalization=settings.normalization,
    )
