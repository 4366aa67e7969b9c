"""Sample outputs on dev texts during pretraining: filled masks, continuations, restored texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlpcli.data.even_sample import evenly_spaced
from nlpcli.runs.pretraining.batch_examples import parts

if TYPE_CHECKING:
    import torch

    from nlpcli.models.transformer import EncoderDecoder
    from nlpcli.objectives.clm import CausalLanguageModelling, LanguageModel
    from nlpcli.objectives.denoise import Denoising
    from nlpcli.objectives.encoder_objectives import EncoderPretraining
    from nlpcli.objectives.plm import PermutationLanguageModelling
    from nlpcli.text import Tokenizer


def guesses(
    task: EncoderPretraining | PermutationLanguageModelling,
    tokenizer: Tokenizer,
    model: Any,  # the one that the objective trains
    device: torch.device,
    count: int,
) -> Iterator[dict[str, Any]]:
    """Texts with gaps as an encoder reads them, and with the reference and the predicted tokens in brackets."""
    for guess in task.guesses(model, device, count):
        sample = guess.sample
        text = spelled(sample.corrupted, tokenizer)
        if not guess.tokens:
            yield {"text": text, "reference": sample.label, "output": guess.label}
            continue
        true, predicted = (
            _marked(sample.corrupted, dict(zip(guess.places, tokens, strict=True)), tokenizer)
            for tokens in (sample.target, guess.tokens)
        )
        shown = {"text": text, "reference": true, "output": predicted}
        right = sum(token == target for token, target in zip(guess.tokens, sample.target, strict=True))
        shown["correct"] = f"{right} of {len(guess.tokens)}"
        if sample.label:
            shown |= {"label": sample.label, "predicted_label": guess.label}
        yield shown


_NEW = 30  # tokens of a continuation
_NEW_CHARACTERS = 120  # where tokens are characters
_PROMPT = 16
_WRITTEN = 60  # tokens of a text that is restored


def continuations(
    task: CausalLanguageModelling, tokenizer: Tokenizer, model: LanguageModel, count: int
) -> list[dict[str, Any]]:
    """Continuations of cut dev texts by a language model: sampled at temperature 0.8 from the 50 most probable tokens.

    The samples are the same every time and affect no other random numbers.
    """
    from nlpcli.decoding.constraints import Constraints, never_written
    from nlpcli.decoding.sampling import SamplingSettings, sample
    from nlpcli.decoding.stop_conditions import StopConditions

    new = _NEW_CHARACTERS if tokenizer.kind == "chars" else _NEW
    prompts = [text for text in _beginnings(task, tokenizer, count, new) if text[0]]
    if not prompts or not count:
        return []
    special = tokenizer.special
    suppress = never_written(special, end=task.eos is not None)
    settings = SamplingSettings(temperature=0.8, top_k=50, seed=1, constraints=Constraints(suppress=suppress))
    prefixes = [prompt for prompt, _ in prompts]
    state = model.init_state(len(prefixes))
    found = sample(model, state, prefixes, StopConditions(task.eos, new), settings=settings)
    return [
        {
            "text": spelled(prompt[task.eos is not None :], tokenizer),
            "reference": spelled(rest, tokenizer),
            "output": spelled(hypotheses[0].ids, tokenizer),
        }
        for (prompt, rest), hypotheses in zip(prompts, found, strict=True)
    ]


def _beginnings(
    task: CausalLanguageModelling, tokenizer: Tokenizer, count: int, new: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Beginnings of dev documents, or of parts of the text without documents, and their continuations: whole words."""
    stream, eos = task.dev, task.eos
    assert stream is not None
    most = min(_PROMPT if new == _NEW else 2 * _PROMPT, max(task.context // 2, 1))
    if eos is None:
        for start in evenly_spaced(len(stream) - 1, count):
            ids = stream.read(start, min(start + most + new, len(stream))).tolist()
            prompt = _word_border(ids, min(most, len(ids) - 1), tokenizer)
            yield ids[:prompt], ids[prompt:]
        return
    offsets = stream.shards.offsets
    for document in evenly_spaced(stream.shards.documents, count):
        begin, end = int(offsets[document]), int(offsets[document + 1])
        ids = stream.shards.read(begin, min(end, begin + most + new)).astype("int64").tolist()
        prompt = _word_border(ids, min(most, (len(ids) + 1) // 2), tokenizer)
        yield [eos, *ids[:prompt]], ids[prompt : prompt + new]


def _word_border(ids: Sequence[int], place: int, tokenizer: Tokenizer) -> int:
    """The last place up to `place` at which a word begins; `place` itself where there is none but the first."""
    starts = tokenizer.word_starts(list(ids[: place + 1]))
    return next((i for i in range(min(place, len(starts) - 1), 0, -1) if starts[i]), place)


def restored(
    task: Denoising, tokenizer: Tokenizer, model: EncoderDecoder, device: torch.device, count: int
) -> list[dict[str, Any]]:
    """Disturbed texts, what a denoising model is to write, and what it writes (greedily)."""
    import torch

    from nlpcli.decoding.constraints import Constraints, never_written
    from nlpcli.decoding.greedy import greedy_search
    from nlpcli.decoding.stop_conditions import StopConditions
    from nlpcli.objectives.source_target_batches import pad
    from nlpcli.text.special_tokens import source_ids

    special = tokenizer.special
    texts = list(task.held_out(count))
    if not texts:
        return []
    sources = [source_ids(text.corrupted, special) for text in texts]
    source = pad(sources, special.pad).to(device)
    lengths = torch.tensor([len(ids) for ids in sources], device=device)
    mask = torch.arange(source.size(1), device=device) < lengths[:, None]
    written = {token for text in texts for token in text.target} | set(special.sentinels)  # T5 writes its sentinels
    suppress = tuple(token for token in never_written(special) if token not in written)
    found = greedy_search(
        model, model.init_state(model.encode(source, mask)), [[special.bos]] * len(texts),
        StopConditions(special.eos, _WRITTEN), constraints=Constraints(suppress=suppress),
    )  # fmt: skip
    return [
        {
            "text": spelled(text.corrupted, tokenizer),
            "reference": _cut(text.target, tokenizer),
            "output": _cut(hypotheses[0].ids, tokenizer, ended=hypotheses[0].ended),
        }
        for text, hypotheses in zip(texts, found, strict=True)
    ]


def _cut(ids: Sequence[int], tokenizer: Tokenizer, *, ended: bool = True) -> str:
    whole = len(ids) <= _WRITTEN and ended
    return spelled(ids[:_WRITTEN], tokenizer) + ("" if whole else " …")


def _marked(ids: Sequence[int], predictions: Mapping[int, int], tokenizer: Tokenizer) -> str:
    """Ids as one line of text in which the tokens `predictions`, by their places, stand in brackets."""
    found: list[str] = []
    run: list[int] = []
    for place, id_ in enumerate(ids):
        if place in predictions:
            found += [spelled(run, tokenizer), f"[{spelled([predictions[place]], tokenizer)}]"]
            run = []
        else:
            run.append(id_)
    return " ".join(text for text in (*found, spelled(run, tokenizer)) if text)


def spelled(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Ids as one line of text, special ones by their names."""
    return " ".join(text for text, _ in parts(ids, tokenizer))
