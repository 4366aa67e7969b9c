"""Pretraining: from raw text to a model of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.objectives import OBJECTIVES
from nlpcli.recipes.run import Listener, Request, get_tokenizer, open_run, resolve, train


def pretrain(request: Request, listener: Listener) -> tuple[Path, Any]:
    """Trains a model on raw text. Returns: the run directory and the `Outcome`.

    Raises: NlpcliError for wrong settings or data, RunFailed when training diverges, KeyboardInterrupt after it saved.
    """
    config = resolve(request)
    OBJECTIVES.check(config.objective or "clm")
    return causal(request, config, listener)


def causal(request: Request, config: RunConfig, listener: Listener) -> tuple[Path, Any]:
    """Trains a left-to-right language model."""
    if config.model.kind != "decoder":
        raise NlpcliError(f"clm trains a decoder, and this model is a {config.model.kind}")
    if not config.data.train:
        raise NlpcliError("no text to train on", hint="--data FILE, folder or glob")
    if config.model.positions == "learned" and config.data.context > config.model.max_length:
        raise NlpcliError(
            f"data.context {config.data.context} is longer than the model's {config.model.max_length} positions",
            hint="set model.max_length to at least the context",
        )

    from nlpcli.data.packing import PackedWindows, TokenStream
    from nlpcli.objectives.clm import CausalLanguageModelling
    from nlpcli.recipes.run import check_documents
    from nlpcli.training.device import prepare

    data, training = config.data, config.training
    check_documents(config)
    run = open_run(request, config, f"{config.objective or 'clm'}-{request.preset}")
    listener.opened(run)
    machine = prepare(training.device, training.precision, training.threads)
    tokenizer = get_tokenizer(request, lambda: _texts(config), config, run, listener)
    train_shards, dev_shards = _shards(config, tokenizer)
    eos = None if data.documents == "file" else tokenizer.special.eos
    windows = PackedWindows(
        train_shards,
        data.context,
        eos=eos,
        batch_size=max(1, training.batch_tokens // data.context),
        seed=training.seed,
    )
    dev = TokenStream(dev_shards, eos=eos)
    task = CausalLanguageModelling(
        windows,
        dev,
        context=data.context,
        stride=data.eval_stride,
        batch_tokens=training.batch_tokens,
        label_smoothing=training.label_smoothing,
    )
    listener.note(
        f"{train_shards.documents:,} documents, {train_shards.tokens:,} tokens to train on; "
        f"{dev_shards.tokens:,} tokens held out, scored in windows of {data.context} with stride {task.stride}"
    )

    def evaluate(model: Any) -> dict[str, float]:
        return text_metrics(task.evaluate(model, machine.device), dev_shards, task, tokenizer)

    outcome = train(
        request=request, config=config, run=run, task=task, tokenizer=tokenizer, machine=machine,
        info={"task": "language-model", "context": data.context, "document_end": eos is not None}, evaluate=evaluate,
        listener=listener, data_fingerprint=train_shards.fingerprint,
    )  # fmt: skip
    return run, outcome


def text_metrics(losses: Any, shards: Any, task: Any, tokenizer: Any) -> dict[str, float]:
    """Loss, and perplexity per token, word and byte, of a held-out text."""
    from nlpcli.evaluation.perplexity import Protocol, perplexity

    nats, tokens = 0.0, 0
    for loss in losses:
        nats += float(loss.nll)
        tokens += loss.count
    protocol = Protocol(task.context, task.stride, f"{tokenizer.kind}-{tokenizer.vocab_size}")
    scores = perplexity(
        nats, tokens=tokens, words=max(1, shards.text_words), bytes=max(1, shards.text_bytes), protocol=protocol
    )
    names = {"token_perplexity": "perplexity"}
    return {names.get(name, name): score.value for name, score in scores.items()}


def _texts(config: RunConfig) -> Iterator[str]:
    """What a tokenizer is trained on: documents, or lines with their ends where a file is one document."""
    from nlpcli.data.readers import find_files, read_documents, read_lines

    data = config.data
    if data.documents == "file":
        for path in find_files(data.train):
            for line in read_lines(path):
                yield line + "\n"
    else:
        yield from read_documents(data.train, format=data.documents, field=data.field, column=data.column)


def _shards(config: RunConfig, tokenizer: Any) -> tuple[Any, Any]:
    """The token ids to train on and those held out."""
    from nlpcli.data.shards import build_shards

    data = config.data
    options = {"documents": data.documents, "field": data.field, "column": data.column, "workers": data.workers}
    shards = build_shards(data.train, tokenizer, **options)
    if data.dev:
        return shards, build_shards(data.dev, tokenizer, **options)
    if not data.dev_fraction:
        raise NlpcliError("nothing is held out to measure progress on", hint="give --dev or data.dev_fraction=0.05")
    return shards.split(data.dev_fraction)
