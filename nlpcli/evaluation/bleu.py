"""BLEU, through sacreBLEU.

    BLEU = BP · exp( 1/4 · Σ_{n=1..4} log p_n ),   BP = min(1, exp(1 - r/c))

with p_n the clipped n-gram precisions of the whole text, c its length in tokens and r the length of the closest
references. Source: Papineni et al. 2002, eq. 3 and section 2.3; Post 2018 for the tokenizers and the signature.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict

import sacrebleu.metrics
from sacrebleu.metrics.base import Score as SacreScore
from sacrebleu.metrics.bleu import BLEUScore

from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError, unknown
from nlpcli.evaluation.sacrebleu_metrics import SacreMetric, strings
from nlpcli.evaluation.score import Lines, ReferenceLines, Score, check_segments
from nlpcli.evaluation.unspaced_scripts import EAST_ASIAN, unspaced_script

SMOOTHING = tuple(sacrebleu.metrics.BLEU.SMOOTH_DEFAULTS)
TOKENIZERS = tuple(sacrebleu.metrics.BLEU.TOKENIZERS)
"""Those of the installed sacreBLEU."""
_SHORT = {"ja": "ja-mecab", "ko": "ko-mecab", "spm": "flores101"}
_PACKAGES = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
_AT_SPACES = ("13a", "none", "intl")
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

    def build(
        self, *, sentence: bool = False, references: Sequence[ReferenceLines] | None = None
    ) -> sacrebleu.metrics.BLEU:
        return sacrebleu.metrics.BLEU(
            tokenize=self.tokenize,
            force=True,  # its suspicion of tokenised text is told by `cautions`
            effective_order=self._effective_order or sentence,
            references=None if references is None else strings(references),
            **self._settings,
        )

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

    def cautions(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> list[str]:
        found = self.sentence_cautions(hypotheses, references)
        order = self._settings["max_ngram_order"]
        tokenizer = self.build().tokenizer
        if not self._effective_order and all(len(tokenizer(line).split()) < order for line in hypotheses):
            found.append(
                f"no hypothesis has {counted(order, 'token')} or more, so BLEU is 0; add --effective-order to leave "
                "out the n-grams that are too long"
            )
        return found

    def sentence_cautions(self, hypotheses: Lines, references: Sequence[ReferenceLines]) -> list[str]:
        """The `cautions` that hold for the scores of single sentences, too."""
        found = []
        if self.tokenize != "none" and sum(line.endswith(" .") for line in hypotheses) >= _TOKENIZED:
            found.append(
                f"at least {_TOKENIZED} lines end in ' .', so the text seems to be tokenized, but BLEU expects "
                "detokenized text; detokenize it, or add --tokenize none"
            )
        script = unspaced_script(references[0]) if self.tokenize in _AT_SPACES else None
        if script:
            remedy = "zh, ja-mecab or char" if script == EAST_ASIAN else "char or flores200"
            found.append(
                f"the references look like {script}, which the tokenizer '{self.tokenize}' does not split into "
                f"words; use --tokenize {remedy}"
            )
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

    The n-grams of the references are kept for the next call with the same references, as in the evaluations during
    one training run. Raises: NlpcliError where the numbers of lines differ or there are none.
    """
    check_segments(hypotheses, references)
    metric, sacre = _prepared(tokenize, lowercase, smooth, smooth_value, tuple(tuple(lines) for lines in references))
    return metric._finish(sacre.corpus_score(list(hypotheses), None), sacre.get_signature())


@functools.lru_cache(maxsize=2)
def _prepared(
    tokenize: str,
    lowercase: bool,
    smooth: str,
    smooth_value: float | None,
    references: tuple[tuple[str | None, ...], ...],
) -> tuple[Bleu, sacrebleu.metrics.BLEU]:
    metric = Bleu(tokenize=tokenize, lowercase=lowercase, smooth=smooth, smooth_value=smooth_value)
    return metric, metric.build(references=references)


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
