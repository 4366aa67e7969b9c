"""The template of special tokens around texts, written for a tokenizer and read from it.

A layout is plain data, the fields of `nlpcli.tasks.input_layout.Layout`: the ids at the `start`, `between` two texts
and at the `end`, and the `segments` of the first text, the second, and the last token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer as Core
from tokenizers import processors

from nlpcli.text import Tokenizer
from nlpcli.text.tokenizers_errors import library_errors

Layout = Mapping[str, Any]
_SAMPLES = ("a", "the", "1", "中")


def with_template(core: Core, layout: Layout, names: Mapping[int, str]) -> bool:
    """Has `core` lay out texts and pairs as `layout`; whether it had to be changed for that."""
    if _differs(core, layout):
        core.post_processor = _template(layout, names)
        return True
    return False


def _differs(core: Core, layout: Layout) -> bool:
    sample = _sample(core)
    if sample is None:
        return True
    text, ids = sample
    return any(laid_out(layout, *[ids] * n) != _ids_and_segments(core, *[text] * n) for n in (1, 2))


def laid_out(layout: Layout, *texts: list[int]) -> tuple[list[int], list[int]]:
    """Ids and segments of one text or two."""
    first, second, last = layout["segments"]
    kinds = (first, second)[: len(texts)]
    ids = [*layout["start"], *texts[0]]
    segments = [first] * len(ids)
    if len(texts) > 1:
        ids += [*layout["between"], *texts[1]]
        segments += [first] * len(layout["between"]) + [second] * len(texts[1])
    ids += layout["end"]
    segments += [kinds[-1]] * len(layout["end"])
    if last == 2:
        segments[-1] = 2
    return ids, segments


def layout_of(tokenizer: Tokenizer, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The layout that a tokenizer from elsewhere gives a model of this configuration; None for that of its family."""
    if tokenizer.kind != "huggingface":
        return None
    with library_errors():
        core = Core.from_str(tokenizer.model.to_bytes().decode())
        core.no_padding()
        core.no_truncation()
        found = _layout_in(core, segments=config["kind"] != "decoder")
    last = config["family"] == "xlnet" or config["kind"] != "encoder"
    if found is not None:
        return found | {"summary": "last" if last else "first"}
    if config["kind"] == "decoder":  # it reads texts as they are
        nothing = [tokenizer.special.eos]
        return {"start": [], "between": [], "end": [], "segments": [0, 0, 0], "summary": "last", "empty": nothing}
    return None


def _layout_in(core: Core, *, segments: bool) -> dict[str, Any] | None:
    """segments: whether those of the tokenizer matter; otherwise all are 0."""
    sample = _sample(core)
    if sample is None:
        return None
    text, ids = sample
    found = core.encode(text, text)
    of_text = [place for place, number in enumerate(found.sequence_ids) if number is not None]
    if len(of_text) != 2 * len(ids):
        return None
    start, end = of_text[0], of_text[-1] + 1
    second = of_text[len(ids)]
    parts = (found.ids[:start], found.ids[start + len(ids) : second], found.ids[end:])
    layout = dict(zip(("start", "between", "end"), parts, strict=True)) | {"segments": [0, 0, 0]}
    if segments:
        layout["segments"] = [found.type_ids[start], found.type_ids[second], 2 if found.type_ids[-1] == 2 else 0]
    wanted, single = (found.ids, found.type_ids), _ids_and_segments(core, text)
    if segments:
        fits = laid_out(layout, ids, ids) == wanted and laid_out(layout, ids) == single
    else:
        fits = laid_out(layout, ids, ids)[0] == wanted[0] and laid_out(layout, ids)[0] == single[0]
    return layout if fits and any(parts) else None


def _template(layout: Layout, names: Mapping[int, str]) -> Any:
    marks = {id_: names[id_] for key in ("start", "between", "end") for id_ in layout[key]}
    first, second, last = layout["segments"]

    def spelled(ids: list[int], kind: int) -> list[str]:
        return [f"{marks[id_]}:{kind}" for id_ in ids]

    def ended(kind: int) -> list[str]:
        ids = list(layout["end"])
        return spelled(ids[:-1], kind) + spelled(ids[-1:], 2 if last == 2 else kind)

    begun = [*spelled(layout["start"], first), f"$A:{first}"]
    between = [*spelled(layout["between"], first), f"$B:{second}"]
    return processors.TemplateProcessing(
        single=[*begun, *ended(first)],
        pair=[*begun, *between, *ended(second)],
        special_tokens=[(name, id_) for id_, name in marks.items()],
    )


def _sample(core: Core) -> tuple[str, list[int]] | None:
    """A text that the tokenizer does not remove."""
    for text in _SAMPLES:
        ids = core.encode(text, add_special_tokens=False).ids
        if ids:
            return text, ids
    return None


def _ids_and_segments(core: Core, text: str, pair: str | None = None) -> tuple[list[int], list[int]]:
    found = core.encode(text, pair)
    return found.ids, found.type_ids
