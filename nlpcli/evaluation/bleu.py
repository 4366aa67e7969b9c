"""BLEU, through sacreBLEU.

    BLEU = BP · exp( 1/4 · Σ_{n=1..4} log p_n ),   BP = min(1, exp(1 - r/c))

with p_n the clipped n-gram precisions of the whole text, c its length in tokens and r the length of the closest
references. Source: Papineni et al. 2002, eq. 3 and section 2.3; Post 2018 for the tokenizers and the signature.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict

import numpy as np
import sacrebleu.metrics
from sacrebleu.metrics.base import Score as SacreScore
from sacrebleu.metrics.bleu import BLEUScore

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.ngram_matches import Units, WordIds, clipped_matches
from nlpcli.evaluation.sacrebleu_metrics import SacreMetric
from nlpcli.evaluation.score import Lines, ReferenceLines, Score
from nlpcli.evaluation.unspaced_scripts import EAST_ASIAN, unspaced_script

SMOOTHING = tuple(sacrebleu.metrics.BLEU.SMOOTH_DEFAULTS)
TOKENIZERS = tuple(sacrebleu.metrics.BLEU.TOKENIZERS)
"""Those of the installed sacreBLEU."""
_SHORT = {"ja": "ja-mecab", "ko": "ko-mecab", "spm": "flores101"}
_PACKAGES = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
_AT_SPACES = ("13a", "none", "intl")
_BY_CHUNK = ("13a", "none")  # a chunk between white space has the same tokens alone as in its line
_TOKENIZED = 100  # lines ending in " ." from which on sacreBLEU, too, suspects tokenised text


class _Settings(TypedDict):
    lowercase: bool
    smooth_method: str
    smooth_value: float | None
    max_ngram_order: int


class Bleu(SacreMetric):
    """BLEU with sacreBLEU's tokenizers and smoothing.

    Single sentences are scored with the effective order: n-gram orders longer than the sentence are left out.

    Raises: NlpcliError for an unknown tokenizer or smoothing, or a tokenizer whose package or model is not installed.
    """

    options: ClassVar[frozenset[str]] = frozenset(
        {"tokenize", "lowercase", "smooth", "smooth_value", "max_ngram_order", "effective_order"}
    )

    def __init__(
        self,
        *,
        tokenize: str = "13a",
        lowercase: bool = False,
        smooth: str = "exp",
        smooth_value: float | None = None,
        max_ngram_order: int = 4,
        effective_order: bool = False,
    ) -> None:
        self.tokenize = _usable_tokenizer(_SHORT.get(tokenize, tokenize))
        if smooth not in SMOOTHING:
            raise unknown("smoothing method", smooth, SMOOTHING)
        if smooth_value is not None and not 0 <= smooth_value < float("inf"):
            raise NlpcliError(f"--smooth-value must be finite and at least 0, not {smooth_value}")
        if smooth_value is not None and sacrebleu.metrics.BLEU.SMOOTH_DEFAULTS[smooth] is None:
            raise NlpcliError(
                f"--smooth-value has no effect on the smoothing method '{smooth}'",
                hint="it applies to --smooth floor and --smooth add-k",
            )
        if max_ngram_order < 1:
            raise NlpcliError(f"--max-ngram-order must be at least 1, not {max_ngram_order}")
        self._settings: _Settings = {
            "lowercase": lowercase,
            "smooth_method": smooth,
            "smooth_value": smooth_value,
            "max_ngram_order": max_ngram_order,
        }
        self._effective_order = effective_order
        self._tokenizer = self.build().tokenizer
        self._words = WordIds(self._split)

    def build(self, *, sentence: bool = False) -> sacrebleu.metrics.BLEU:
        return sacrebleu.metrics.BLEU(
            tokenize=self.tokenize,
            force=True,  # its warning about tokenized text is given by `cautions`
            effective_order=self._effective_order or sentence,
            **self._settings,
        )

    def batch_statistics(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> np.ndarray:
        """Length, length of the closest reference, matches and n-grams of each order, (lines, 2 + 2 · orders)."""
        order = self._settings["max_ngram_order"]
        self._words.forget()
        ours, *theirs = (self._units(lines) for lines in (hypotheses, *references))
        matches = clipped_matches([ours, *theirs], order)
        if len(theirs) == 1:
            closest = theirs[0].lengths
        else:
            there = np.array([[line is not None for line in lines] for lines in references])
            closest = _closest(ours.lengths, np.stack([units.lengths for units in theirs]), there)
        return np.column_stack([ours.lengths, closest, matches, ours.totals(order)])

    def _units(self, lines: ReferenceLines) -> Units:
        texts = [line or "" for line in lines]
        if self._settings["lowercase"]:
            texts = [text.lower() for text in texts]
        if self.tokenize not in _BY_CHUNK or (self.tokenize == "13a" and any("\n" in text for text in texts)):
            return self._words.whole_units(text.rstrip() for text in texts)
        return self._words.units(texts)

    def _split(self, text: str) -> list[str]:
        words: list[str] = self._tokenizer(text).split()
        return words

    def details(self, score: SacreScore) -> dict[str, Any]:
        assert isinstance(score, BLEUScore)
        return {
            "brevity_penalty": score.bp,
            "precisions": list(score.precisions),
            "counts": list(score.counts),
            "totals": list(score.totals),
            "hypothesis_length": score.sys_len,
            "reference_length": score.ref_len,
        }

    def caution_counts(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> np.ndarray:
        """Lines that end in " .", and whether a hypothesis is long enough for all n-grams."""
        order = self._settings["max_ngram_order"]
        long = not self._effective_order and any(len(self._split(line)) >= order for line in hypotheses)
        return np.array([sum(line.endswith(" .") for line in hypotheses), long])

    def cautions_from(self, caution_counts: np.ndarray, sample: ReferenceLines, *, sentence: bool = False) -> list[str]:
        found = []
        if self.tokenize != "none" and caution_counts[0] >= _TOKENIZED:
            found.append(
                f"at least {_TOKENIZED} lines end in ' .', so the text seems to be tokenized, but BLEU expects "
                "detokenized text; detokenize it, or add --tokenize none"
            )
        script = unspaced_script(sample) if self.tokenize in _AT_SPACES else None
        if script:
            remedy = "zh, ja-mecab or char" if script == EAST_ASIAN else "char or flores200"
            found.append(
                f"the references look like {script}, which the tokenizer '{self.tokenize}' does not split into "
                f"words; use --tokenize {remedy}"
            )
        if not sentence and not self._effective_order and not caution_counts[1]:
            found.append(
                f"no hypothesis has {counted(self._settings['max_ngram_order'], 'token')} or more, so BLEU is 0; add "
                "--effective-order to leave out the n-grams that are too long"
            )
        return found


def _closest(ours: np.ndarray, theirs: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The length of that reference that is nearest to ours, the shorter of two.

    ours: (lines,); theirs, there: (sets, lines), the latter whether a line has a reference in this set.
    """
    far = np.iinfo(np.int64).max
    distance = np.where(there, np.abs(theirs - ours), far)
    nearest = distance == distance.min(axis=0)
    found: np.ndarray = np.where(nearest & there, theirs, far).min(axis=0)
    return found


