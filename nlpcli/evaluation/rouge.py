"""ROUGE-N and ROUGE-L: the overlap of a summary with its references.

With the n-grams of both counted with clipping, or the longest common subsequence (LCS) of their tokens, as hits:

    recall = hits / reference      precision = hits / summary      F1 = 2·precision·recall / (precision + recall)

for each summary; the score of a text is the mean F1 of its summaries, in percent. ROUGE-Lsum takes, for each sentence
of the reference, the union of its LCS with all sentences of the summary, and clips the hits by the counts of words.

Tokens are runs of the letters a-z and digits after lowercasing, and nothing else, as in ROUGE-1.5.5 and the package
rouge-score; `tokenize: unicode` keeps the letters, marks and digits of every script and makes each Chinese or Japanese
character a token. Source: Lin 2004, sections 2, 3.1 and 3.2.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from nlpcli.data.readers import read_lines
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.count_metrics import ExampleMetric, Measurement, once, shares
from nlpcli.evaluation.line_statistics import LineMetric, Statistics
from nlpcli.evaluation.longest_common_subsequence import common_length, common_places
from nlpcli.evaluation.score import (
    TEXT_PAIRS,
    Lines,
    ReferenceLines,
    Resampling,
    Score,
    check_segments,
    reference_count,
)
from nlpcli.evaluation.unspaced_scripts import SOUTHEAST_ASIAN, unspaced_script
from nlpcli.text.porter_stemmer import nltk_stem, rouge_stem
from nlpcli.text.sentence_splitting import split_sentences

STEMMERS = ("none", "porter", "rouge-1.5.5")
TOKENIZERS = ("ascii", "unicode")
SENTENCES = ("lines", "split")
SEVERAL = ("best", "mean")

_ASCII = re.compile("[a-z0-9]+")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_IRREGULAR_FILES = ("adj.exc", "adv.exc", "noun.exc", "verb.exc")
_SHORTEST_STEMMED = 4  # letters; ROUGE-1.5.5 leaves shorter words alone

Tokens = list[str]
_Row = tuple[float, float, float]  # precision, recall, F1; each 0 to 1


class _WordCharacters(dict[int, str]):
    """A table for str.translate: letters, marks and digits stay, unspaced scripts are cut, all else is a space."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        if _UNSPACED.match(letter):
            self[code] = f" {letter} "
        else:
            self[code] = letter if unicodedata.category(letter)[0] in "LMN" else " "
        return self[code]


_WORDS = _WordCharacters()


NGrams = Counter[tuple[str, ...]]
Prepared = TypeVar("Prepared")


