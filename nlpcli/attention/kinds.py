"""The kinds of attention by name, and the entries of `model.attention` that name them. Imports no torch.

An entry is a pattern, a kind, or a kind and a pattern: "window:128+global:2", "softmax", "softmax & window:128". A
pattern alone is softmax attention. Most kinds are cores of `MultiHeadAttention`; some are layers of their own. The
flags of a kind define its abilities; settings that it does not support are refused when they are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
    from nlpcli.attention.multi_head import MultiHeadAttention


@dataclass(frozen=True)
class AttentionKind:
    """The abilities of an attention core; settings that need a False one are refused before training.

    target: "module:class", made with the numbers of `form`, such as "linformer:K"; those in brackets may be left out.
    layer: the class is not a core but a `MultiHeadAttention` of its own, with more projections. even: the first number
    must be even. causal: a position's context
    depends on it and those before it only, and `step` gives it; bidirectional: on the whole text. patterns: it keeps to
    any pattern besides full and causal; bias: it takes numbers added to its scores; groups: heads of queries may share
    a head of keys and values; documents: it keeps documents of one row apart; dropout: of its weights;
    scores: other ones than dot products; state: how many 32-bit numbers a decoder
    remembers for a head, of (numbers of the entry, d_key, d_value), None where that grows with the text;
    randomized: it has random numbers, other ones in each layer; fixed_length: it has parameters for each position up to
    model.max_length; per_head: it has parameters for each head; one_core: layers of a stack share them; mixes: its
    weights may have any sign and sum.
    own_keys: a layer projects keys for it; if not, its keys are the queries. own_queries: the same of queries; if not,
    queries and keys are empty. gates: how many numbers a layer makes for it of each token and head, which stand behind
    the key. faster_from: the tokens from which on it was measured to be faster than full attention, and the same as a
    decoder's; None where it is at no length (`benchmarks/attention/README.md`). why: the reason for what it can't do,
    after "it", for the refusal.
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
    state: Callable[..., int] | None = None
    randomized: bool = False
    fixed_length: bool = False
    per_head: bool = False
    one_core: bool = False
    mixes: bool = False
    layer: bool = False
    even: bool = False
    own_queries: bool = True
    own_keys: bool = True
    gates: int = 0
    faster_from: tuple[int, int] | None = None
    why: str = ""

    @property
    def constant_state(self) -> bool:
        """Whether what a decoder remembers does not grow with the text."""
        return self.state is not None


def _sums(d_key: int, d_value: int) -> int:
    return d_key * d_value + d_key


def _features(features: int, d_key: int, d_value: int) -> int:
    return features * d_value + features


def _in_buckets(buckets: int, rounds: int, window: int, d_key: int, d_value: int) -> int:
    """Keys, values and positions, which are 64-bit numbers, of all places and one more, and the sizes of buckets."""
    return (rounds * buckets * window + 1) * (d_key + d_value + 2) + 2 * rounds * buckets


def _linformer(
    name: str, form: str, *, groups: bool = False, per_head: bool = False, one_core: bool = False
) -> AttentionKind:
    return AttentionKind(
        f"nlpcli.attention.linformer:{name}",
        form,
        causal=False,
        groups=groups,
        dropout=True,
        fixed_length=True,
        per_head=per_head,
        one_core=one_core,
        mixes=True,
        faster_from=(600, 600),
        why="mixes all positions",
    )


