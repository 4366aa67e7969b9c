"""A task as text: how an example becomes a prompt, and what may follow it (Brown et al. 2020, appendix G)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nlpcli.config.counting import counted
from nlpcli.config.loading import Strict, load_yaml, parse
from nlpcli.config.number_parsing import parse_int
from nlpcli.errors import NlpcliError, nearest

LABEL = "label"
_RANKED = ("normalize", "answer_context")
_WRITTEN = ("stop", "max_new_tokens", "beam_size", "length_penalty")


@dataclass(frozen=True)
class Record:
    """An example as it stands in the data: its columns by name, and what is right of it.

    fields: strings; a column of JSON lines may be a list of strings. label: its column, None where it is not known or
    there is none; several strings where several answers are right.
    """

    fields: Mapping[str, Any]
    label: tuple[str, ...] | None
    place: str

    @property
    def is_blank(self) -> bool:
        """Whether it is a blank line between rows, which has no columns."""
        return not self.fields


@dataclass(frozen=True)
class Case:
    """An example as the template shows it.

    nothing: the prompt without the example's content. candidates: name in the data -> text after the prompt; empty if
    the model writes the text. references: the name of the correct candidate, or the correct texts, () if none is
    correct, None if unknown. completion: the text after the prompt if the example is shown with its answer, None if
    unknown. texts: the columns in the prompt, `text` and `text2` first, then the others as in the data.
    """

    prompt: str
    nothing: str
    candidates: Mapping[str, str]
    references: tuple[str, ...] | None
    completion: str | None
    place: str
    texts: tuple[str, ...] = ()


class Template(Strict):
    """A task for a model that has only learnt to continue text. Placeholders in braces are columns of the data.

    With `labels` (classification) or `choices` (multiple choice) candidates are ranked by their likelihood after the
    prompt; without either the model writes until `stop`.
    """

    prompt: str = Field(
        description="text before the answer; {column} is replaced by its text, {{ and }} stand for braces"
    )
    label: str = Field(" {label}", description="text of the answer after the prompt; {label} is replaced by the answer")
    labels: dict[str, str] = Field({}, description="text for each label of the data")
    choices: str | list[str] | dict[str, str] | None = Field(
        None, description="columns of the candidates, or one column with a list of them, or a mapping label: column"
    )
    first_choice: str = Field(
        "0", min_length=1, description="label of the first candidate in the data, such as 0, 1 or A"
    )
    instruction: str = Field("", description="description of the task, which comes first")
    separator: str = Field("\n\n", description="text between instruction, examples and prompt")
    normalize: Literal["none", "tokens", "unconditional"] = Field(
        "none", description="normalization of log P(candidate): by its tokens, or by its log P after a neutral prompt"
    )
    answer_context: str = Field("Answer:", description="the neutral prompt of normalize: unconditional")
    stop: str | list[str] = Field("\n", description="texts that stop the generation")
    max_new_tokens: Annotated[int, Field(ge=1)] = Field(32, description="maximum number of new tokens")
    beam_size: Annotated[int, Field(ge=1)] = Field(1, description="beam size; 1 is greedy search")
    length_penalty: Annotated[float, Field(ge=0)] = Field(
        0.6, description="length penalty of beam search, as in nlpcli translate"
    )
    metric: str | list[str] | None = Field(None, description="null: accuracy for candidates, exact match for texts")

    @field_validator("labels", "choices", "first_choice", mode="before")
    @classmethod
    def _names_are_texts(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return {_name(key): _name(text) for key, text in value.items()}
        return _name(value) if isinstance(value, (bool, int)) else value

    @field_validator("prompt", "label", "answer_context", "instruction")
    @classmethod
    def _braces_match(cls, value: str) -> str:
        """Raises: ValueError, which names the key, where they don't."""
        placeholders(value)
        return value

    @model_validator(mode="after")
    def _makes_sense(self) -> Template:
        if self.labels and self.choices:
            raise ValueError("labels and choices can't be used together; leave one of them out")
        if len(self.labels) == 1:
            raise ValueError("labels must contain at least 2 labels")
        if set(placeholders(self.label)) != {LABEL}:
            raise ValueError("label must contain {label}, the text of the answer, and no other column")
        for name in ("prompt", "answer_context", "instruction"):
            if LABEL in placeholders(getattr(self, name)):
                raise ValueError(f"{name} must not contain {{label}}, which is the answer")
        if placeholders(self.instruction):
            raise ValueError("instruction must not contain a column, because it is the same for all examples")
        if "" in self.stops:
            raise ValueError("stop must not contain an empty text")
        self._has_an_effect()
        return self

    def _has_an_effect(self) -> None:
        """Raises: ValueError for a setting that was given and changes nothing."""
        given = self.model_fields_set
        if self.ranks:
            idle = [(name, "where candidates are ranked") for name in _WRITTEN]
        else:
            idle = [(name, "without labels or choices") for name in (*_RANKED, "first_choice")]
        if self.normalize != "unconditional":
            idle.append(("answer_context", "unless normalize is unconditional"))
        if self.beam_size == 1:
            idle.append(("length_penalty", "with a beam of 1"))
        if self.labels or isinstance(self.choices, dict):
            idle.append(("first_choice", "where the candidates are named"))
        for name, why in idle:
            if name in given:
                raise ValueError(f"{name} has no effect {why}")

    @property
    def ranks(self) -> bool:
        """Whether candidates are ranked; otherwise text is written."""
        return bool(self.labels or self.choices)

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def case(self, record: Record) -> Case:
        """Raises: NlpcliError, with its place, for a record without a column that is needed, or with a wrong label."""
        prompt = fill(self.prompt, record, "prompt")
        texts = self._texts_shown(record)
        nothing = fill(self.answer_context, record, "answer_context")
        if not self.ranks:
            completion = self._completion(record.label[0]) if record.label else None
            return Case(prompt, nothing, {}, record.label, completion, record.place, texts)
        answers = self._texts(record)
        candidates = {name: self._completion(text) for name, text in answers.items()}
        if record.label is None:
            return Case(prompt, nothing, candidates, None, None, record.place, texts)
        name = _right(record, answers)
        return Case(prompt, nothing, candidates, (name,), candidates[name], record.place, texts)

    @property
    def columns(self) -> frozenset[str]:
        """The columns of the data that are shown, by the names the template gives them."""
        candidates = self.choices.values() if isinstance(self.choices, dict) else self.choices or ()
        several = [candidates] if isinstance(candidates, str) else candidates
        return frozenset([*placeholders(self.prompt), *placeholders(self.answer_context), *several])

    def _texts_shown(self, record: Record) -> tuple[str, ...]:
        shown = placeholders(self.prompt)
        names = dict.fromkeys(("text", "text2", *record.fields))
        return tuple(record.fields[name] for name in names if name in shown)

    def _completion(self, text: str) -> str:
        return "".join(literal + (text if name else "") for literal, name in _parts(self.label))

    def _texts(self, record: Record) -> dict[str, str]:
        """The candidates' texts by their names in the data."""
        if self.labels:
            return self.labels
        if isinstance(self.choices, dict):
            return {name: _text(record, column, "choices") for name, column in self.choices.items()}
        if isinstance(self.choices, list):
            found = [_text(record, column, "choices") for column in self.choices]
        else:
            found = _list(record, str(self.choices))
        if len(found) < 2:
            raise NlpcliError(
                f"{record.place}: the example has {counted(len(found), 'candidate')}, but at least 2 are needed"
            )
        return dict(zip(_numbered(self.first_choice, len(found)), found, strict=True))


