"""Gives a trained model longer positions or another attention, as Longformer was made from RoBERTa.

Learned positions are copied repeatedly up to the new length (Beltagy et al. 2020, section 5), so that positions beside
each other keep their relation everywhere. The projections of Longformer's global tokens are initialized with those of
the local ones. Attention that needs other new weights is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from nlpcli.config.loading import parse
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.errors import NlpcliError
from nlpcli.escaping import shortened
from nlpcli.layers.positions import LearnedPositions
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import LoadedModel

_GLOBAL = "self_attention.global_"
_LOCAL = "self_attention."


def with_length_and_attention(
    loaded: LoadedModel, *, max_length: int | None = None, attention: Sequence[str] = ()
) -> LoadedModel:
    """The same model for texts of `max_length` tokens, None: as before, and with these entries of `model.attention`.

    attention: for each layer in turn, none: as before; of an encoder-decoder for its encoder.
    Raises: NlpcliError for a model without what is changed, a length that is no greater one, attention that the model
    can't have, and attention with weights that there are none for.
    """
    config = _changed(loaded.config, max_length, list(attention))
    old, tables = loaded.model.state_dict(), _tables(loaded)
    if max_length is not None and not tables:
        raise _no_positions(cast("TransformerConfig", loaded.config))
    model = build_model(config, loaded.vocab_size, loaded.info.get("head"))
    new = model.state_dict()
    weights = _fitting(old, new, ", ".join(attention))
    if max_length is not None:
        for name, offset in tables.items():
            weights[name] = longer_table(old[name], max_length, offset)
    for name, tensor in new.items():
        if weights[name].shape != tensor.shape:
            raise NlpcliError(
                f"the weight '{name}' is for texts of {loaded.config.max_length} tokens, and can't be made longer",
                hint="choose other attention with --attention",
            )
    model.load_state_dict(weights)
    info = {name: value for name, value in loaded.info.items() if name != "trained"}
    if max_length is not None:
        info |= {name: max_length for name in ("max_length", "context") if name in info}
    return replace(loaded, model=model.eval(), config=config, info=info)


def longer_table(table: Tensor, length: int, offset: int = 0) -> Tensor:
    """Positions (offset + n, width) -> (offset + length, width): the n rows after the first `offset`, over and over."""
    places = torch.arange(length) % (table.size(0) - offset)
    return torch.cat((table[:offset], table[offset + places.to(table.device)]))


def _changed(config: ModelConfig, max_length: int | None, attention: list[str]) -> ModelConfig:
    if not isinstance(config, TransformerConfig):
        raise NlpcliError(
            f"--attention and --max-length need a Transformer, but this model is of the family '{config.family}'"
        )
    changes: dict[str, Any] = {}
    if attention:
        changes["attention"] = attention
        if config.kind == "encoder-decoder":
            changes["decoder_attention"] = config.decoder_attention or config.attention
    if max_length is not None:
        if max_length <= config.max_length:
            raise NlpcliError(
                f"--max-length {max_length} is not greater than the {config.max_length} tokens of this model",
                hint="a model reads shorter texts as it is",
            )
        changes["max_length"] = max_length
    return parse(ModelConfig, config.model_dump() | changes, "--attention" if attention else "--max-length")


def _tables(loaded: LoadedModel) -> dict[str, int]:
    """The weights of learned positions, and how many rows there stand before the first position."""
    return {
        f"{name}.weight": module.offset
        for name, module in loaded.model.named_modules()
        if isinstance(module, LearnedPositions)
    }


def _no_positions(config: TransformerConfig) -> NlpcliError:
    return NlpcliError(
        f"--max-length needs learned positions, but this model has model.positions '{config.positions}'",
        hint="such positions have no greatest length" if config.positions != "none" else None,
    )


def _fitting(old: Mapping[str, Tensor], new: Mapping[str, Tensor], attention: str) -> dict[str, Tensor]:
    """The old weights under the names of the new model; those of global tokens are the local ones where new.

    Whole numbers are not weights: the number of Performer's sample is kept, begins at 0 where new, and may be left out.
    """
    numbers = {name: tensor for name, tensor in new.items() if not tensor.is_floating_point()}
    known = {**numbers, **old}
    found = {name: known.get(name, known.get(name.replace(_GLOBAL, _LOCAL))) for name in new}
    lacking = [name for name, tensor in found.items() if tensor is None]
    unused = [
        name for name, tensor in old.items() if name not in new and _GLOBAL not in name and tensor.is_floating_point()
    ]
    if lacking or unused:
        why = f"it has the weight '{lacking[0]}'" if lacking else f"it has no place for the weight '{unused[0]}'"
        raise NlpcliError(
            f"--attention '{shortened(attention)}' can't be that of this model, because {why}",
            hint="train a new model with it: nlpcli pretrain --attention …",
        )
    return {name: tensor for name, tensor in found.items() if tensor is not None}