def _synthesizer(name: str, form: str, *, own_queries: bool = True, own_keys: bool = True) -> AttentionKind:
    return AttentionKind(
        f"nlpcli.attention.synthesizer:{name}",
        form,
        patterns=True,
        documents=True,
        dropout=True,
        fixed_length=True,
        per_head=True,
        own_queries=own_queries,
        own_keys=own_keys,
        why="makes scores for positions",
    )


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
        state=_sums,
        faster_from=(500, 500),
        why="sums over all keys",
    ),
    "performer": AttentionKind(
        "nlpcli.attention.performer:PerformerAttention",
        "performer:M",
        groups=True,
        state=_features,
        faster_from=(1000, 3800),
        randomized=True,
        why="sums over all keys",
    ),
    "performer-hyperbolic": AttentionKind(
        "nlpcli.attention.performer:HyperbolicPerformerAttention",
        "performer-hyperbolic:M",
        groups=True,
        state=_features,
        faster_from=(1000, 4000),
        randomized=True,
        why="sums over all keys",
    ),
    "lsh": AttentionKind(
        "nlpcli.attention.lsh:LSHAttention",
        "lsh:BUCKETS:ROUNDS:WINDOW",
        state=lambda buckets, rounds, window, *widths: _in_buckets(buckets, rounds, window, *widths),
        randomized=True,
        own_keys=False,
        faster_from=(2000, 2400),  # with two rounds
        why="attends within buckets, and its keys are its queries",
    ),
    "routing": AttentionKind(
        "nlpcli.attention.routing:RoutingAttention",
        "routing:CLUSTERS:WINDOW",
        state=lambda clusters, window, *widths: _in_buckets(clusters, 1, window, *widths),
        per_head=True,
        own_keys=False,
        faster_from=(900, 900),
        why="attends within clusters, and its keys are its queries",
    ),
    "gated-delta": AttentionKind(
        "nlpcli.attention.gated_delta:GatedDeltaAttention",
        "gated-delta",
        bidirectional=False,
        state=lambda d_key, d_value: d_key * d_value + 6 * d_key,
        faster_from=(2600, 2600),
        per_head=True,
        mixes=True,
        gates=2,
        why="remembers one matrix of what it has read from left to right",
    ),
    "linformer": _linformer("LinformerAttention", "linformer:K", groups=True),
    "linformer-heads": _linformer("HeadsLinformerAttention", "linformer-heads:K", per_head=True),
    "linformer-layers": _linformer("OneMapLinformerAttention", "linformer-layers:K", groups=True, one_core=True),
    "synthesizer-dense": _synthesizer("DenseSynthesizer", "synthesizer-dense", own_keys=False),
    "synthesizer-factorized-dense": _synthesizer(
        "FactorizedDenseSynthesizer", "synthesizer-factorized-dense", own_keys=False
    ),
    "synthesizer-random": _synthesizer("RandomSynthesizer", "synthesizer-random", own_queries=False),
    "synthesizer-factorized-random": _synthesizer(
        "FactorizedRandomSynthesizer", "synthesizer-factorized-random:K", own_queries=False
    ),
    "synthesizer-mixed": _synthesizer("MixedSynthesizer", "synthesizer-mixed"),
    "longformer": AttentionKind(
        "nlpcli.attention.longformer:LongformerAttention",
        "longformer:W[:G]",
        causal=False,
        groups=True,
        dropout=True,
        layer=True,
        even=True,
        why="has a window and global tokens of its own",
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

    def core(
        self, *, layer: int = 0, length: int = 512, heads: int = 1, d_key: int = 64, **settings: object
    ) -> AttentionCore[Any]:
        """The core of a layer, freshly made, of a kind that is one.

        layer: its number; length: of the longest text; heads: of queries, each d_key wide; settings: as of all kinds,
        see `SoftmaxAttention`.
        """
        if self.kind.randomized:
            settings["layer"] = layer
        if self.kind.fixed_length:
            settings["length"] = length
        if self.kind.per_head:
            settings.update(heads=heads, d_key=d_key)
        return self._class(*self.numbers, **settings)

    def layer(self, **settings: object) -> MultiHeadAttention:
        """The self-attention of a kind that is a layer, freshly made; settings: see its class."""
        return self._class(*self.numbers, **settings)

    @property
    def _class(self) -> Any:  # Any: each is made with other settings
        module, _, name = self.kind.target.partition(":")
        return getattr(import_module(module), name)


@lru_cache(maxsize=256)
def parse_attention(text: str) -> AttentionEntry:
    """The entry of a text such as "window:128+global:2". Raises: NlpcliError that names the mistake."""
    begin = re.match(r"\s*([a-z-]+)((?::[0-9]+)*)\s*(?:&(.*)|$)", text, re.DOTALL)
    if begin is None or begin[1] not in KINDS:
        return AttentionEntry("softmax", (), parse(text))
    name, given, rest = begin.groups()
    numbers = tuple(map(int, given.split(":")[1:]))
    form = KINDS[name].form
    if not form.count(":") - form.count("[") <= len(numbers) <= form.count(":") or 0 in numbers:
        raise NlpcliError(f"attention '{text}': '{name}{given}' is not of the form {form}")
    if KINDS[name].even and numbers[0] % 2:
        raise NlpcliError(
            f"attention '{text}': {form.split(':')[1].rstrip('[')} is {numbers[0]}, but must be even",
            hint="half of the window lies on each side of a token",
        )
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
    """Checks that the entries of `setting` can be read and have the needed flags, names of `AttentionKind`.

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