def bleu(
    hypotheses: Lines,
    references: Sequence[ReferenceLines],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    smooth: str = "exp",
    smooth_value: float | None = None,
) -> Score:
    """BLEU of n hypotheses against r reference sets of n lines each, 0 to 100.

    Raises: NlpcliError where the numbers of lines differ or there are none.
    """
    metric = Bleu(tokenize=tokenize, lowercase=lowercase, smooth=smooth, smooth_value=smooth_value)
    return metric.corpus(hypotheses, references)


def _usable_tokenizer(name: str) -> str:
    names = {known.lower(): known for known in TOKENIZERS}
    if name.lower() not in names:
        raise unknown("tokenizer", name, TOKENIZERS)
    name = names[name.lower()]
    if name in _PACKAGES:
        try:
            sacrebleu.metrics.BLEU(tokenize=name)
        except RuntimeError as missing:
            package = _PACKAGES[name]
            raise NlpcliError(
                f"the tokenizer '{name}' needs a package that is not installed",
                hint=f"install it with: pip install '{package}'",
            ) from missing
    else:
        _require_model(name)
    return name


def _require_model(name: str) -> None:
    """sacreBLEU would fetch a tokenizer's model from the network, which this program never does."""
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    if name not in SPM_MODELS:
        return
    url = SPM_MODELS[name]["url"]
    path = os.path.join(SACREBLEU_DIR, "models", os.path.basename(url))
    if not os.path.exists(path):
        raise NlpcliError(
            f"the tokenizer '{name}' needs the model {path}, which does not exist", hint=f"download it once from {url}"
        )
    try:
        sacrebleu.metrics.BLEU(tokenize=name)
    except (OSError, RuntimeError) as error:
        raise NlpcliError(
            f"{path} is not a SentencePiece model, which the tokenizer '{name}' needs", hint=f"download it from {url}"
        ) from error
