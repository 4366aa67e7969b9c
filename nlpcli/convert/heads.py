"""Heads of fine-tuned models: the classes of `transformers` that have them, their settings and tensors, both ways.

Two things have no place there, and go into the layer before: the range of a regression, whose scores are in the data's
units there, into the output layer; and the bias of an output layer that has none there, into the last norm's bias β,
    W (x + β) + b = W (x + β + W⁺ b).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nlpcli.convert.family import WRITTEN_ACTIVATIONS, activation_in, value_text
from nlpcli.convert.name_map import Config, Pair, Weights, from_huggingface, modules, same, to_huggingface
from nlpcli.errors import NlpcliError

OURS = ("head.", "layer_weights", "layer_scale")
"""How the names of a head's weights begin."""

TEXTS = ("classify", "multi-label", "regress")
_PROBLEM_TYPES = {
    "classify": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regress": "regression",
}
_LABEL = "LABEL_"  # what a label without a name is called there, before its number


@dataclass(frozen=True)
class HeadClass:
    """A class of `transformers`, and what it is for.

    name: its own, without the family's. tasks: ours. output, dense: their names of our head's layers. activation: of
    the dense one. prediction: their name of the layer before it. pooling: of a head that
    has one vector of outputs for a text. bias: whether the output layer has one.
    norm: the name of our last norm where it hasn't. dropout: their name of the head's. more: settings of theirs that it
    goes with.
    """

    name: str
    tasks: tuple[str, ...]
    output: str
    dense: str | None = None
    pooling: str | None = None
    bias: bool = True
    norm: str = ""
    side: str = "encoder"
    activation: str = "tanh"
    prediction: str | None = None
    dropout: str = "classifier_dropout"
    more: Mapping[str, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Those of our head that the class can express."""
        which = {"layers": "last", "side": self.side}
        if self.pooling is None:
            return {"kind": "tokens", "recurrent": 0, **which}
        inner = {} if self.activation == "tanh" else {"activation": self.activation}
        return {"kind": "text", "pooling": self.pooling, "dense": self.dense is not None, **inner, **which}

    def pairs(self, config: Config) -> list[Pair]:
        names = {} if self.dense is None else {"head.dense": self.dense}
        pairs = modules(names) + modules({"head.output": self.output}, bias=False)
        if self.prediction is not None:
            inner, there = "head.prediction.", f"{self.prediction}."
            pairs += modules({"dense": "dense"}, inner, there, bias=config["mlm_head_bias"])
            pairs += modules({"norm": "norm"}, inner, there, bias=config["norm_bias"])
        return [*pairs, same("head.output.bias", f"{self.output}.bias")] if self.bias else pairs


_DEFAULTS = {"layers": "last", "side": "encoder", "dense": False, "activation": "tanh", "recurrent": 0}
_SUMMARY = {"summary_type": "last", "summary_use_proj": True, "summary_activation": "tanh"}


def _bert(name: str, dense: str, output: str, choice: str) -> tuple[HeadClass, ...]:
    """dense, output: of the head for texts; choice: the inner layer of that for choices."""
    return (
        HeadClass(f"{name}ForSequenceClassification", TEXTS, output, dense, "first"),
        HeadClass(f"{name}ForTokenClassification", ("tag",), "classifier"),
        HeadClass(f"{name}ForQuestionAnswering", ("span",), "qa_outputs"),
        HeadClass(f"{name}ForMultipleChoice", ("choice",), "classifier", choice, "first"),
    )


def _llama(name: str) -> tuple[HeadClass, ...]:
    return (
        HeadClass(f"{name}ForSequenceClassification", TEXTS, "score", None, "last", bias=False, norm="decoder.norm"),
        HeadClass(f"{name}ForTokenClassification", ("tag",), "score"),
    )


def _big_bird() -> tuple[HeadClass, ...]:
    """The inner layer of its head for texts has the activation of all its layers."""
    name = "BigBirdForSequenceClassification"
    return (
        *(
            HeadClass(
                name, TEXTS, "classifier.out_proj", "classifier.dense", "first", activation=ours,
                more={"hidden_act": theirs},
            )
            for ours, theirs in sorted(WRITTEN_ACTIVATIONS.items(), key=lambda pair: pair[0] != "gelu_tanh")
        ),
        HeadClass("BigBirdForTokenClassification", ("tag",), "classifier"),
        HeadClass("BigBirdForMultipleChoice", ("choice",), "classifier", "bert.pooler", "first"),
    )  # fmt: skip


CLASSES: dict[str, tuple[HeadClass, ...]] = {
    "bert": _bert("Bert", "bert.pooler.dense", "classifier", "bert.pooler.dense"),
    "roberta": _bert("Roberta", "classifier.dense", "classifier.out_proj", "roberta.pooler.dense"),
    "xlm-roberta": _bert("XLMRoberta", "classifier.dense", "classifier.out_proj", "roberta.pooler.dense"),
    "mpnet": _bert("MPNet", "classifier.dense", "classifier.out_proj", "mpnet.pooler.dense"),
    "longformer": _bert("Longformer", "classifier.dense", "classifier.out_proj", "longformer.pooler.dense"),
    "big_bird": _big_bird(),
    "modernbert": (
        *(
            HeadClass(
                "ModernBertForSequenceClassification", TEXTS, "classifier", None, pooling, prediction="head",
                more={"classifier_pooling": theirs},
            )
            for theirs, pooling in (("cls", "first"), ("mean", "mean"))
        ),
        HeadClass("ModernBertForTokenClassification", ("tag",), "classifier", prediction="head"),
        HeadClass("ModernBertForQuestionAnswering", ("span",), "classifier", prediction="head"),
    ),
    "electra": (
        HeadClass(
            "ElectraForSequenceClassification", TEXTS, "classifier.out_proj", "classifier.dense", "first",
            activation="gelu",
        ),
        HeadClass("ElectraForTokenClassification", ("tag",), "classifier"),
        HeadClass("ElectraForQuestionAnswering", ("span",), "qa_outputs"),
        HeadClass(
            "ElectraForMultipleChoice", ("choice",), "classifier", "sequence_summary.summary", "first",
            activation="gelu", dropout="summary_last_dropout",
            more={"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"},
        ),
    ),
    "distilbert": (
        HeadClass(
            "DistilBertForSequenceClassification", TEXTS, "classifier", "pre_classifier", "first", activation="relu",
            dropout="seq_classif_dropout",
        ),
        HeadClass("DistilBertForTokenClassification", ("tag",), "classifier"),
        HeadClass("DistilBertForQuestionAnswering", ("span",), "qa_outputs", dropout="qa_dropout"),
        HeadClass(
            "DistilBertForMultipleChoice", ("choice",), "classifier", "pre_classifier", "first", activation="relu",
            dropout="seq_classif_dropout",
        ),
    ),
    "gpt2": (
        HeadClass("GPT2ForSequenceClassification", TEXTS, "score", None, "last", bias=False, norm="decoder.norm"),
        HeadClass("GPT2ForTokenClassification", ("tag",), "classifier"),
        HeadClass("GPT2ForQuestionAnswering", ("span",), "qa_outputs"),
    ),
    "gpt_neox": (
        HeadClass("GPTNeoXForSequenceClassification", TEXTS, "score", None, "last", bias=False, norm="decoder.norm"),
        HeadClass("GPTNeoXForTokenClassification", ("tag",), "classifier"),
        HeadClass("GPTNeoXForQuestionAnswering", ("span",), "qa_outputs"),
    ),
    "llama": _llama("Llama"),
    "mistral": _llama("Mistral"),
    "qwen3": _llama("Qwen3"),
    "openai-gpt": (
        HeadClass(
            "OpenAIGPTForSequenceClassification", TEXTS, "score", None, "last", bias=False,
            norm="decoder.layers.{last}.feed_forward_norm",
        ),
    ),
    "bart": (
        HeadClass(
            "BartForSequenceClassification", TEXTS, "classification_head.out_proj", "classification_head.dense", "last",
            side="decoder",
        ),
        HeadClass("BartForQuestionAnswering", ("span",), "qa_outputs", side="decoder"),
    ),
    "xlnet": (
        HeadClass(
            "XLNetForSequenceClassification", TEXTS, "logits_proj", "sequence_summary.summary", "last",
            dropout="summary_last_dropout", more=_SUMMARY,
        ),
        HeadClass("XLNetForTokenClassification", ("tag",), "classifier", dropout="summary_last_dropout"),
        HeadClass("XLNetForQuestionAnsweringSimple", ("span",), "qa_outputs", dropout="summary_last_dropout"),
        HeadClass(
            "XLNetForMultipleChoice", ("choice",), "logits_proj", "sequence_summary.summary", "last",
            dropout="summary_last_dropout", more=_SUMMARY,
        ),
    ),
}  # fmt: skip
"""The classes with heads of each model type."""


# --- ours -> theirs ----------------------------------------------------------------------------------------------


def class_for(model_type: str, title: str, info: Mapping[str, Any]) -> HeadClass:
    """The class for a model's task and head. Raises: NlpcliError naming what none can express."""
    head, task = info["head"], info["task"]
    if "heads" in head:
        raise NlpcliError("transformers has no class for a model with heads for several tasks")
    suited = [one for one in CLASSES.get(model_type, ()) if task in one.tasks]
    if not suited:
        raise NlpcliError(f"transformers has no {title} class for the task '{task}'")
    found = min(suited, key=lambda one: len(_differing(one, head)))
    for name, value in _differing(found, head).items():
        raise NlpcliError(
            f"{found.name} does not support head.{name} {value_text(head.get(name, _DEFAULTS.get(name)))}",
            hint=f"it supports only head.{name} {value_text(value)}",
        )
    if info["problem"].get("both_orders"):
        raise NlpcliError(
            f"{found.name} does not support head.both_orders true", hint="it encodes a pair in one order only"
        )
    return found


def _differing(cls: HeadClass, head: Config) -> dict[str, Any]:
    """The settings of the class that a head has otherwise."""
    wanted = {"activation": "tanh", **cls.settings}
    found = {name: value for name, value in wanted.items() if head.get(name, _DEFAULTS.get(name)) != value}
    return found | ({"prediction": cls.prediction} if bool(head.get("prediction")) != bool(cls.prediction) else {})


def settings_out(cls: HeadClass, info: Mapping[str, Any]) -> dict[str, Any]:
    """Their settings for the head."""
    head, task = info["head"], info["task"]
    labels = info["problem"].get("labels") or [f"{_LABEL}{i}" for i in range(head["outputs"])]
    settings: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        cls.dropout: head.get("dropout", 0.0),
        **(cls.more or {}),
    }
    if task in _PROBLEM_TYPES:
        settings["problem_type"] = _PROBLEM_TYPES[task]
    if "start" in head:
        settings["decoder_start_token_id"] = head["start"]
    return settings


