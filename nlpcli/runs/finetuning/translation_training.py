"""Fine-tuning for translation: parallel text files, encoded once, and BLEU while it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.config.counting import counted
from nlpcli.config.schema import RunConfig
from nlpcli.config.task_settings import EXAMPLE_SETTINGS
from nlpcli.data.progress import followed
from nlpcli.errors import NlpcliError
from nlpcli.runs.decoding_settings import tuned_info
from nlpcli.runs.dev_samples import DevOutputs, digest
from nlpcli.runs.finetuning.dev_alignments import (
    ALIGNED,
    DevAlignments,
    check_alignment,
    guided_alignment,
    training_links,
)
from nlpcli.runs.finetuning.example_reading import shared_words
from nlpcli.runs.finetuning.task_training import warner
from nlpcli.runs.init_from_model import InitialModel, info_of, open_initial_model
from nlpcli.runs.model_preparation import ModelPreparation, has_new_source_encoder
from nlpcli.runs.resolve_settings import check_metric, warn_unused
from nlpcli.runs.run_folder import choose_run
from nlpcli.runs.text_metrics import MEASURED, text_metrics
from nlpcli.runs.train import PreparedTraining, TrainingRun, train
from nlpcli.runs.training_request import Listener, Request
from nlpcli.runs.training_tokenizer import get_tokenizer, tokenizer_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from nlpcli.models.build import AnyModel
    from nlpcli.models.transformer import EncoderDecoder
    from nlpcli.objectives.scheduled_sampling import ScheduledSampling
    from nlpcli.tasks.translation import Translation, TranslationSides
    from nlpcli.text import Tokenizer
    from nlpcli.training.training_loop_types import Outcome

_UNUSED = ("data.documents", "data.field", "data.column", "data.context", "data.eval_stride", "data.dev_fraction")


def translation(request: Request, config: RunConfig, listener: Listener) -> tuple[Path, Outcome]:
    """Trains a translator on two parallel text files.

    Texts begin as for the initial model, in training and in use. A new source encoder reads the
    source files with a tokenizer of its own.
    """
    _check_model_and_files(config)
    from nlpcli.tasks.translation import TranslationSides
    from nlpcli.training.device import prepare

    warn_unused(config, (*_UNUSED, *EXAMPLE_SETTINGS), listener)
    _check_sampling(config)
    check_alignment(config)
    aligned = ALIGNED if config.alignment.dev_links else ()
    check_metric(config, (*MEASURED, "bleu", *aligned))
    _check_parallel(config.data.train, config.data.dev, warner(listener))
    folder = choose_run(request, config, "translation")
    machine = prepare(config.training.device, config.training.precision, config.training.threads)
    start = open_initial_model(config.init) if config.init and not request.resume else None
    separate = _source_tokenizer(request, config, start, folder, listener)
    if separate is not None:
        vocabulary = {"source_vocab_size": separate.vocab_size}
        config = config.model_copy(update={"model": config.model.model_copy(update=vocabulary)})
    tokenizer = tokenizer_of(request, config, start, folder, lambda: _lines(config), listener)
    preparation = ModelPreparation(config, start, tokenizer, listener)
    info = _conventions(config, start, folder, separate)
    sides = TranslationSides.of(tokenizer, separate, info)
    task = _task(config, sides)
    if config.model.position_limit:
        assert task.dev is not None  # as `_task` makes it
        _check_positions(config, task.dev.lengths + task.around)
    listener.note(
        counted(len(task), "training pair") + (f"; left out {task.left_out:,}, empty or too long" * bool(task.left_out))
    )
    measured = MeasuredTranslations(task, config, sides, machine.device)

    def build() -> AnyModel:
        model = preparation.build(config.model)
        if task.guided is not None:
            task.guided.head.check(model)
        return model

    outcome = train(
        TrainingRun(request, config, folder, machine, listener),
        PreparedTraining(
            _objective(task, config), tokenizer, build, preparation,
            info={
                **tuned_info(info, config.decoding), "task": "translation", "decoding": config.decoding.model_dump(),
                **({} if task.guided is None else {"alignment": task.guided.head.describe()}),
            },
            evaluate=measured, measured=measured.names, signatures=measured.signatures,
            dev_outputs=measured.dev_outputs, fingerprint=task.fingerprint, source_tokenizer=separate,
        ),
    )  # fmt: skip
    return folder, outcome


def _check_model_and_files(config: RunConfig) -> None:
    """Raises: NlpcliError for a model of another kind, and for sides that are not named."""
    if config.model.kind != "encoder-decoder":
        article = "an" if config.model.kind == "encoder" else "a"
        raise NlpcliError(
            f"translation needs an encoder-decoder, but this model is {article} {config.model.kind}",
            hint="choose another model with --model",
        )
    if len(config.data.train) != 2:
        raise NlpcliError("translation needs two training files", hint="use --train SOURCE TARGET")
    if len(config.data.dev) != 2:
        raise NlpcliError("translation needs a dev set", hint="use --dev SOURCE TARGET")


def _task(config: RunConfig, sides: TranslationSides) -> Translation:
    """The task over the files that `config` names, which are encoded."""
    from nlpcli.data.parallel_shards import ParallelShards
    from nlpcli.data.readers import read_parallel
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.tasks.translation import Translation, TranslationData

    source, target = config.data.train
    encoding: dict[str, Any] = {"target_tokenizer": sides.target, "workers": config.data.workers}
    shards = ParallelShards.build(source, target, sides.source, **encoding)
    dev_source, dev_target = config.data.dev
    dev = ParallelShards.build(dev_source, dev_target, sides.source, **encoding)
    sampling, guided = config.data.subword_sampling, guided_alignment(config)
    texts = list(read_parallel(source, target)) if sampling or guided is not None else None
    return Translation(
        TranslationData(shards, dev, texts, training_links(config, texts), guided),
        sides,
        batch_tokens=config.training.batch_tokens,
        max_length=config.data.max_length,
        loss_settings=LossSettings.of(config.training),
        seed=config.training.seed,
        sampling=sampling,
        like_length=config.training.batching == "length",
    )


def _check_sampling(config: RunConfig) -> None:
    """Raises: NlpcliError for what can't be used with a model that samples positions in training, where it does."""
    if config.training.r_drop and config.model.samples_attention:
        raise NlpcliError(
            "training.r_drop can't be used with hard attention that samples positions",
            hint="set model.hard_attention to gumbel or none, or leave out training.r_drop",
        )
    if config.training.scheduled_sampling != "none" and config.model.samples_attention:
        raise NlpcliError(
            "training.scheduled_sampling can't be used with hard attention that samples positions",
            hint="set model.hard_attention to gumbel or none, or leave out training.scheduled_sampling",
        )


