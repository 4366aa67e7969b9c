"""From a model's configuration to the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nlpcli.config.model_settings import ModelConfig
from nlpcli.errors import NlpcliError
from nlpcli.escaping import shortened
from nlpcli.models.backbone import Backbone
from nlpcli.models.initialization import initialize
from nlpcli.models.model_with_head import WithHead
from nlpcli.models.multi_task_heads import WithHeads

if TYPE_CHECKING:
    from nlpcli.config.transformer_settings import TransformerConfig
    from nlpcli.models.transformer import EncoderDecoder

AnyModel = Backbone | WithHead | WithHeads
"""A model: the body alone, or under the head of one task or of several."""

_FILLING = ("normal_", "uniform_")


class _NoValues(TorchFunctionMode):
    """Fills nothing: where only shapes are needed, these functions of the meta device take a second to load."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "").endswith(_FILLING):  # of tensors, and in torch.nn.init
            return args[0] if args else kwargs["tensor"]
        if func is torch.randn:
            func = torch.empty
        elif func is torch.Tensor.mul:  # by a number, in constructors
            return args[0]
        return func(*args, **kwargs)


def build_on_meta(
    config: ModelConfig | Mapping[str, Any], vocab_size: int, head: Mapping[str, Any] | None = None
) -> AnyModel:
    """The model of `build_model` without memory for its numbers: names, shapes and counts.

    Raises: NlpcliError for settings that no model can be built with.
    """
    try:
        with torch.device("meta"), _NoValues():
            return _built(config, vocab_size, head, first_weights=False)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise NlpcliError(f"a model can't be built from these settings ({shortened(why)})") from None


def build_model(
    config: ModelConfig | Mapping[str, Any], vocab_size: int, head: Mapping[str, Any] | None = None
) -> AnyModel:
    """A freshly initialized model for `vocab_size` tokens; the weights depend on torch's random state only.

    head: the settings of `WithHead` for a task that needs one on top; those of several by name under `heads`.
    """
    return _built(config, vocab_size, head, first_weights=True)


def _built(
    config: ModelConfig | Mapping[str, Any], vocab_size: int, head: Mapping[str, Any] | None, *, first_weights: bool
) -> AnyModel:
    if not isinstance(config, ModelConfig):
        config = ModelConfig.model_validate(dict(config))
    module, _, function = config.build.partition(":")
    model: Backbone = getattr(import_module(module), function)(config, vocab_size)
    if first_weights:
        *_, layers = config.stacks.values()
        initialize(model, scheme=config.initialization, std=config.init_std, layers=layers)
    if config.source_encoder_layers:
        _add_source_encoder(model, config, vocab_size)
    if not head:
        return model
    if "heads" in head:
        return WithHeads(model, head["heads"], width=config.d_model)
    return WithHead(model, width=config.d_model, **head)


def _add_source_encoder(model: Backbone, config: ModelConfig, vocab_size: int) -> None:
    from nlpcli.models.source_encoder import add_source_encoder

    settings = cast("TransformerConfig", config)  # no other family has one
    size = settings.source_vocab_size or vocab_size
    add_source_encoder(cast("EncoderDecoder", model), settings, layers=settings.source_layers, vocab_size=size)


def count_parameters(model: nn.Module) -> int:
    """Trained numbers, each shared matrix once."""
    return sum(parameter.numel() for parameter in model.parameters())
