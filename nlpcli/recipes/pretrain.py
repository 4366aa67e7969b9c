"""Pretraining: from raw text to a model of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.objectives import OBJECTIVES
from nlpcli.recipes.corpus import Corpus
from nlpcli.recipes.run import (
    MEASURED,
    Listener,
    Request,
    choose_run,
    get_tokenizer,
    resolve,
    tell_unused,
    text_metrics,
    train,
)

_UNUSED = ("data.max_length", "data.subword_sampling", "training.bleu_sentences", "training.bleu_beam_size",
           "decoding.beam_size", "decoding.length_penalty", "decoding.lowercase", "decoding.bleu_tokenize")  # fmt: skip


def pretrain(request: Request, listener: Listener) -> tuple[Path, Any]:
    """Trains a model on raw text. Returns: the run directory and the `Outcome`.

    Raises: NlpcliError for wrong settings or data, RunFailed when training diverges, KeyboardInterrupt after it saved.
    """
    config = resolve(request)
    config = config.model_copy(update={"objective": config.objective or "clm"})
    OBJECTIVES.check(config.objective)
    with Corpus.opened(config.data) as corpus:
        return causal(request, config, corpus, listener)


def causal(request: Request, config: RunConfig, corpus: Corpus, listener: Listener) -> tuple[Path, Any]:
    """Trains a left-to-right language model."""
    if config.model.kind != "decoder":
        raise NlpcliError(f"clm trains a decoder, and this model is a {config.model.kind}")
    if config.model.positions == "learned" and config.data.context > config.model.max_length:
        raise NlpcliError(
            f"data.context {config.data.context} is longer than the model's {config.model.max_length} positions",
            hint="set model.max_length to at least the context",
        )

    from nlpcli.data.packing import PackedWindows, TokenStream
    from nlpcli.objectives.clm import CausalLanguageModelling
    from nlpcli.training.device import prepare

    tell_unused(config, _UNUSED, listener)
    data, training = config.data, config.training
    run = choose_run(request, f"{config.objective}-{Path(request.config or request.preset or request.default).stem}")
    machine = prepare(training.device, training.precision, training.threads)
    tokenizer = get_tokenizer(request, corpus.texts, config, run, listener)
    train_shards, dev_shards = corpus.shards(tokenizer)
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

    signatures: dict[str, str] = {}

    def evaluate(model: Any) -> dict[str, float]:
        return text_metrics(
            task.evaluate(model, machine.device), dev_shards, tokenizer, signatures, window=task.context,
            stride=task.stride,
        )  # fmt: skip

    outcome = train(
        request=request, config=config, run=run, task=task, tokenizer=tokenizer, machine=machine,
        info={"task": "language-model", "context": data.context, "document_end": eos is not None}, evaluate=evaluate,
        measured=MEASURED, signatures=signatures, listener=listener, data_fingerprint=train_shards.fingerprint,
    )  # fmt: skip
    return run, outcome