def _objective(task: Translation, config: RunConfig) -> Translation | ScheduledSampling:
    """The task, with scheduled sampling where it is configured."""
    from nlpcli.objectives.scheduled_sampling import SamplingSchedule, ScheduledSampling

    training = config.training
    if training.scheduled_sampling == "none":
        return task
    schedule = SamplingSchedule(
        training.scheduled_sampling, training.scheduled_sampling_batches, training.scheduled_sampling_floor
    )
    return ScheduledSampling(task, schedule)


def _source_tokenizer(
    request: Request, config: RunConfig, start: InitialModel | None, run: Path, listener: Listener
) -> Any:
    """The tokenizer of sources that are read by an encoder of their own, None where there is none.

    Raises: NlpcliError for one that is named in vain, or that is not the model's.
    """
    from nlpcli.models.model_folder import SOURCE_TOKENIZER
    from nlpcli.runs.open_tokenizer import open_tokenizer
    from nlpcli.text import load_tokenizer

    given, layers = request.source_tokenizer, config.model.source_encoder_layers
    if not layers:
        if given is not None:
            raise NlpcliError(
                "--source-tokenizer needs a source encoder, but the model has none",
                hint="add a source encoder with --source-layers, or name the tokenizer of both sides with --tokenizer",
            )
        return None
    if request.resume:
        return load_tokenizer(run / SOURCE_TOKENIZER)
    if has_new_source_encoder(config, start):
        lines = lambda: _read_lines(config.data.train[:1])  # noqa: E731
        tokenizer = get_tokenizer(replace(request, tokenizer=given), lines, config, run, listener)
        size = counted(layers, "layer")
        listener.note(f"the new source encoder has {size} and a vocabulary of {counted(tokenizer.vocab_size, 'token')}")
        return tokenizer
    assert start is not None  # a source encoder without a start is a new one
    if given is not None and open_tokenizer(Path(given)).fingerprint != start.source_tokenizer.fingerprint:
        raise NlpcliError(
            f"{given} is not the tokenizer of the source encoder of {start.path}",
            hint="leave out --source-tokenizer, or add a new encoder with --source-layers",
        )
    return start.source_tokenizer


