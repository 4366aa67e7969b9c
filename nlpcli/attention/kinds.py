"""The kinds of attention by name, and the entries of `model.attention` that name them. Imports no torch.

An entry is a pattern, a kind, or a kind and a pattern: "window:128+global:2", "softmax", "softmax & window:128". A
pattern alone is softmax attention. The flags of a kind say what it can do; the rest is refused when settings are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nlpcli.attention.pattern_base import Pattern
from nlpcli.attention.pattern_parser import parse
from nlpcli.attention.patterns import Full, decoder_pattern, split_causal
from nlpcli.errors import NlpcliError

if TYPE_CHECKING:
    from nlpcli.attention.core import AttentionCore


@dataclass(frozen=True)
class AttentionKind:
    """What an attention core can do; what is False is refused before anything is trained.

    target: "module:class", made with the numbers of `form`, such as "linformer:K". causal: a position's context
    depends on it and those before it only, and `step` gives it; bidirectional: on the whole text. patterns: it keeps to
    any pattern besides full and causal; bias: it takes numbers added to its scores; groups: heads of queries may share
    a head of keys and values; documents: it keeps documents of one row apart; dropout: of its weights;
    scores: other ones than dot products; constant_state: what it remembers does not grow with the text. why: the reason
    for what it can't do, after "it", for the refusal.
    """

    target: str
    form: str
    causal: bool = True
    bidirectional: bool = True
    patterns: bool = False
    bias: bool = False
    groups: bool = False
    documents: bool = False
    dropout: bool = False
    scores: bool = False
    constant_state: bool = False
    why: str = ""


KINDS: dict[str, AttentionKind] = {
    "softmax": AttentionKind(
        "nlpcli.attention.softmax:SoftmaxAttention",
        "softmax",
        patterns=True,
        bias=True,
        groups=True,
        documents=True,
        dropout=True,
        scores=True,
    ),
    "linear": AttentionKind(
        "nlpcli.attention.linear:LinearAttention",
        "linear",
        groups=True,
        constant_state=True,
        why="sums over all keys",
    ),
}
"""Name -> what it can do. A new kind is a file and a line here; the contract tests run over the table."""


@dataclass(frozen=True)
class AttentionEntry:
    """One entry of `model.attention`: a kind, its numbers, and the pattern it keeps to."""

    name: str
    numbers: tuple[int, ...]
    pattern: Pattern

    @property
    def kind(self) -> AttentionKind:
        return KINDS[self.name]

    def pattern_of(self, *, causal: bool) -> Pattern:
        """The pattern of a layer, of a decoder's if `causal`."""
        return decoder_pattern(self.pattern) if causal else self.pattern

    def core(self, **settings: object) -> AttentionCore[Any]:
        """The core, freshly made. settings: as of all kinds, see `SoftmaxAttention`."""
        module, _, name = self.kind.target.partition(":")
        return getattr(import_module(module), name)(*self.numbers, **settings)


@lru_cache(maxsize=256)
def parse_attention(text: str) -> AttentionEntry:
    """The entry that a text such as "window:128+global:2" stands for. Raises: NlpcliError that names the mistake."""
    begin = re.match(r"\s*([a-z-]+)((?::[0-9]+)*)\s*(?:&(.*)|$)", text, re.DOTALL)
    if begin is None or begin[1] not in KINDS:
        return AttentionEntry("softmax", (), parse(text))
    name, given, rest = begin.groups()
    numbers = tuple(map(int, given.split(":")[1:]))
    form = KINDS[name].form
    if len(numbers) != form.count(":") or 0 in numbers:
        raise NlpcliError(f"attention '{text}': '{name}{given}' is not of the form {form}")
    return AttentionEntry(name, numbers, Full() if rest is None else parse(rest))


_ABILITIES = {
    "causal": "does not support causal attention",
    "bidirectional": "does not support bidirectional attention",
    "patterns": "does not support patterns",
    "bias": "does not support relative positions",
    "groups": "does not support shared keys and values (model.kv_heads)",
    "documents": "does not support a document mask",
    "dropout": "does not support attention dropout",
    "scores": "does not support other scores than dot products (model.score)",
}


def check_attention(texts: Sequence[str], *, setting: str, needs: Sequence[str]) -> None:
    """That the entries of `setting` can be read, and do what is needed of them: names of flags of `AttentionKind`.

    Raises: NlpcliError that names the entry, what it can't do, and kinds that can.
    """
    for text in texts:
        try:
            entry = parse_attention(text)
        except NlpcliError as error:
            raise NlpcliError(f"{setting}: {error.message}", hint=error.hint) from None
        if "causal" in needs:
            try:
                decoder_pattern(entry.pattern)
            except ValueError as error:
                raise NlpcliError(
                    f"{setting} '{text}': {error}", hint="in a decoder, count positions from the beginning of the text"
                ) from None
        looks_back, rest = split_causal(entry.pattern)
        wanted = [*needs, *(["causal"] if looks_back else []), *(["patterns"] if rest != Full() else [])]
        lacking = [ability for ability in wanted if not getattr(entry.kind, ability)]
        if lacking:
            able = [name for name, kind in KINDS.items() if all(getattr(kind, ability) for ability in wanted)]
            why = f", because it {entry.kind.why}" if entry.kind.why else ""
            raise NlpcliError(
                f"{setting} '{text}': {entry.name} {_ABILITIES[lacking[0]]}{why}",
                hint=f"choose one that supports it: {', '.join(able)}",
            )