class Rouge(LineMetric, ExampleMetric, Generic[Prepared]):
    """Base of the kinds of ROUGE.

    rouge_stemmer: `none`; `porter`: as rouge-score's `use_stemmer`; `rouge-1.5.5`: as that script's option -m, which
    replaces irregular forms by WordNet's exception lists first: `rouge_irregular` is a folder that holds noun.exc,
    verb.exc, adj.exc and adv.exc of WordNet (2.0 and 3.0 agree for this purpose).
    rouge_tokenize: `ascii` or `unicode`, see above. rouge_references: of several references, `best` takes the one with
    the highest F1, `mean` the mean of all. rouge_sentences, for ROUGE-Lsum: `lines`: each line of a text is a
    sentence; `split`: a text is cut into sentences.

    Raises: NlpcliError for unknown choices, and for a folder without these lists or a stemmer that takes none.
    """

    needs: ClassVar[str] = TEXT_PAIRS
    max_references: ClassVar[int | None] = None
    options: ClassVar[frozenset[str]] = frozenset(
        {"rouge_stemmer", "rouge_irregular", "rouge_tokenize", "rouge_references"}
    )

    def __init__(
        self,
        *,
        rouge_stemmer: str = "none",
        rouge_irregular: str | None = None,
        rouge_tokenize: str = "ascii",
        rouge_references: str = "best",
        rouge_sentences: str = "lines",
    ) -> None:
        for kind, name, choices in (
            ("ROUGE stemmer", rouge_stemmer, STEMMERS),
            ("ROUGE tokenizer", rouge_tokenize, TOKENIZERS),
            ("value of --rouge-references", rouge_references, SEVERAL),
            ("value of --rouge-sentences", rouge_sentences, SENTENCES),
        ):
            if name not in choices:
                raise unknown(kind, name, choices)
        if rouge_stemmer == "rouge-1.5.5" and rouge_irregular is None:
            raise NlpcliError(
                "the ROUGE stemmer 'rouge-1.5.5' needs WordNet's lists of irregular forms",
                hint="name the folder that contains noun.exc and verb.exc with --rouge-irregular "
                "(Debian's package wordnet-base installs them in /usr/share/wordnet)",
            )
        if rouge_stemmer != "rouge-1.5.5" and rouge_irregular is not None:
            raise NlpcliError(
                f"--rouge-irregular has no effect on the ROUGE stemmer '{rouge_stemmer}'",
                hint="add --rouge-stemmer rouge-1.5.5",
            )
        self.stemmer, self.tokenizer = rouge_stemmer, rouge_tokenize
        self.several, self.sentence_borders = rouge_references, rouge_sentences
        self._stem = _stemmer(rouge_stemmer, rouge_irregular)

    def choices(self) -> str:
        return f"stem:{self.stemmer}|tok:{self.tokenizer}|refs:{self.several}"

    def tokens(self, text: str) -> Tokens:
        """The tokens of a text, stemmed if that was requested."""
        lowered = text.lower()
        found = _ASCII.findall(lowered) if self.tokenizer == "ascii" else lowered.translate(_WORDS).split()
        if self._stem is None:
            return found
        stem = self._stem
        return [stem(word) if len(word) >= _SHORTEST_STEMMED and word.isascii() else word for word in found]

    def prepared(self, text: str) -> Prepared:
        """The form of a text that `hits` compares, made once for each text."""
        raise NotImplementedError

    def hits(self, hypothesis: Prepared, reference: Prepared) -> tuple[int, int, int]:
        """Hits, units of the hypothesis, units of the reference."""
        raise NotImplementedError

    def line_statistics(self, hypotheses: Lines, references: Sequence[ReferenceLines], first: int = 1) -> np.ndarray:
        """Precision, recall and F1 of each summary, 0 to 1, (summaries, 3)."""
        rows: list[_Row] = []
        for hypothesis, *others in zip(hypotheses, *references, strict=True):
            ours = self.prepared(hypothesis)
            found = [_row(*self.hits(ours, self.prepared(other))) for other in others if other is not None]
            if self.several == "best":
                rows.append(max(found, key=lambda row: row[2]))
            else:
                rows.append(tuple(sum(column) / len(found) for column in zip(*found, strict=True)))
        return np.array(rows)

    def collector(self, *, resampled: bool) -> Statistics:
        return Statistics(np.float64)  # the last digit of their mean is NumPy's

    def score_from(self, statistics: Statistics, references: str = "1", resampling: Resampling | None = None) -> Score:
        return self._score(_measurement(statistics.rows), references, resampling)

    def compare_from(
        self, baseline: Statistics, systems: Sequence[Statistics], references: str, resampling: Resampling
    ) -> list[Score]:
        return self._compared([_measurement(one.rows) for one in (baseline, *systems)], references, resampling)

    def sentences(self, hypotheses: Lines, references: Sequence[Lines], first: int = 1) -> list[Score]:
        check_segments(hypotheses, references, self.max_references)
        return self.per_example(100 * self.line_statistics(hypotheses, references)[:, 2], reference_count(references))

    def caution_counts(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> np.ndarray:
        """Letters in the references, and those that the tokenizer `ascii` keeps."""
        if self.tokenizer != "ascii":
            return np.zeros(2, dtype=np.int64)
        texts = [text for text in references[0] if text is not None]
        letters = sum(sum(map(str.isalpha, text)) for text in texts)
        kept = sum(sum(letter.isascii() and letter.isalpha() for letter in text) for text in texts)
        return np.array([letters, kept])

    def cautions_from(self, caution_counts: np.ndarray, sample: ReferenceLines, *, sentence: bool = False) -> list[str]:
        if self.tokenizer != "ascii":
            if unspaced_script(sample) != SOUTHEAST_ASIAN:
                return []
            return [
                f"the references look like {SOUTHEAST_ASIAN}, which ROUGE does not split into words; use chrf, which "
                "counts characters"
            ]
        if 2 * caution_counts[1] < caution_counts[0]:
            return [
                "most letters in the references are outside a-z, and ROUGE ignores them; add --rouge-tokenize unicode "
                "to count them"
            ]
        return []


class RougeN(Rouge[NGrams]):
    """ROUGE-N; a subclass sets N."""

    order: ClassVar[int]

    def prepared(self, text: str) -> NGrams:
        tokens = self.tokens(text)
        return Counter(zip(*(tokens[start:] for start in range(self.order)), strict=False))

    def hits(self, hypothesis: NGrams, reference: NGrams) -> tuple[int, int, int]:
        common = sum(min(count, reference[gram]) for gram, count in hypothesis.items() if gram in reference)
        return common, hypothesis.total(), reference.total()


class Rouge1(RougeN):
    """ROUGE of single tokens."""

    name: ClassVar[str] = "ROUGE-1"
    order: ClassVar[int] = 1


class Rouge2(RougeN):
    """ROUGE of pairs of tokens."""

    name: ClassVar[str] = "ROUGE-2"
    order: ClassVar[int] = 2


class RougeL(Rouge[Tokens]):
    """ROUGE of the longest common subsequence of the whole texts."""

    name: ClassVar[str] = "ROUGE-L"

    def prepared(self, text: str) -> Tokens:
        return self.tokens(text)

    def hits(self, hypothesis: Tokens, reference: Tokens) -> tuple[int, int, int]:
        return common_length(hypothesis, reference), len(hypothesis), len(reference)


class RougeLsum(Rouge[list[Tokens]]):
    """ROUGE of the union of longest common subsequences of sentences; that of ROUGE-1.5.5 is this one."""

    name: ClassVar[str] = "ROUGE-Lsum"
    options: ClassVar[frozenset[str]] = Rouge.options | {"rouge_sentences"}

    def choices(self) -> str:
        return f"{super().choices()}|sentences:{self.sentence_borders}"

    def prepared(self, text: str) -> list[Tokens]:
        return [self.tokens(sentence) for sentence in self._cut(text)]

    def hits(self, hypothesis: list[Tokens], reference: list[Tokens]) -> tuple[int, int, int]:
        ours = Counter(token for sentence in hypothesis for token in sentence)
        true = Counter(token for sentence in reference for token in sentence)
        left, total = ours & true, 0
        for sentence in reference:
            union: set[int] = set()
            for other in hypothesis:
                union.update(common_places(sentence, other))
            for place in union:
                if left[sentence[place]] > 0:
                    left[sentence[place]] -= 1
                    total += 1
        return total, ours.total(), true.total()

    def caution_counts(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> np.ndarray:
        """As `Rouge`, and the texts of several lines."""
        texts = [text for text in (*hypotheses, *references[0]) if text is not None]
        return np.append(super().caution_counts(hypotheses, references), sum("\n" in text for text in texts))

    def cautions_from(self, caution_counts: np.ndarray, sample: ReferenceLines, *, sentence: bool = False) -> list[str]:
        found = super().cautions_from(caution_counts, sample)
        if self.sentence_borders == "lines" and not caution_counts[2]:
            found.append(
                "no text has more than one line, so ROUGE-Lsum equals ROUGE-L; add --rouge-sentences split to split "
                "the texts into sentences"
            )
        return found

    def _cut(self, text: str) -> list[str]:
        if self.sentence_borders == "split":
            return [sentence for line in text.split("\n") for sentence in split_sentences(line)]
        return text.split("\n")


def read_irregular_forms(folder: Path | str) -> dict[str, str]:
    """The base of each irregular form in WordNet's lists: adj.exc, adv.exc, noun.exc and verb.exc, later ones first.

    Raises: NlpcliError where none of the lists is in the folder, or a line has no base.
    """
    found: dict[str, str] = {}
    paths = [Path(folder) / name for name in _IRREGULAR_FILES]
    if not any(path.exists() for path in paths):
        raise NlpcliError(f"the folder {folder} contains none of {', '.join(_IRREGULAR_FILES)}")
    for path in filter(Path.exists, paths):
        for number, line in enumerate(read_lines(path), start=1):
            form, *bases = line.split() or ("",)
            if form and not bases:
                raise NlpcliError(f"{path}:{number}: the form '{form}' has no base form")
            if form:
                found[form] = bases[0]
    return found


def _stemmer(name: str, irregular: str | None) -> Callable[[str], str] | None:
    if irregular is not None:
        bases = read_irregular_forms(irregular)
        return lambda word: bases.get(word) or rouge_stem(word)
    return nltk_stem if name == "porter" else None


def _row(hits: int, hypothesis: int, reference: int) -> _Row:
    precision, recall = hits / max(hypothesis, 1), hits / max(reference, 1)
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both > 0 else 0.0


def _measurement(rows: np.ndarray) -> Measurement:
    """The measurement for the precision, recall and F1 of each summary, (summaries, 3)."""
    precision, recall, _ = (100 * rows.mean(axis=0)).tolist()
    values = shares(rows[:, 2])
    details = {"precision": precision, "recall": recall, "examples": len(rows)}
    summary = f"precision = {precision:.2f} recall = {recall:.2f}"
    return Measurement(len(rows), once(values, len(rows)), values, summary, details)


KINDS: dict[str, type[Rouge[Any]]] = {"rouge1": Rouge1, "rouge2": Rouge2, "rougeL": RougeL, "rougeLsum": RougeLsum}


def rouge(
    hypotheses: Lines,
    references: Sequence[Lines],
    kind: str = "rougeL",
    resampling: Resampling | None = None,
    **options: str,
) -> Score:
    """ROUGE of n summaries against r reference sets of n texts each; kind: one of `KINDS`, options: as `Rouge`.

    Raises: NlpcliError for an unknown kind, as `Rouge`, and where the numbers of texts differ or there are none.
    """
    if kind not in KINDS:
        raise unknown("ROUGE metric", kind, KINDS)
    return KINDS[kind](**options).corpus(hypotheses, references, resampling)
