"""Translating files: from lines, plain or JSON, to lines in the same order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpcli.decoding.line_translator import Candidate, Translation


# --- input -------------------------------------------------------------------------------------------------------


# --- output ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """The format of a translation in the output.

    Plain text: the translation; then, separated by tabs, the score and the alignment where they are requested. With
    `n_best` above one, Moses' list: `number ||| translation ||| logprob= L ||| score`, the number of the line from 0,
    the alignment as a further field. JSON lines (whenever that is what came in, or with `as_json`): the object that
    came in with the translation under `output_field`, and beside it `…_score`, `…_alignment` and `…_nbest`.
    """

    n_best: int = 1
    scores: bool = False
    alignments: bool = False
    as_json: bool = False
    output_field: str = "translation"

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are added to an object."""
        more = {"score": self.scores or self.as_json, "alignment": self.alignments, "nbest": self.n_best > 1}
        return (self.output_field, *(f"{self.output_field}_{name}" for name, wanted in more.items() if wanted))

    def lines(self, translation: Translation, number: int) -> list[str]:
        """The lines for the translation of line `number`, from 0; exactly one unless it is a list of the n best."""
        origin = translation.request.origin
        assert origin is None or isinstance(origin, dict)  # the object that the text stood in
        record: dict[str, Any] | None = origin
        if record is None and self.as_json:
            record = {"text": translation.request.text}
        if record is not None:
            return [json.dumps({**record, **self._fields(translation)}, ensure_ascii=False)]
        if self.n_best == 1:
            return [self._plain(translation.candidates[0])]
        return [self._moses(number, candidate) for candidate in translation.candidates]

    def _plain(self, candidate: Candidate) -> str:
        more = [f"{candidate.score:.4f}"] * self.scores + self._alignments(candidate)
        if not more:
            return candidate.text
        return "\t".join([candidate.text.replace("\t", " "), *more])

    def _moses(self, number: int, candidate: Candidate) -> str:
        text = candidate.text.replace("|||", "| | |")
        parts = [str(number), text, f"logprob= {candidate.logprob:.4f}", f"{candidate.score:.4f}"]
        return " ||| ".join(parts + self._alignments(candidate))

    def _alignments(self, candidate: Candidate) -> list[str]:
        return [_alignment(candidate)] if self.alignments else []

    def _fields(self, translation: Translation) -> dict[str, Any]:
        name, scored = self.output_field, self.scores or self.as_json
        fields = self._named(name, translation.candidates[0], scored)
        if self.n_best > 1:
            fields[f"{name}_nbest"] = [
                {"logprob": round(candidate.logprob, 6), **self._named("translation", candidate, True)}
                for candidate in translation.candidates
            ]
        return fields

    def _named(self, name: str, candidate: Candidate, scored: bool) -> dict[str, Any]:
        fields: dict[str, Any] = {name: candidate.text}
        if scored:
            fields[f"{name}_score"] = round(candidate.score, 6)
        if self.alignments:
            fields[f"{name}_alignment"] = _alignment(candidate)
        return fields


def _alignment(candidate: Candidate) -> str:
    from nlpcli.decoding.cross_attention import pharaoh

    return pharaoh(candidate.alignment or ())
