"""Decoding settings that a model brings along from a Hugging Face folder, under those of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from nlpcli.config.generation_settings import Generation, decides, not_honored
from nlpcli.config.loading import parse
from nlpcli.config.schema import DecodingConfig
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import LoadedModel

if TYPE_CHECKING:
    from nlpcli.tasks.task import Task
    from nlpcli.tasks.text_to_text import TextToText


def generation_of(loaded: LoadedModel, given: Mapping[str, Any], *, warn: Callable[[str], None]) -> Generation | None:
    """How `loaded` decodes: as its folder sets it, but for what is `given`; None for a model that was trained here.

    given: settings of the command line in the names of `Generation`, None where there is none. `warn` reports, once,
    which settings of the folder are not honored.
    Raises: NlpcliError for settings that contradict each other or the model.
    """
    from nlpcli.decoding.huggingface_generation import check_ids

    folder_settings = loaded.info.get("generation")
    if folder_settings is None:
        return None
    special = loaded.tokenizer.special
    left_out = not_honored(folder_settings)
    if left_out:
        are = "these decoding settings are" if len(left_out) > 1 else "this decoding setting is"
        warn(f"{loaded.path}: {are} not supported and have no effect: {', '.join(left_out)}")
    chosen = {name: value for name, value in given.items() if value is not None}
    for one, other in (
        ("max_new_tokens", "max_length"),
        ("min_new_tokens", "min_length"),
    ):  # each takes the other's place
        if one in chosen:
            folder_settings = {name: value for name, value in folder_settings.items() if name != other}
        elif other in chosen:
            folder_settings = {name: value for name, value in folder_settings.items() if name != one}
    settings = parse(Generation, {"eos_token_id": special.eos, **folder_settings, **chosen}, str(loaded.path))
    if loaded.config.kind == "encoder-decoder" and settings.start is None:
        settings = settings.model_copy(update={"decoder_start_token_id": special.bos})
    check_ids(settings, loaded.tokenizer.vocab_size, loaded.path)
    least, most = ("min_length", "max_length") if "min_length" in chosen else ("min_new_tokens", "max_new_tokens")
    if least in chosen and (limit := getattr(settings, most)) is not None and chosen[least] > limit:
        raise NlpcliError(
            f"the minimum length {chosen[least]} is greater than {most} {limit} of the model {loaded.path}",
            hint="set the maximum length on the command line as well",
        )
    return settings


def check_lengths(
    least: int | None, most: int | None, names: tuple[str, str] = ("--min-length", "--max-length")
) -> None:
    """Refuses a least length above the greatest, negative ones, and a greatest below 1."""
    if most is not None and most < 1:
        raise NlpcliError(f"{names[1].removeprefix('--').replace('-', ' ')} must be at least 1, not {most}")
    if least is not None and least < 0:
        raise NlpcliError(f"the minimum length must be at least 0, not {least}")
    if least is not None and most is not None and least > most:
        raise NlpcliError(
            f"{names[0]} {least} is greater than {names[1]} {most}", hint="increase the maximum or reduce the minimum"
        )


def tuned_info(info: Mapping[str, Any], decoding: DecodingConfig, task: Task | None = None) -> dict[str, Any]:
    """The entries of model.yaml that a new model takes from the model that its run began with.

    The decoding settings of its folder stay, under those of the run that are not the usual ones. A folder that sets
    nothing leaves the run's. task: of the run where it isn't translation; one that writes texts limits their length.
    """
    known = {name: value for name, value in info.items() if name != "generation"}
    folder_settings = info.get("generation")
    if not folder_settings or not decides(folder_settings) or (task is not None and not task.generates):
        return known
    kept = dict(folder_settings)
    if task is not None:
        kept.pop("max_length", None)
        wording = cast("TextToText", task).wording  # as of all tasks that generate
        kept["max_new_tokens"] = wording.max_target  # the end counted, as there
        if wording.no_repeat_ngram:
            kept["no_repeat_ngram_size"] = wording.no_repeat_ngram
    usual = type(decoding)()
    if decoding.beam_size != usual.beam_size or "num_beams" not in folder_settings:
        kept["num_beams"] = decoding.beam_size
    if decoding.length_penalty != usual.length_penalty:
        kept["length_penalty"] = decoding.length_penalty
    start: Sequence[int] = info.get("target_start") or ()
    if len(start) > 1:
        kept |= {"decoder_start_token_id": start[0], "forced_bos_token_id": start[1]}
    return {**known, "generation": kept}


def window_of(loaded: LoadedModel) -> int:
    """How many tokens a language model can look back on: its context in training, where it has no memory."""
    if getattr(loaded.model, "memory_length", 0):
        return loaded.config.max_length
    return min(loaded.config.max_length, loaded.info.get("context") or loaded.config.max_length)


def text_start(loaded: LoadedModel) -> list[int]:
    """The ids that every text begins with, such as Llama's `<s>`."""
    return list(loaded.info.get("text_start") or ())


def beginning(loaded: LoadedModel) -> list[int]:
    """The start of a text without a prompt: the start of every text, or the end of the document before, or else of
    the line."""
    if start := text_start(loaded):
        return start
    end = end_of(loaded)
    if end is not None:
        return [end]
    return loaded.tokenizer.encode(["\n"])[0] or [loaded.tokenizer.special.bos]


def end_of(loaded: LoadedModel) -> int | None:
    """The id that ends a text; None if the model was trained on text without document borders."""
    return loaded.tokenizer.special.eos if loaded.info.get("document_end", True) else None
