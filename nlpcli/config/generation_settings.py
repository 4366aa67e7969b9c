"""Decoding settings under the names of a Hugging Face folder's `generation_config.json`, with the defaults there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nlpcli.config.counting import counted
from nlpcli.config.number_types import Size
from nlpcli.config.number_types import SizeOrNone as Count
from nlpcli.errors import NlpcliError

Number = Annotated[float, Field(ge=-1e30, le=1e30)]  # that 32 bits can hold
Factor = Annotated[float, Field(gt=0, le=1e30)]
Id = Count

IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Settings that every folder has, and that do not affect the search."""

_SILENT = {
    "transformers_version", "use_cache", "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "return_dict_in_generate", "cache_implementation", "cache_config", "max_cache_len", "compile_config",
    "disable_compile", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind", "prefill_chunk_size", "low_memory",
    "continuous_batching_config", "assistant_early_exit", "assistant_ensemble_weight", "max_matching_ngram_size",
    "speculation_type", "use_mtp",
}  # fmt: skip
"""Settings that change the speed or the form of what `generate` returns, and no token of it."""

WITHOUT_EFFECT: Mapping[str, Any] = {
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "top_h": None, "guidance_scale": 1.0,
    "num_return_sequences": 1, "num_beam_groups": 1, "diversity_penalty": 0.0, "remove_invalid_values": False,
    "token_healing": False, "prompt_lookup_num_tokens": None, "penalty_alpha": 0.0,
}  # fmt: skip
"""Settings that are not honored, with the value that changes nothing."""

_SAMPLING = ("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h")
"""Those among them that matter only where tokens are sampled."""


class Generation(BaseModel):
    """How `model.generate` of `transformers` decodes. `max_length` and `min_length` count the prompt, too."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    max_length: Size | None = None
    max_new_tokens: Size | None = None
    min_length: Count = 0
    min_new_tokens: Count | None = None  # takes the place of min_length
    num_beams: Annotated[int, Field(ge=1, le=10_000)] = 1
    do_sample: bool = False
    early_stopping: bool | Literal["never"] = False
    length_penalty: Annotated[float, Field(ge=-10, le=10)] = 1.0
    repetition_penalty: Factor = 1.0
    encoder_repetition_penalty: Factor = 1.0
    no_repeat_ngram_size: Count = 0
    encoder_no_repeat_ngram_size: Count = 0
    bad_words_ids: list[Annotated[list[Id], Field(min_length=1)]] = []
    sequence_bias: list[tuple[Annotated[list[Id], Field(min_length=1)], Number]] = []
    forced_bos_token_id: Id | None = None
    forced_eos_token_id: Id | list[Id] | None = None
    suppress_tokens: list[Id] = []
    begin_suppress_tokens: list[Id] = []
    exponential_decay_length_penalty: tuple[int, Factor] | None = None
    renormalize_logits: bool = False
    temperature: Factor = 1.0
    top_k: Count = 50
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    bos_token_id: Id | None = None
    eos_token_id: Id | list[Id] | None = None
    pad_token_id: Id | None = None
    decoder_start_token_id: Id | None = None

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end a text."""
        return _tuple(self.eos_token_id)

    @property
    def forced_ends(self) -> tuple[int, ...]:
        """The ids that the last token is chosen from where the length limit is reached."""
        return _tuple(self.forced_eos_token_id)

    @property
    def start(self) -> int | None:
        """The id that an encoder-decoder's target begins with."""
        return self.bos_token_id if self.decoder_start_token_id is None else self.decoder_start_token_id

    def new_tokens(self, prompt: int, otherwise: int) -> int:
        """The most tokens after a prompt, the end counted; prompt: its tokens; otherwise: where no limit is set.

        Raises: NlpcliError when `max_length` leaves no room.
        """
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is None:
            return otherwise
        if prompt >= self.max_length:
            raise NlpcliError(
                f"a prompt of {counted(prompt, 'token')} leaves no room for new tokens: "
                f"the model's max_length is {self.max_length}, prompt included",
                hint="shorten the prompt, or set the number of new tokens on the command line",
            )
        return self.max_length - prompt


def _tuple(ids: int | list[int] | None) -> tuple[int, ...]:
    return () if ids is None else (ids,) if isinstance(ids, int) else tuple(ids)


def decides(settings: Mapping[str, Any]) -> bool:
    """Whether settings contain more about decoding than the ids that every folder has."""
    return any(name not in IDS for name in settings)


def not_honored(settings: Mapping[str, Any]) -> list[str]:
    """The settings that change what `generate` gives and that nlpcli does not honor."""
    sampled = bool(settings.get("do_sample"))
    found = []
    for name, value in settings.items():
        if name in Generation.model_fields or name in _SILENT or name.startswith("_"):
            continue
        if name in WITHOUT_EFFECT and (value == WITHOUT_EFFECT[name] or (name in _SAMPLING and not sampled)):
            continue
        found.append(name)
    if sampled and settings.get("num_beams", 1) > 1:
        found.append("num_beams with do_sample")
    return found
