"""The request of a call of `nlpcli generate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpcli.errors import NlpcliError
from nlpcli.runs.decoding_engine import EngineRequest
from nlpcli.runs.decoding_settings import check_lengths

if TYPE_CHECKING:
    from nlpcli.models.model_folder import LoadedModel


@dataclass(frozen=True)
class GenerateRequest:
    """The model, the prompts and the settings of a generation.

    `model` None stands for the newest run; `greedy` takes the most probable token each time, otherwise tokens are
    sampled; `stop` are texts that end a continuation, which then ends before them; `rows` continuations are written at
    once, which changes the speed only. What is None is as a model's Hugging Face folder says; where it says nothing, a
    continuation has up to 200 tokens and nothing else is limited. `scores`: whether log-probabilities are wanted;
    without them CTranslate2 does not compute them. `engine`, `quantization`: see `EngineRequest`.
    """

    model: Path | LoadedModel | None = None
    max_new_tokens: int | None = None
    samples: int = 1
    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    min_length: int | None = None
    no_repeat_ngram: int | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()
    rows: int = field(default=32)
    device: str = "auto"
    threads: int | None = None
    engine: str | None = None
    quantization: str | None = None
    scores: bool = True

    def __post_init__(self) -> None:
        EngineRequest(self.engine, self.quantization).check()
        check_lengths(self.min_length, self.max_new_tokens, ("--min-length", "--max-new-tokens"))
        for name, number in (("--num-samples", self.samples), ("the number of prompts in a batch", self.rows)):
            if number < 1:
                raise NlpcliError(f"{name} must be at least 1, not {number}")
        if self.greedy and self.samples > 1:
            raise NlpcliError(
                f"--greedy writes one text, but --num-samples is {self.samples}",
                hint="leave out --greedy to sample texts",
            )
        if "" in self.stop:
            raise NlpcliError("--stop needs a text, but the given one is empty")

    @property
    def random_seed(self) -> int:
        """The seed of the samples."""
        return 1 if self.seed is None else self.seed

    def chosen(self, *names: str) -> dict[str, Any]:
        """Those of the settings that are set."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def as_generation(self) -> dict[str, Any]:
        """The same in the names of `Generation`; None where the model decides."""
        sampled = ("temperature", "top_k", "top_p", "min_p", "seed")
        samples = self.samples > 1 or any(getattr(self, name) is not None for name in sampled)
        return {
            "do_sample": False if self.greedy else True if samples else None,
            "num_beams": 1 if self.greedy or samples else None,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "min_new_tokens": self.min_length,
            "max_new_tokens": self.max_new_tokens,
            "no_repeat_ngram_size": self.no_repeat_ngram,
            "repetition_penalty": self.repetition_penalty,
        }
