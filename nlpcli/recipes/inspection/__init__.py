"""What is this? Models, tokenizers, runs, checkpoints, shard sets, texts and parallel corpora, told in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nlpcli.errors import NlpcliError, unknown
from nlpcli.recipes.inspection.findings import Inspection
from nlpcli.recipes.inspection.identify import KINDS, kind_of

__all__ = ["KINDS", "Inspection", "inspect", "kind_of"]


def inspect(
    path: str,
    *,
    as_kind: str | None = None,
    length: int | None = None,
    weights: bool = False,
    text: Sequence[str] = (),
    show: int = 3,
    limit: int | None = None,
    on_line: Callable[[int], None] | None = None,
) -> Inspection:
    """What the file or folder `path` is ("-": standard input). Nothing is ever unpickled.

    as_kind: take it for this kind (a key of `KINDS`) where it is several things at once: a run is a model too, and has
    a tokenizer. length: tokens of an example for which a model's operations are counted. weights: each weight with its
    statistics. text: files to measure a tokenizer on. show: examples of each finding. limit: the most lines of a text.
    on_line: told how many lines were read.

    Raises: NlpcliError for what is missing, damaged or unknown, and for a setting the kind has no use for.
    """
    kind = as_kind or kind_of(path)
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    _check(kind, length=length, weights=weights, text=text, limit=limit)
    place = Path(path)
    sizes = {} if length is None else {"length": length}
    if kind == "model":
        from nlpcli.recipes.inspection.model import inspect_model

        return inspect_model(place, weights=weights, **sizes)
    if kind == "tokenizer":
        from nlpcli.recipes.inspection.tokenizer import inspect_tokenizer

        return inspect_tokenizer(place, text=text, show=show, on_line=on_line)
    if kind == "weights":
        from nlpcli.recipes.inspection.weights import inspect_weights

        return inspect_weights(place, weights=weights)
    if kind == "text":
        from nlpcli.recipes.inspection.text import inspect_text

        return inspect_text(path, show=show, limit=limit, on_line=on_line)
    if kind == "json-lines":
        from nlpcli.recipes.inspection.stored import inspect_json_lines

        return inspect_json_lines(path, limit=limit, on_line=on_line)
    from nlpcli.recipes.inspection import run, stored

    if kind == "run":
        return run.inspect_run(place, weights=weights, **sizes)
    other = {
        "checkpoint": run.inspect_checkpoint,
        "runs": run.inspect_runs,
        "metrics": run.inspect_metrics,
        "shards": stored.inspect_shards,
        "index": stored.inspect_index,
        "suite": stored.inspect_suite,
        "vectors": stored.inspect_vectors,
    }
    return other[kind](place)


_USED = {
    "length": ("--length", ("model", "run")),
    "weights": ("--weights", ("model", "run", "weights")),
    "text": ("--text", ("tokenizer",)),
    "limit": ("--limit", ("text", "json-lines")),
}


def _check(kind: str, **given: object) -> None:
    """Raises: NlpcliError for a setting that this kind has no use for."""
    for name, value in given.items():
        option, kinds = _USED[name]
        if value and kind not in kinds:
            hint = f"it is for: {', '.join(KINDS[one] for one in kinds)}"
            if name == "text" and kind in ("run", "model"):
                hint = "look at its tokenizer with: --as tokenizer"
            raise NlpcliError(f"{option} has no effect on {KINDS[kind]}", hint=hint)
