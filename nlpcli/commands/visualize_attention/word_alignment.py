"""Aligning the words of a text with those of its translation: from two files of lines to lines of links."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nlpcli.config.counting import counted
from nlpcli.config.number_parsing import parse_int
from nlpcli.data.open_text import STDIN, check_opens, display_name
from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError, unknown
from nlpcli.runs.find_model import TRANSLATION, locate
from nlpcli.runs.open_model import open_model

if TYPE_CHECKING:
    import numpy as np

    from nlpcli.decoding.aligner import Aligner, Pair, WeightSelector
    from nlpcli.decoding.alignment_symmetrization import Links
    from nlpcli.decoding.translation_model import TranslationModel
    from nlpcli.models.alignment_head import AlignmentHead

ARGMAX, AUTO = "argmax", "auto"
METHODS = (ARGMAX, "intersection", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and")
DEFAULT_METHOD = "grow-diag"  # with two models
STEPS = ("predict", "read")
WINDOW = 1024  # pairs read ahead, and those by which layers are chosen

Layer = int | str | tuple[int, int] | None

_LONGEST = 16_384  # bytes of a line; the weights of a pair grow with the product of its lengths


@dataclass(frozen=True)
class AlignmentRequest:
    """Which texts are aligned, with what, and how.

    target: a file with the translation of each line of `sources`; "-" is standard input, for one of them. model: None
    means the newest run. reverse: a model that translates the other way, by whose weights the first one's are
    multiplied. method: `argmax` links every target word to the source word with the largest weight; the others combine
    this with the best target word of every source word, see `symmetrised`. None: argmax, or `DEFAULT_METHOD` with
    `reverse`. gradient: gradient times attention decides, not attention. layer: the decoder layer that is used,
    from 1; two, of the model and of the reverse one; "auto": those which agree best in the first `WINDOW` pairs;
    None: the last but one, of gradients all. step: of `STEPS`, see `nlpcli.decoding.cross_attention.word_weights`;
    None: predict. A head trained by guided alignment is used unless gradient, layer or step is given.

    Raises: NlpcliError for unknown choices and for settings that have no effect.
    """

    target: str
    sources: Sequence[str] = (STDIN,)
    model: Path | None = None
    reverse: Path | None = None
    method: str | None = None
    gradient: bool = False
    layer: Layer = None
    step: str | None = None
    batch_tokens: int | None = None
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            raise unknown("alignment method", self.method, METHODS)
        if self.step is not None and self.step not in STEPS:
            raise unknown("step", self.step, STEPS)
        if self.reverse is None and isinstance(self.layer, tuple):
            raise NlpcliError(
                "the second layer of --layer belongs to a reverse model, but no --reverse-model is given",
                hint="add --reverse-model DIR",
            )
        if self.reverse is None and self.layer == AUTO:
            raise NlpcliError(
                "--layer auto needs a reverse model",
                hint="add --reverse-model with a model that translates in the opposite direction, or name a layer",
            )
        if self.gradient and self.step not in (None, "predict"):
            raise NlpcliError(f"--gradient works only with --step predict, not {self.step}")
        if [*self.sources, self.target].count(STDIN) > 1:
            raise NlpcliError("standard input can be read only once, as source or as target")


def parse_layer(text: str | None) -> Layer:
    """The value of `--layer`: a number, two numbers with a comma, or "auto". Raises: NlpcliError for anything else."""
    if text is None or text == AUTO:
        return text
    parts = text.split(",")
    numbers = [number for number in map(parse_int, parts) if number is not None and number >= 0]
    if len(numbers) == len(parts) <= 2:
        return (numbers[0], numbers[1]) if len(numbers) == 2 else numbers[0]
    raise NlpcliError(
        f"'{text}' is not a layer",
        hint="choose a number from 1, two numbers such as 3,2 (one for each direction), or auto",
    )


def align(job: AlignmentRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> Iterator[list[str]]:
    """The links of each pair of lines as `0-0 1-2`, in order and in the portions in which they are ready.

    source word - target word, from 0, as white space separates them; a pair with a blank line has none.

    Raises: NlpcliError for bad input, after all lines before it were given.
    """
    for path in (*job.sources, job.target):
        check_opens(path)
    from nlpcli.decoding.cross_attention import pharaoh

    directions = [_direction(job, job.model, notify=notify, warn=warn)]
    if job.reverse is not None:
        directions.append(replace(_direction(job, job.reverse, notify=notify, warn=warn), backwards=True))
    windows = _windows(_read_pairs(job))
    first = next(windows, [])
    selectors = _selectors(job, directions, first, notify=notify)
    for window in chain([first], windows):
        found = [
            direction.shares(window, [selector])[0] for direction, selector in zip(directions, selectors, strict=True)
        ]
        yield [pharaoh(sorted(links)) for links in _combined(job, found)]


@dataclass(frozen=True)
class _Direction:
    """An aligner whose arrays are (target words, source words) of the text, though its model may translate back.

    head: the head of its model that was trained by links, None where there is none.
    """

    aligner: Aligner
    head: AlignmentHead | None = None
    backwards: bool = False

    def shares(self, pairs: Sequence[Pair], selectors: Sequence[WeightSelector]) -> list[list[np.ndarray]]:
        """As those of the aligner; backwards the columns sum to 1."""
        if not self.backwards:
            return self.aligner.shares(pairs, selectors)
        exchanged = [replace(pair, source=pair.target, target=pair.source) for pair in pairs]
        return [[array.T for array in of_selector] for of_selector in self.aligner.shares(exchanged, selectors)]

    def links(self, array: np.ndarray) -> Links:
        """Those of the words that the model writes."""
        from nlpcli.decoding.alignment_symmetrization import links_of_sources, links_of_targets

        return links_of_sources(array) if self.backwards else links_of_targets(array)


def _combined(job: AlignmentRequest, found: list[list[np.ndarray]]) -> Iterator[Links]:
    from nlpcli.decoding.alignment_symmetrization import agreed, links_of_sources, links_of_targets, symmetrised

    method = job.method or (ARGMAX if job.reverse is None else DEFAULT_METHOD)
    for arrays in zip(*found, strict=True):
        weights = arrays[0] if len(arrays) == 1 else agreed(*arrays)
        links = links_of_targets(weights)
        yield links if method == ARGMAX else symmetrised(links, links_of_sources(weights), method)


def _direction(
    job: AlignmentRequest, model: Path | None, *, notify: Callable[[str], None], warn: Callable[[str], None]
) -> _Direction:
    from nlpcli.decoding.aligner import Aligner, AlignerSettings
    from nlpcli.models.alignment_head import AlignmentHead
    from nlpcli.training.device import prepare

    path = locate(TRANSLATION, model, notify=notify)
    machine = prepare(job.device, "float32", job.threads)
    loaded = open_model(path, str(machine.device))
    settings = AlignerSettings(
        max_source_length=loaded.config.max_length,
        source_start=tuple(loaded.info.get("source_start", ())),
        target_start=tuple(loaded.info.get("target_start", ())) or None,
        **({} if job.batch_tokens is None else {"batch_tokens": job.batch_tokens}),
    )
    found = cast("TranslationModel", loaded.model)  # `locate` gives no other
    aligner = Aligner(
        found, loaded.tokenizer.for_targets(), settings, device=machine.device, warn=warn,
        source_tokenizer=loaded.source_tokenizer or loaded.tokenizer,
    )  # fmt: skip
    return _Direction(aligner, AlignmentHead.of(loaded.info))


# --- weights of the alignment ------------------------------------------------------------------------------------


def _selectors(
    job: AlignmentRequest, directions: Sequence[_Direction], pairs: Sequence[Pair], *, notify: Callable[[str], None]
) -> list[WeightSelector]:
    from nlpcli.decoding.aligner import WeightSelector

    if isinstance(job.layer, str):  # AUTO
        return _agreeing(job, directions, pairs, notify=notify)
    layers = job.layer if isinstance(job.layer, tuple) else (job.layer,) * len(directions)
    chosen = job.gradient or job.layer is not None or job.step is not None
    return [
        WeightSelector(layer, job.step or STEPS[0], job.gradient)
        if chosen or direction.head is None
        else WeightSelector.at(direction.head)
        for direction, layer in zip(directions, layers, strict=True)
    ]


def _agreeing(
    job: AlignmentRequest, directions: Sequence[_Direction], pairs: Sequence[Pair], *, notify: Callable[[str], None]
) -> list[WeightSelector]:
    """The layers which agree best, of all pairs of layers (Chen et al. 2020)."""
    from nlpcli.decoding.aligner import WeightSelector
    from nlpcli.decoding.alignment_symmetrization import agreement
    from nlpcli.decoding.cross_attention import cross_attentions

    selectors, found = [], []
    for direction in directions:
        depth = len(cross_attentions(direction.aligner.model))
        selectors.append([WeightSelector(layer, job.step or STEPS[0], job.gradient) for layer in range(1, depth + 1)])
        found.append([[*map(direction.links, arrays)] for arrays in direction.shares(pairs, selectors[-1])])
    values = {
        (i, j): agreement(forward, backward)
        for i, forward in enumerate(found[0])
        for j, backward in enumerate(found[1])
    }
    i, j = max(values, key=values.__getitem__)
    notify(
        f"layers: {i + 1} of the model and {j + 1} of the reverse model, which agree best "
        f"({100 * values[i, j]:.1f} % of the links of {counted(len(pairs), 'pair')})"
    )
    return [selectors[0][i], selectors[1][j]]


# --- input -------------------------------------------------------------------------------------------------------


def _read_pairs(job: AlignmentRequest) -> Iterator[Pair]:
    """Each line of the sources with its line of the target. Raises: NlpcliError where their numbers differ."""
    from nlpcli.decoding.aligner import Pair

    targets = read_lines(job.target, longest=_LONGEST)
    count = 0
    for path in job.sources:
        for number, source in enumerate(read_lines(path, longest=_LONGEST), start=1):
            place = f"{display_name(path)}:{number}"
            target = next(targets, None)
            if target is None:
                raise NlpcliError(
                    f"{place}: {display_name(job.target)} has only {counted(count, 'line')}",
                    hint="write one target line for each source line; leave it blank if there is no translation",
                )
            count += 1
            yield Pair(source, target, place)
    if next(targets, None) is not None:
        raise NlpcliError(
            f"{display_name(job.target)} has more lines than the source, which has {counted(count, 'line')}"
        )


def _windows(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    """Pairs in portions; an error of `pairs` comes after what was read before it."""
    window: list[Pair] = []
    try:
        for pair in pairs:
            window.append(pair)
            if len(window) == WINDOW:
                yield window
                window = []
    except NlpcliError as error:
        if window:
            yield window
        raise error
    if window:
        yield window