def folded(cls: HeadClass, weights: Weights, config: Config, info: Mapping[str, Any]) -> dict[str, Tensor]:
    """Our weights with what has no place there in the layers before; see the module.

    Raises: NlpcliError where there is no such layer.
    """
    found = dict(weights)
    low, span = _range(info)
    if (low, span) != (0.0, 1.0):
        found["head.output.weight"] = (weights["head.output.weight"].double() * span).float()
        found["head.output.bias"] = (weights["head.output.bias"].double() * span + low).float()
    if cls.bias:
        return found
    weight, bias = found["head.output.weight"].double(), found.pop("head.output.bias").double()
    if bias.count_nonzero():
        shift = torch.linalg.pinv(weight) @ bias
        norm = f"{cls.norm.format(last=config['decoder_layers'] - 1)}.bias"
        if norm not in found or not torch.allclose(weight @ shift, bias, atol=1e-6):
            raise NlpcliError(f"{cls.name} has no bias in its output layer, but this model needs one")
        found[norm] = (found[norm].double() + shift).float()
    return found


def unfolded(cls: HeadClass, weights: Weights, info: Mapping[str, Any]) -> dict[str, Tensor]:
    """Their weights under our names with a head of ours; what went into a norm stays there."""
    found = dict(weights)
    weight = weights["head.output.weight"]
    low, span = _range(info)
    bias = weights.get("head.output.bias", weight.new_zeros(weight.size(0)))
    found["head.output.bias"] = ((bias.double() - low) / span).float()
    found["head.output.weight"] = (weight.double() / span).float()
    return found