def _conventions(
    config: RunConfig, start: InitialModel | None, run: Path, separate: Tokenizer | None
) -> dict[str, Any]:
    """The entries of model.yaml about the inputs and outputs of the model that the run begins with.

    Where it reads a start before sources, a new source encoder reads that of its own vocabulary.
    """
    from nlpcli.models.model_folder import DESCRIPTION

    if start is None and (run / DESCRIPTION).exists():
        return info_of(run)
    if start is None:
        if not config.init:
            return {}
        start = open_initial_model(config.init)  # the run was interrupted before its model was first kept
    info = dict(start.info)
    info.pop("alignment", None)  # a head that is no longer trained forgets its links
    if info.get("source_start") and has_new_source_encoder(config, start):
        assert separate is not None  # of the new source encoder
        info["source_start"] = [separate.special.bos]
    return info


class MeasuredTranslations:
    """A translator's loss and perplexity on the dev set and, where they are measured, BLEU and the errors of its
    alignment head; `dev_outputs` contains its translations."""

    def __init__(self, task: Translation, config: RunConfig, sides: TranslationSides, device: torch.device) -> None:
        self.task, self.sides, self.device = task, sides, device
        self.translated = DevTranslations(config, sides, device)
        self.measures_bleu = config.training.bleu_sentences > 0
        self.aligned = DevAlignments.of(task, config, device)
        self.names = (*MEASURED, *["bleu"] * self.measures_bleu, *(ALIGNED if self.aligned else ()))
        self.signatures: dict[str, str] = {}
        self.dev_outputs = DevOutputs(config.training.samples)

    def __call__(self, model: EncoderDecoder) -> dict[str, float]:
        losses = followed(self.task.evaluate(model, self.device), "evaluating")
        assert self.task.dev is not None  # as `_task` makes it
        metrics = text_metrics(losses, self.task.dev.target, self.sides.target, self.signatures)
        output = self.translated(model)
        self.translated.show(output, self.dev_outputs, measured=self.measures_bleu)
        if self.measures_bleu:
            score = self.translated.bleu(output)
            metrics["bleu"] = score.value
            self.signatures["bleu"] = f"{score.signature}|{self.translated.signature}"
        if self.aligned is not None:
            metrics |= self.aligned(model)
            self.signatures |= self.aligned.signatures
        return metrics


