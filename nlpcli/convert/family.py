"""A family of Hugging Face models: its fixed settings, the names of its settings, and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nlpcli.config.loading import parse
from nlpcli.config.model_settings import DEFAULT, FAMILIES, ModelConfig
from nlpcli.config.rope_settings import RopeScalingConfig
from nlpcli.convert.name_map import Config, Pair, Weights
from nlpcli.errors import NlpcliError

ACTIVATIONS = {  # theirs -> ours
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
WRITTEN_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}

# settings without effect on a model's outputs, or only with an effect together with another setting
_FREE = {
    "kind", "d_key", "d_value", "encoder_layers", "decoder_layers", "dropout", "attention_dropout",
    "activation_dropout", "output_dropout", "initialization", "init_std", "max_length", "tie", "relative_buckets",
    "relative_distance", "memory_length", "share_position_biases", "source_vocab_size",
}  # fmt: skip
_PLAIN = {
    "family": "transformer", "norm": "layernorm", "norm_bias": True, "qk_norm": False, "embedding_norm": False,
    "d_embedding": None, "kv_heads": None, "parallel_residual": False, "attention": ["full"], "decoder_attention": None,
    "score": "scaled-dot", "head_aggregation": "projection", "attention_bias": True,
    "feed_forward_bias": True, "position_offset": 0, "segments": 0, "scale_embeddings": False, "output_bias": False,
    "scale_output": False, "mlm_head": False, "pooler": False, "pair_head": False, "clamp_length": 0,
    "adaptive_cutoffs": [], "source_layers": 0, "rope_theta": 10000.0, "rope_local_theta": None, "rope_share": 1.0,
    "rope_scaling": RopeScalingConfig().model_dump(), "first_norm": True, "mlm_head_bias": True,
    "relative_bias": False, "reversible": False, "global_tokens": 0,
}  # fmt: skip
_ZERO_WILL_DO = ("attention_bias", "feed_forward_bias", "norm_bias")  # absent is as good as zero


@dataclass(frozen=True)
class Family:
    """model_type: its name in config.json. prefix: before the names of the model without heads. kind: of ours.

    same: our setting -> their name, both ways. fixed: our settings that can have no other value (those that are not
    named have the plain one); a tuple lists several. handled: our settings that `read` and `write` see to.
    defaults: what their missing settings are. only: their settings that can have no other value here.
    read(theirs, their tensors) -> the rest of our settings; write(ours) -> the rest of theirs; also(ours) -> further
    settings of ours that don't fit.
    pairs(ours, theirs) -> the tensors; architecture(ours) -> the class in `transformers`.
    otherwise(their tensors) -> what those are that a model without heads lacks.
    ignored: ends of names of redundant tensors. checked: their settings that must be what `write` gives for
    the configuration that this program left in the folder; otherwise they were changed since, and count.
    """

    model_type: str
    prefix: str
    kind: str
    title: str
    same: Mapping[str, str]
    fixed: Mapping[str, Any]
    defaults: Mapping[str, Any]
    pairs: Callable[[Config, Config], list[Pair]]
    architecture: Callable[[Config], str]
    read: Callable[[Config, Weights], dict[str, Any]] = lambda theirs, weights: {}
    write: Callable[[Config], dict[str, Any]] = lambda ours: {}
    also: Callable[[Config], list[str]] = lambda ours: []
    otherwise: Callable[[Weights], dict[str, Tensor]] = lambda weights: {}
    handled: tuple[str, ...] = ()
    only: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()

    def misfits(self, ours: Config) -> list[str]:
        """Our settings that this family can't express."""
        if ours["kind"] != self.kind:
            return ["kind"]
        found = [
            name for name in ours if name not in _FREE | {*self.same, *self.handled} and not self._fits(name, ours)
        ]
        head = ours["d_model"] / ours["heads"]
        if "d_key" not in self.same:
            found += [name for name in ("d_key", "d_value") if ours.get(name) not in (None, head)]
        elif (ours["d_key"] or head) != (ours["d_value"] or head):
            found.append("d_value")
        if ours.get("tie", "all") not in self.fixed.get("tie", ("all", "source-target", "target-output", "none")):
            found.append("tie")
        return found + self.also(ours)

    def _fits(self, name: str, ours: Config) -> bool:
        allowed = self.fixed.get(name, _PLAIN.get(name))
        value = ours[name]
        if isinstance(allowed, tuple):
            return value in allowed
        return value == allowed or (name in _ZERO_WILL_DO and allowed is True and value is False)

    def config_out(self, ours: Config) -> dict[str, Any]:
        """Their configuration. Raises: NlpcliError naming what this family can't express."""
        wrong = self.misfits(ours)
        if wrong:
            values = ", ".join(f"model.{name} {value_text(ours[name])}" for name in wrong)
            raise NlpcliError(f"{self.title} does not support {values}")
        written = {theirs: ours[name] for name, theirs in self.same.items() if ours[name] is not None}
        return {"model_type": self.model_type, **dict(self.only), **written, **self.write(ours)}

    def config_in(self, theirs: Config, weights: Weights, place: str) -> dict[str, Any]:
        """Our configuration, every setting of it. Raises: NlpcliError naming a setting of theirs that is not known."""
        whole = {**self.defaults, **theirs}
        for name, value in self.only.items():
            if whole.get(name, value) != value:
                raise NlpcliError(
                    f"{place}: {name} {value_text(whole[name])} is not supported for {self.title}",
                    hint=f"only {name} {value_text(value)} is supported",
                )
        missing = [name for name in self.same.values() if name not in whole]
        if missing:
            raise NlpcliError(f"{place}: the key '{missing[0]}' is missing")
        fixed = {name: value for name, value in self.fixed.items() if not isinstance(value, tuple)}
        settings = FAMILIES.load(fixed.get("family", DEFAULT)).model_fields
        usual = {name: value for name, value in {**_PLAIN, **fixed}.items() if name in settings}
        ours = {"kind": self.kind, **usual, **{name: whole[key] for name, key in self.same.items()}}
        try:
            ours |= self.read(whole, weights)
        except (AttributeError, TypeError) as error:  # a list where a name or a number should be
            raise NlpcliError(
                f"{place}: this {self.title} model is not supported, because one of its settings has a wrong type",
                hint="compare the file with the published one",
            ) from error
        except ValueError as error:
            raise NlpcliError(f"{place}: this {self.title} model is not supported, because {error}") from None
        return parse(ModelConfig, ours, place).model_dump()


def activation_in(name: str) -> str:
    """Raises: ValueError for one that we lack."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"its activation is {name!r}")
    return ACTIVATIONS[name]


def in_turn(layers: Sequence[str]) -> list[str]:
    """The shortest list that, repeated, begins with `layers`."""
    sizes = range(1, len(layers) + 1)
    return list(layers[: next(n for n in sizes if all(layers[i] == layers[i % n] for i in range(len(layers))))])


def value_text(value: object) -> str:
    """A setting's value as a message quotes it."""
    return f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