def read_template(path: Path) -> Template:
    """The template in a YAML file. Raises: NlpcliError with the file and what is wrong in it."""
    return parse(Template, load_yaml(path, pipe=True), str(path))


def placeholders(text: str) -> list[str]:
    """The columns named in a text, in order. Raises: ValueError for braces that don't match, or name no column."""
    return [name for _, name in _parts(text) if name]


def fill(text: str, record: Record, where: str) -> str:
    """The text with the columns of the record in the place of their names."""
    return "".join(literal + (_text(record, name, where) if name else "") for literal, name in _parts(text))


def _parts(text: str) -> list[tuple[str, str]]:
    """(text, the column after it) of each part; "" where none follows."""
    try:
        found = list(Formatter().parse(text))
    except ValueError:
        raise ValueError(
            "the text contains a brace without its partner; write {column} for a column, and {{ or }} for a brace"
        ) from None
    parts = []
    for literal, name, form, conversion in found:
        if name == "" or form or conversion:
            raise ValueError(
                "the braces do not contain the name of a column; write {column} for a column, and {{ or }} for a brace"
            )
        parts.append((literal, name or ""))
    return parts


def _name(value: object) -> object:
    if isinstance(value, bool):
        word = "yes, true or on" if value else "no, false or off"
        raise ValueError(f"YAML reads {word} as a boolean value; put the word in quotation marks")
    return str(value) if isinstance(value, (int, float)) else value


def _value(record: Record, column: str, where: str) -> Any:
    if column in record.fields:
        return record.fields[column]
    near = nearest(column, record.fields)
    hint = f"did you mean '{near}'? " if near else ""
    raise NlpcliError(
        f"{record.place}: the column '{column}', which {where} of the template uses, does not exist",
        hint=f"{hint}the columns are: {', '.join(record.fields)}",
    )


def _text(record: Record, column: str, where: str) -> str:
    value = _value(record, column, where)
    if not isinstance(value, str):
        raise NlpcliError(f"{record.place}: the column '{column}' is not a string")
    return value


def _list(record: Record, column: str) -> list[str]:
    value = _value(record, column, "choices")
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise NlpcliError(
            f"{record.place}: the column '{column}' is not a list of strings",
            hint="or list one column for each candidate: choices: [choice1, choice2]",
        )
    return value


def _numbered(first: str, count: int) -> list[str]:
    """`count` names from the first on: 0, 1, 2 or A, B, C."""
    number = parse_int(first)
    if number is not None:
        return [str(number + i) for i in range(count)]
    return [first[:-1] + chr(ord(first[-1]) + i) for i in range(count)]


def _right(record: Record, texts: Mapping[str, str]) -> str:
    """The name of the candidate that the label means: by its name, or else by its text."""
    if not record.label or len(record.label) > 1:
        raise NlpcliError(
            f"{record.place}: the example has {counted(len(record.label or ()), 'label')}, but exactly 1 is needed"
        )
    label = record.label[0]
    if label in texts:
        return label
    for name, text in texts.items():
        if text.strip() == label.strip():
            return name
    near = nearest(label, texts)
    raise NlpcliError(
        f"{record.place}: the label '{label}' is not one of {', '.join(texts)}",
        hint=f"did you mean '{near}'?" if near else "add it to labels in the template (or set first_choice)",
    )
