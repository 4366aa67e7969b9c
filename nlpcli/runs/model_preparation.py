"""Prepares a model for training: its vocabulary, its head, its adapters, its trainable parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from nlpcli.config.counting import counted
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import RunConfig
from nlpcli.errors import NlpcliError
from nlpcli.runs.init_from_model import InitialModel, load_initial_weights, without_source
from nlpcli.runs.training_request import Listener

if TYPE_CHECKING:
    from nlpcli.models.build import AnyModel
    from nlpcli.models.transformer import EncoderDecoder
    from nlpcli.text import Tokenizer
    from nlpcli.training.freezing import Plan
    from nlpcli.training.optimizer import Scales

_ROLES = ("sep", "cls")  # a decoder's delimiter and its last token, whose state is read


class HeadedTask(Protocol):
    """The purpose of a model: a task, or several as one."""

    def head(self) -> dict[str, Any]:
        """See `nlpcli.tasks.task.Task.head`."""
        ...

    def describe(self) -> dict[str, Any]:
        """See `nlpcli.tasks.task.Task.describe`."""
        ...


class ModelPreparation:
    """A model after the changes that `tuning` in a configuration requests.

    tokenizer: that of the model; with the special tokens that a decoder from elsewhere lacks, where `roles` are needed.
    """

    def __init__(
        self,
        config: RunConfig,
        start: InitialModel | None,
        tokenizer: Tokenizer,
        listener: Listener,
        *,
        roles: bool = False,
    ) -> None:
        self.config = config
        self.settings = config.tuning
        self.start = start
        self.listener = listener
        self.tokenizer = tokenizer
        missing = [role for role in _ROLES if role in tokenizer.special.absent]
        if roles and missing and config.model.kind == "decoder":
            from nlpcli.models.embedding_transfer import with_roles

            self.tokenizer = with_roles(tokenizer, missing)
            listener.note(f"added special tokens that the model does not have: {', '.join(missing)}")
        if config.init is None or config.tuning.fresh:
            _check_scratch(config)

    def build(self, body: ModelConfig, task: HeadedTask | None = None) -> Any:
        """The model to train: with the weights it begins with, a head where the task has one, and adapters."""
        from nlpcli.models.build import build_model
        from nlpcli.models.model_folder import unshared

        head = task.head() if task is not None else {}
        model = build_model(body, self.tokenizer.vocab_size, head)
        if self.start is not None and not self.settings.fresh:
            same = task is not None and bool(head) and self.start.head == head and self.start.problem == task.describe()
            new = load_initial_weights(model, self.start, self._weights(), same_problem=same)
            if new:
                total = len(unshared(model.state_dict()))
                self.listener.note(f"took {counted(total - len(new), 'weight')} from {self.start.path}; "
                                   f"new weights: {', '.join(new[:6])}"
                                   + (f" and {len(new) - 6} more" if len(new) > 6 else ""))  # fmt: skip
        self._embed(model)
        self._freeze(model)
        return model

    def plan(self, model: AnyModel) -> Plan | None:
        """Which weights are trained when, for the loop."""
        from nlpcli.models.source_encoder import first_stage
        from nlpcli.training.freezing import make_plan

        settings = self.settings
        first = first_stage(cast("EncoderDecoder", model)) if settings.mode == "stages" else ()
        return make_plan(
            model, settings.mode, every=settings.unfreeze_steps, first=first, first_steps=settings.stage_steps
        )

    def scales(self, model: AnyModel) -> Scales | None:
        """The factor of each weight's learning rate, for the loop."""
        from nlpcli.models.layer_groups import layer_scales

        return None if self.settings.layer_decay == 1.0 else layer_scales(model, self.settings.layer_decay)

    def _weights(self) -> Mapping[str, Any]:
        """The start's weights, for the vocabulary that is trained with."""
        start = self.start
        assert start is not None  # `build` calls this only if there is one
        weights = without_source(start.weights) if has_new_source_encoder(self.config, start) else start.weights
        if start.tokenizer is None or start.tokenizer.fingerprint == self.tokenizer.fingerprint:
            return weights
        from nlpcli.models.embedding_transfer import transfer_embeddings

        weights, carried = transfer_embeddings(weights, start.tokenizer, self.tokenizer)
        self.listener.note(
            f"{carried.shared:,} of {counted(carried.total, 'token')} keep their embeddings; the others get new ones"
        )
        return weights

    def _embed(self, model: AnyModel) -> None:
        """Token vectors from a file."""
        if self.settings.word_vectors is None:
            return
        from nlpcli.data.word_vectors import read_word_vectors
        from nlpcli.models.embedding_transfer import embed_from, wanted_by

        vectors = read_word_vectors(self.settings.word_vectors, wanted_by(self.tokenizer))
        found = embed_from(vectors, self.tokenizer, model.body.token_embedding.weight)
        self.listener.note(
            f"{found:,} of {counted(self.tokenizer.vocab_size, 'token')} get their embedding from the file"
        )

    def _freeze(self, model: AnyModel) -> None:
        settings = self.settings
        if settings.freeze_embeddings:
            model.body.token_embedding.weight.requires_grad_(False)
        if settings.lora_rank:
            from nlpcli.layers.lora import add_lora

            names = add_lora(
                model, rank=settings.lora_rank, alpha=settings.lora_alpha, dropout=settings.lora_dropout,
                targets=settings.lora_targets,
            )  # fmt: skip
            learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
            self.listener.note(
                f"low-rank adapters of rank {settings.lora_rank} in {counted(len(names), 'layer')}: "
                f"{counted(learnt, 'trainable parameter')}"
            )


def has_new_source_encoder(config: RunConfig, start: InitialModel | None) -> bool:
    """Whether the model that is trained reads sources with an encoder that `start` lacks, or that replaces its own."""
    if not config.model.source_encoder_layers:
        return False
    return start is None or bool(config.tuning.source_layers) or not start.config.source_encoder_layers


def _check_scratch(config: RunConfig) -> None:
    """Refuses ways to tune that make no sense of weights that mean nothing yet."""
    settings = config.tuning
    for name, there in (
        ("lora_rank", settings.lora_rank > 0),
        ("mode", settings.mode in ("head", "stages")),
        ("new_tokenizer", settings.new_tokenizer),
    ):
        if there:
            raise NlpcliError(
                f"tuning.{name} needs a trained model, but this model starts with random weights",
                hint="name a run or a Hugging Face folder with --model, and leave out tuning.fresh",
            )
