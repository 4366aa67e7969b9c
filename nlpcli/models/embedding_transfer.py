"""Another tokenizer, or other vectors of words, for a model that has its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nlpcli.data.word_vectors import WordVectors
from nlpcli.errors import NlpcliError
from nlpcli.text.special_tokens import ROLES, SpecialTokens
from nlpcli.text.token_normalization import spellings, words_of
from nlpcli.text.tokenizer import Tokenizer

_ROWS = re.compile(
    r"(?:body\.)?(?:(?:(?:en|de)coder_)?embedding\.tokens\.weight|output_weight_owner\.weight|output_bias"
    r"|output|frequencies)"  # of word vectors
)


@dataclass(frozen=True)
class TransferredTokens:
    """How many of the `total` tokens of the new tokenizer have kept their vectors."""

    shared: int
    total: int


@torch.no_grad()
def transfer_embeddings(
    weights: Mapping[str, Tensor], old: Tokenizer, new: Tokenizer
) -> tuple[dict[str, Tensor], TransferredTokens]:
    """A model's state dict for the tokenizer `new` instead of its own, `old`.

    A token in both vocabularies keeps its rows in embeddings and output matrix, and its output bias. A special token
    is matched by its role, a sentinel by its number, any other token by its normalized text
    (`nlpcli.text.token_normalization`), so that `▁dog`, `Ġdog` and WordPiece's `dog` are one. The other rows are
    sampled with torch's random state from a normal distribution that has the mean and the deviation of each column of
    the old matrix's tokens; their biases are the mean. Shared matrices stay shared.

    Raises: NlpcliError when the weights are not those of a model for `old`, and for an adaptive softmax, unless `new`
    only has further ids: its parts hold tokens by their frequency.
    """
    places = same_tokens(old, new)
    grown = new.vocab_size >= old.vocab_size and all(places[id_] == id_ for id_ in range(old.vocab_size))
    if not grown and any("adaptive_softmax." in name for name in weights):
        raise NlpcliError(
            "the tokenizer of a model with an adaptive softmax can't be replaced: its ids are sorted by frequency",
            hint="train a new model with that tokenizer",
        )
    plain = torch.tensor([id_ for id_, spelling in enumerate(spellings(old)) if spelling is not None])
    kept = torch.tensor([(id_, place) for id_, place in enumerate(places) if place is not None]).view(-1, 2)
    result = dict(weights)
    made: dict[tuple[int, int], Tensor] = {}
    for name, matrix in weights.items():
        if not _ROWS.fullmatch(name):
            continue
        if matrix.size(0) != old.vocab_size:
            raise NlpcliError(
                f"the weight '{name}' has {matrix.size(0)} rows, but its tokenizer has {old.vocab_size} tokens"
            )
        key = (matrix.data_ptr(), matrix.numel())
        if key not in made:
            made[key] = _sampled(matrix[plain] if len(plain) else matrix, new.vocab_size)
            made[key][kept[:, 0]] = matrix[kept[:, 1]]
        result[name] = made[key]
    return result, TransferredTokens(len(kept), new.vocab_size)


def _sampled(rows: Tensor, count: int) -> Tensor:
    """`count` rows like those given."""
    mean = rows.float().mean(dim=0)
    sampled = mean.expand(count, *mean.shape).clone()
    if rows.dim() > 1:
        sampled += torch.randn(sampled.shape) * rows.float().std(dim=0, correction=0)
    return sampled.to(rows.dtype)


def same_tokens(old: Tokenizer, new: Tokenizer) -> list[int | None]:
    """For each id of `new` the id of the same token in `old`, None where there is none."""
    before, after = spellings(old), spellings(new)
    by_spelling = {spelling: id_ for id_, spelling in reversed(list(enumerate(before))) if spelling is not None}
    found = [None if spelling is None else by_spelling.get(spelling) for spelling in after]
    by_name = {name: id_ for id_, name in old.special.names.items()}
    for id_, name in new.special.names.items():
        found[id_] = by_name.get(name) if name not in _usual(new.special) else None
    for id_, (left, right) in enumerate(zip(before, after, strict=False)):
        if left == right and (left is not None or old.special.names.get(id_) == new.special.names.get(id_)):
            found[id_] = id_  # of several tokens with the same normal form, each keeps its own
    for role in ROLES:
        if role not in old.special.absent and role not in new.special.absent:
            found[getattr(new.special, role)] = getattr(old.special, role)
    for theirs, ours in zip(old.special.sentinels, new.special.sentinels, strict=False):
        found[ours] = theirs
    return found


def _usual(special: SpecialTokens) -> set[str]:
    """The spellings that name a role or a sentinel's number; they are compared as such."""
    return {f"<{role}>" for role in ROLES} | {f"<sentinel_{n}>" for n in range(len(special.sentinels))}


def with_roles(tokenizer: Tokenizer, roles: Sequence[str]) -> Tokenizer:
    """The tokenizer with an id of its own, beyond those it has, for each of `roles` that it lacks.

    So a decoder gets the delimiter and the last token of Radford et al. 2018, section 3.3. The new special tokens are
    spelled `<role>`, and no text has them. `transfer_embeddings` gives a model the rows for them.
    """
    special = tokenizer.special
    missing = [role for role in roles if role in special.absent]
    ids = {role: tokenizer.vocab_size + place for place, role in enumerate(missing)}
    absent = tuple(role for role in special.absent if role not in missing)
    if not missing:
        return tokenizer
    changes: dict[str, Any] = {"absent": absent, **ids}
    grown = replace(special, **changes)
    return Tokenizer(tokenizer.settings, tokenizer.model, grown, tokenizer.trained)


@torch.no_grad()
def embed_from(vectors: WordVectors, tokenizer: Tokenizer, weight: Tensor) -> int:
    """Puts vectors of words into the rows of `weight` (vocab, width) whose tokens are words; the others stay.

    A token is a word where it stands at the start of one: `▁dog`, `Ġdog`, WordPiece's `dog`, a word itself. A word
    that has no vector takes that of the first word in the file that differs in upper and lower case only.

    Returns: how many tokens have one now. Raises: NlpcliError when vectors and rows differ in width.
    """
    width = weight.size(1)
    if vectors.width != width:
        raise NlpcliError(
            f"{vectors.path}: the vectors have dimension {vectors.width}, but the embeddings have dimension {width}",
            hint=f"set model.d_model={vectors.width}, or use vectors of dimension {width}",
        )
    lowered: dict[str, int] = {}
    for word, row in vectors.places.items():
        lowered.setdefault(word.lower(), row)
    ids, places = [], []
    for id_, word in words_of(tokenizer).items():
        place = vectors.places.get(word, lowered.get(word.lower()))
        if place is not None:
            ids.append(id_)
            places.append(place)
    if ids:
        weight[ids] = torch.from_numpy(vectors.matrix[places]).to(weight)
    return len(ids)


def wanted_by(tokenizer: Tokenizer) -> Callable[[str], bool]:
    """Whether `embed_from` would have a use for a word: what `read_word_vectors` need not keep the others for."""
    words = {word.lower() for word in words_of(tokenizer).values()}
    return lambda word: word.lower() in words