def tensors_out(
    cls: HeadClass | None, pairs: Sequence[Pair], weights: Weights, config: Config, info: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Our weights, those of the body without its prefix, as theirs; cls: None for a model without head there."""
    if cls is None:
        return to_huggingface(pairs, weights, config)
    return to_huggingface([*pairs, *cls.pairs(config)], folded(cls, weights, config, info), config)


def tensors_in(
    cls: HeadClass | None, pairs: Sequence[Pair], weights: Weights, config: Config, info: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The way back. Raises: KeyError for a tensor that is missing."""
    if cls is None:
        return from_huggingface(pairs, weights, config)
    return unfolded(cls, from_huggingface([*pairs, *cls.pairs(config)], weights, config), info)


def _range(info: Mapping[str, Any]) -> tuple[float, float]:
    """Least score and width of a regression's range, 0 and 1 for anything else."""
    low, high = (info["problem"].get(name) for name in ("low", "high"))
    if info["task"] != "regress" or low is None or high is None:
        return 0.0, 1.0
    return float(low), float(high) - float(low)


# --- theirs -> ours ----------------------------------------------------------------------------------------------


def class_in(theirs: Config) -> HeadClass | None:
    """The class a config.json names, None where that has no head known here."""
    named = theirs.get("architectures") or []
    named = named if isinstance(named, list) else []
    for found in CLASSES.get(theirs["model_type"], ()):
        if found.name in named and all(theirs.get(key, value) == value for key, value in (found.more or {}).items()):
            return found
    return None


def still_holds(own: Mapping[str, Any], theirs: Config) -> bool:
    """Whether what this program left in a config.json is still true of its class and labels."""
    cls, head, problem = class_in(theirs), own.get("head"), own.get("problem")
    if cls is None and not head:
        return True
    if not isinstance(head, dict) or not isinstance(problem, dict):
        return False
    if cls is None:
        return head.get("kind") == "vector"
    if own.get("task") not in cls.tasks:
        return False
    kind = _PROBLEM_TYPES.get(own["task"])
    if kind is not None and theirs.get("problem_type", kind) != kind:
        return False
    return "labels" not in problem or problem["labels"] == _labels(theirs)


def head_in(cls: HeadClass, theirs: Config) -> dict[str, Any]:
    """The settings of our head."""
    outputs = {"span": 2, "choice": 1}.get(cls.tasks[0]) or len(_labels(theirs))
    dropout = theirs.get(cls.dropout)
    head = {**cls.settings, "outputs": outputs}
    head["dropout"] = float(dropout) if isinstance(dropout, (int, float)) else 0.1
    if cls.prediction is not None:
        head["prediction"] = {
            "activation": activation_in(theirs.get("classifier_activation", "gelu")),
            "norm_eps": theirs.get("norm_eps", 1e-5),
            "norm_bias": theirs.get("norm_bias", False),
            "bias": theirs.get("classifier_bias", False),
        }
    if cls.side == "decoder":
        head["start"] = theirs.get("decoder_start_token_id", theirs.get("eos_token_id", 2))
    return head


def problem_in(cls: HeadClass, theirs: Config) -> dict[str, Any]:
    """Task and problem for a model from elsewhere. Raises: NlpcliError for one that is not supported."""
    labels = _labels(theirs)
    if cls.tasks == TEXTS:
        kind = theirs.get("problem_type")
        if kind == "regression" or (kind is None and len(labels) == 1):
            if len(labels) != 1:
                raise NlpcliError(
                    f"config.json: {cls.name} for regression must have one output, but it has {len(labels)}"
                )
            return {"task": "regress", "problem": {"low": None, "high": None}}
        task = "multi-label" if kind == _PROBLEM_TYPES["multi-label"] else "classify"
        return {"task": task, "problem": {"labels": _named(labels)}}
    if cls.tasks == ("tag",):
        return {"task": "tag", "problem": {"labels": _named(labels), "scheme": _scheme(labels)}}
    if cls.tasks == ("span",):
        return {"task": "span", "problem": {"no_answer": False}}
    return {"task": "choice", "problem": {"labels_are": "numbers from 0", "truncate": "longest"}}


def _labels(theirs: Config) -> list[str]:
    """Their names in order. Raises: NlpcliError for a list with gaps."""
    named = theirs.get("id2label") or {str(i): f"{_LABEL}{i}" for i in range(theirs.get("num_labels", 2))}
    try:
        labels = {int(place): str(label) for place, label in named.items()}
        return [labels[place] for place in range(len(labels))]
    except (AttributeError, ValueError, KeyError):
        raise NlpcliError("config.json: 'id2label' must map the numbers 0, 1, 2, … to labels, without gaps") from None


def _named(labels: list[str]) -> list[str]:
    """Labels without names as the numbers they have in the data."""
    plain = all(label == f"{_LABEL}{place}" for place, label in enumerate(labels))
    return [label.removeprefix(_LABEL) for label in labels] if plain else labels


def _scheme(labels: list[str]) -> str | None:
    """The scheme whose prefixes the tags have, None for tags that mark no entities."""
    prefixes = {label[0] for label in labels if label != "O" and label[1:2] == "-"}
    if "O" not in labels or len(labels) < 2 or any(label != "O" and label[1:2] != "-" for label in labels):
        return None
    letters = {"BIO": "BI", "IOBES": "BIES", "BILOU": "BILU"}
    return next((scheme for scheme, allowed in letters.items() if prefixes <= set(allowed)), None)
