"""Fine-tuning for translation: parallel text files, encoded once, and BLEU while it learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.recipes.finetuning.supervised import tokenizer_of
from nlpcli.recipes.finetuning.tuning import Tuned
from nlpcli.recipes.run import MEASURED, Listener, Request, choose_run, tell_unused, text_metrics, train
from nlpcli.recipes.start import open_start

_UNUSED = ("data.documents", "data.field", "data.column", "data.context", "data.eval_stride", "data.dev_fraction")


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

    tell_unused(config, _UNUSED, listener)
    source, target = config.data.train
    for pair in (config.data.train, config.data.dev):
        _check_parallel(*pair)
    run = choose_run(request, "translation")
    machine = prepare(config.training.device, config.training.precision, config.training.threads)
    start = open_start(config.init) if config.init else None
    tokenizer = tokenizer_of(request, config, start, run, lambda: _lines(config), listener)
    tuned = Tuned(config, start, tokenizer, listener)
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
    if config.model.positions == "learned":
        _check_positions(config, dev.lengths)
    listener.note(f"{len(task):,} pairs" + (f", {task.left_out:,} empty or too long left out" * bool(task.left_out)))

    signatures: dict[str, str] = {}
    bleu = DevBleu(config, tokenizer, machine.device) if config.training.bleu_sentences else None

    def evaluate(model: Any) -> dict[str, float]:
        metrics = text_metrics(task.evaluate(model, machine.device), dev.target, tokenizer, signatures)
        if bleu is not None:
            score = bleu(model)
            metrics["bleu"] = score.value
            signatures["bleu"] = f"{score.signature}|sentences:{len(bleu.pairs)}|beam:{bleu.beam_size}"
        return metrics

    outcome = train(
        request=request, config=config, run=run, task=task, tokenizer=tokenizer, machine=machine,
        info={**(start.info if start else {}), "task": "translation", "decoding": config.decoding.model_dump()},
        evaluate=evaluate, listener=listener, measured=(*MEASURED, *["bleu"] * (bleu is not None)),
        signatures=signatures, data_fingerprint=shards.fingerprint, build=lambda: tuned.build(config.model),
        tuned=tuned,
    )  # fmt: skip
    return run, outcome


class DevBleu:
    """BLEU of a model's translations of sentences spread evenly over the dev set."""

    def __init__(self, config: RunConfig, tokenizer: Any, device: Any) -> None:
        from nlpcli.data.readers import read_parallel
        from nlpcli.decoding.beam import BeamSettings
        from nlpcli.decoding.constraints import Constraints, never_written
        from nlpcli.decoding.ranking import Ranking
        from nlpcli.decoding.translator import TranslatorSettings
        from nlpcli.evaluation.bleu import Bleu

        Bleu(tokenize=config.decoding.bleu_tokenize)  # an unknown tokenizer is told now, not after an epoch
        pairs = [pair for pair in read_parallel(*config.data.dev) if pair[0].strip()]
        count = min(len(pairs), config.training.bleu_sentences)
        self.pairs = [pairs[i * len(pairs) // count] for i in range(count)]
        self.config, self.tokenizer, self.device = config, tokenizer, device
        search = BeamSettings(
            beam_size=config.training.bleu_beam_size,
            ranking=Ranking(length_penalty=config.decoding.length_penalty),
            constraints=Constraints(suppress=never_written(tokenizer.special)),
        )
        self.beam_size = config.training.bleu_beam_size
        self.settings = TranslatorSettings(search=search, batch_tokens=config.training.batch_tokens)

    def __call__(self, model: Any) -> Any:
        from nlpcli.decoding.translator import Translator
        from nlpcli.evaluation.bleu import bleu

        translator = Translator(model, self.tokenizer, self.settings, device=self.device)
        output = [translation.text for translation in translator.translate(source for source, _ in self.pairs)]
        decoding = self.config.decoding
        references = [[target for _, target in self.pairs]]
        return bleu(output, references, tokenize=decoding.bleu_tokenize, lowercase=decoding.lowercase)


def _check_positions(config: RunConfig, dev: Any) -> None:
    """Whether learned positions reach as far as the sentences, each with its end; `dev`: lengths (lines, 2)."""
    positions = config.model.max_length
    if config.data.max_length > positions:
        raise NlpcliError(
            f"data.max_length {config.data.max_length} is longer than the model's {positions} positions",
            hint=f"set data.max_length={positions}, or model.max_length to at least the former",
        )
    longest = dev.max(axis=1)
    line = int(longest.argmax())
    if longest[line] >= positions:
        raise NlpcliError(
            f"line {line + 1} of {' and '.join(config.data.dev)}: {longest[line]} tokens and an end are more than the "
            f"model's {positions} positions",
            hint=f"leave the line out, or set model.max_length to at least {longest[line] + 1}",
        )


def _check_parallel(source: str, target: str) -> None:
    """Reads both files once, before anything is written: every fault of theirs is told at the start."""
    from nlpcli.data.readers import read_parallel

    for _ in read_parallel(source, target):
        pass


def _lines(config: RunConfig) -> Iterator[str]:
    from nlpcli.data.readers import read_lines

    for path in config.data.train:
        yield from read_lines(path)