class DevTranslations:
    """A model's translations of sentences spread evenly over the dev set, and their BLEU.

    They are as many as BLEU is measured on, with its beam; or, without BLEU, only those of the samples, by greedy
    search.
    """

    def __init__(self, config: RunConfig, sides: TranslationSides, device: torch.device) -> None:
        from nlpcli.data.readers import read_parallel
        from nlpcli.decoding.beam import BeamSettings
        from nlpcli.decoding.constraints import Constraints, never_written
        from nlpcli.decoding.length_penalty import Ranking
        from nlpcli.decoding.line_translator import TranslatorSettings
        from nlpcli.evaluation.bleu import Bleu

        Bleu(tokenize=config.decoding.bleu_tokenize)  # refuses an unknown tokenizer now, not after an epoch
        pairs = [pair for pair in read_parallel(*config.data.dev) if pair[0].strip()]
        training = config.training
        count = min(len(pairs), training.bleu_sentences or training.samples)
        self.pairs = [pairs[i * len(pairs) // count] for i in range(count)]
        self.config, self.sides, self.device = config, sides, device
        self.beam_size = training.bleu_beam_size if training.bleu_sentences else 1
        search = BeamSettings(
            beam_size=self.beam_size,
            ranking=Ranking(length_penalty=config.decoding.length_penalty),
            constraints=Constraints(suppress=never_written(sides.target.special)),
        )
        self.settings = TranslatorSettings(
            search=search, batch_tokens=config.training.batch_tokens, source_start=sides.source_start,
            target_start=sides.target_start,
        )  # fmt: skip

    @property
    def signature(self) -> str:
        return f"sentences:{len(self.pairs)}|beam:{self.beam_size}"

    def __call__(self, model: EncoderDecoder) -> list[str]:
        from nlpcli.decoding.translator import Translator

        translator = Translator(
            model, self.sides.target, self.settings, device=self.device, source_tokenizer=self.sides.source
        )
        return [translation.text for translation in translator.translate(source for source, _ in self.pairs)]

    def bleu(self, output: list[str]) -> Any:
        from nlpcli.evaluation.bleu import bleu

        return bleu(output, [[target for _, target in self.pairs]], **self._how())

    def _how(self) -> dict[str, Any]:
        return {"tokenize": self.config.decoding.bleu_tokenize, "lowercase": self.config.decoding.lowercase}

    def show(self, output: list[str], dev_outputs: DevOutputs, *, measured: bool) -> None:
        """Puts the translations into `dev_outputs`; measured: whether BLEU is measured on them."""
        samples = [
            {"source": self.pairs[i][0], "reference": self.pairs[i][1], "output": output[i]}
            for i in dev_outputs.chosen(len(output))
        ]
        if not measured:
            dev_outputs.fill(samples)
            return
        outputs = [{"reference": target, "output": text} for (_, target), text in zip(self.pairs, output, strict=True)]
        how = {"metric": "bleu", "options": self._how(), "suffix": self.signature}
        dev_outputs.fill(samples, outputs, {"bleu": how}, digest(self.pairs))


def _check_positions(config: RunConfig, dev: np.ndarray) -> None:
    """Whether learned positions reach as far as the sentences; `dev`: lengths (lines, 2) with what is around them."""
    positions = config.model.max_length
    if config.data.max_length > positions:
        raise NlpcliError(
            f"data.max_length {config.data.max_length} is greater than model.max_length {positions}",
            hint=f"set data.max_length={positions}, or a greater model.max_length",
        )
    longest = dev.max(axis=1)
    line = int(longest.argmax())
    if longest[line] > positions:
        raise NlpcliError(
            f"{' and '.join(config.data.dev)}, line {line + 1}: the pair has {counted(longest[line], 'token')} "
            f"(special tokens included), but the model has {counted(positions, 'position')}",
            hint=f"leave out the line, or set model.max_length to at least {longest[line]}",
        )


def _check_parallel(train: Sequence[str], dev: Sequence[str], warn: Callable[[str], None]) -> None:
    """Reads all files once, before anything is written, so that every error in them is reported at the start.

    warn: receives a message for dev pairs that are also in the training data, and for exchanged sides of the dev set.
    """
    from nlpcli.data.readers import read_parallel
    from nlpcli.data.train_dev_overlap import placed_pairs, shared, swapped

    for _ in read_parallel(*train):
        pass
    found = shared(placed_pairs(read_parallel(*dev), dev[0]), placed_pairs(read_parallel(*train), train[0]))
    if found:
        warn(shared_words(found, "pairs"))
    if swapped(read_parallel(*dev), read_parallel(*train)):
        warn(
            f"{dev[0]} seems to have the language of {train[1]}, and {dev[1]} that of {train[0]}; "
            "write --dev SOURCE TARGET, in the order of --train"
        )


def _lines(config: RunConfig) -> Iterator[str]:
    """The text of the (first) tokenizer: that of the target alone where sources have their own."""
    return _read_lines(config.data.train[1:] if config.model.source_encoder_layers else config.data.train)


def _read_lines(paths: Iterable[str]) -> Iterator[str]:
    from nlpcli.data.readers import read_lines

    for path in paths:
        yield from read_lines(path)
