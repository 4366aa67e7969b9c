"""Left to right: clm, for decoders with and without memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlpcli.config.counting import counted
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.dev_samples import DevOutputs, Parts
from nlpcli.runs.pretraining.prepared_objective import (
    ObjectiveInputs,
    ObjectiveSpec,
    PreparedObjective,
    check_kind,
    check_positions,
    sized,
)
from nlpcli.runs.pretraining.sample_outputs import continuations
from nlpcli.runs.text_metrics import MEASURED, text_metrics

if TYPE_CHECKING:
    import torch

    from nlpcli.objectives.clm import LanguageModel


def check(config: RunConfig, weights: Mapping[str, float]) -> None:
    check_kind(config, "decoder")
    check_positions(config, config.data.context)
    model, data = config.model, config.data
    if data.document_mask:
        model.check_document_mask("data.document_mask")
    if data.document_mask and data.documents == "file":
        raise NlpcliError(
            "--document-mask needs several documents, but this text is read as one",
            hint="use --documents lines or --documents paragraphs",
        )
    stride = data.eval_stride or data.context
    if stride > data.context:
        raise NlpcliError(
            f"data.eval_stride {stride} is greater than data.context {data.context}, so tokens would be skipped",
            hint=f"set data.eval_stride to at most {data.context}",
        )
    if model.carried_states and stride != data.context:
        raise NlpcliError(
            "data.eval_stride has no effect on a model with memory, which reads each token once",
            hint="leave out data.eval_stride",
        )
    if not model.carried_states:
        for name in ("variable_context", "eval_streams"):
            if getattr(data, name) != type(data).model_fields[name].default:
                raise NlpcliError(
                    f"data.{name} has an effect only on a model with memory, which reads the text in order",
                    hint=f"leave out data.{name}, or choose a preset such as lstm-lm",
                )


def check_tokenizer(config: RunConfig, weights: Mapping[str, float]) -> None:
    adaptive = any(border < config.tokenizer.vocab_size for border in config.model.vocabulary_borders)
    if adaptive:
        from nlpcli.layers.vocabulary_loss import LossSettings
        from nlpcli.objectives.token_loss import check_adaptive

        check_adaptive(LossSettings.of(config.training))


def prepare(inputs: ObjectiveInputs) -> PreparedObjective:
    """A left-to-right language model over documents laid end to end."""
    from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream, VariableWindows
    from nlpcli.layers.vocabulary_loss import LossSettings
    from nlpcli.objectives.clm import CausalLanguageModelling, EvaluationReading

    config, tokenizer = inputs.config, inputs.tokenizer
    data, training = config.data, config.training
    train_shards, dev_shards = inputs.corpus.shards(tokenizer)
    eos = None if data.documents == "file" else tokenizer.special.eos
    cut: type[PackedWindows | StreamedWindows] = PackedWindows
    if config.model.carried_states:
        cut = VariableWindows if data.variable_context else StreamedWindows
    windows = cut(
        train_shards,
        data.context,
        eos=eos,
        batch_size=max(1, training.batch_tokens // data.context),
        seed=training.seed,
    )
    task = CausalLanguageModelling(
        windows,
        TokenStream(dev_shards, eos=eos),
        context=data.context,
        reading=EvaluationReading(data.eval_stride, data.eval_streams),
        batch_tokens=training.batch_tokens,
        loss_settings=LossSettings.of(training),
        document_mask=data.document_mask,
    )
    streams = len(task.stream_starts()[0]) if config.model.carried_states else 1
    signatures: dict[str, str] = {}
    dev_outputs = DevOutputs(training.samples)

    def evaluate(model: LanguageModel, device: torch.device) -> dict[str, float]:
        parts = Parts()
        metrics = text_metrics(
            parts.watch(task.evaluate(model, device)), dev_shards, tokenizer, signatures, window=task.context,
            stride=task.stride, memory=config.model.memory_signature, streams=streams,
        )  # fmt: skip
        samples = continuations(task, tokenizer, model, dev_outputs.count)
        dev_outputs.fill(samples, parts.outputs, parts.measures(perplexity=True), dev_shards.fingerprint)
        return metrics

    return PreparedObjective(
        objective=task,
        model=config.model,
        info={
            "task": "language-model",
            "context": data.context,
            "document_end": eos is not None,
            **({"eval_streams": data.eval_streams} if data.eval_streams > 1 else {}),
        },
        evaluate=evaluate,
        fingerprint=train_shards.fingerprint,
        summary=f"{sized(train_shards)}; {counted(dev_shards.tokens, 'token')} in the dev set, "
        f"scored in windows of {data.context} "
        f"with stride {task.stride}",
        signatures=signatures,
        dev_outputs=dev_outputs,
    )


def reads(config: RunConfig, weights: Mapping[str, float]) -> tuple[str, ...]:
    return ("data.document_mask", "data.eval_stride", "data.eval_streams", "data.variable_context")


CLM = ObjectiveSpec(
    preset="gpt-mini",
    check=check,
    prepare=prepare,
    measures=lambda config, weights: MEASURED,
    check_tokenizer=check_tokenizer,
    reads=reads,
    synonyms=dict.fromkeys(
        ("causal", "causal-lm", "lm", "language-model", "language-modeling", "gpt", "gpt2"), ("clm", None)
    ),
    options={"data.document_mask": "--document-mask"},
    sample_documents="file",
)
