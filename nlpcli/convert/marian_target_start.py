"""Marian folders as published ones are: targets begin with `<pad>`, the last token, whose vector is zero.

Programs that read Marian folders rely on it: CTranslate2 begins targets with a zero vector and drops the last token.
A start token's vector e that is not zero moves out of the table of the tokens, which encoder, decoder and output share:

    tokens:        E' = E - e, so that the start token's vector is zero
    first layers:  W (x + s e) + b = W x + (b + s W e) for query, key and value; the residual's s e goes into the
                   output's bias (s: the scale of embeddings)
    output:        h (E - e) = h E - h e; h e is the same for every token, so that the softmax is the same

The probabilities are the same up to rounding; logits lose the same number for every token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from nlpcli.convert.name_map import Config, Weights
from nlpcli.convert.tokenizer_out import role_names
from nlpcli.text import Tokenizer

NAME = "<pad>"
_TABLE = "model.shared.weight"
_BIAS = "final_logits_bias"
_NEVER = -1e4  # the logit of the row that is added
_FIRST = tuple(f"model.{side}.layers.0.self_attn." for side in ("encoder", "decoder"))
_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
_MAP, _CONFIG, _FAST, _VOCABULARY = "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json", "vocab.json"


@dataclass(frozen=True)
class ZeroStart:
    """The changes to a folder, as stored in its config.json.

    start: the token whose vector moved. row: the id of the `<pad>` that was added, None where it was there.
    renamed: the id of the token that was called so before. ids: of config.json before. tokens: role to name before.
    """

    start: int
    row: int | None
    renamed: int | None
    ids: dict[str, int]
    tokens: dict[str, str]

    @classmethod
    def of(cls, tokenizer: Tokenizer, theirs: Config) -> ZeroStart:
        """For a folder with this config.json."""
        special, rows = tokenizer.special, theirs["vocab_size"]
        there = special.pad == rows - 1 and special.names[special.pad] == NAME
        same = (id_ for id_ in range(tokenizer.vocab_size) if tokenizer.id_to_piece(id_) == NAME)
        return cls(
            start=theirs["decoder_start_token_id"],
            row=None if there else rows,
            renamed=None if there else next(same, None),
            ids={name: theirs[name] for name in _IDS if theirs.get(name) is not None},
            tokens=role_names(special),
        )

    @classmethod
    def read(cls, stored: object) -> ZeroStart | None:
        """From what config.json keeps; None for what this program doesn't write."""
        if not isinstance(stored, dict) or stored.keys() != cls.__dataclass_fields__.keys():
            return None
        numbers = [stored["start"], *(stored[name] for name in ("row", "renamed") if stored[name] is not None)]
        if not isinstance(stored["ids"], dict) or not isinstance(stored["tokens"], dict):
            return None
        numbers += stored["ids"].values()
        names = [*stored["ids"], *stored["tokens"], *stored["tokens"].values()]
        plain = all(type(n) is int and n >= 0 for n in numbers) and all(isinstance(name, str) for name in names)
        return cls(**stored) if plain else None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    # --- weights -------------------------------------------------------------------------------------------------

    def move(self, tensors: Weights, config: Config) -> dict[str, Tensor]:
        """The tensors of the folder from those of the class. config: with `d_model` and `scale_embedding`."""
        table, bias = tensors[_TABLE], tensors[_BIAS]
        vector = table[self.start]
        found = dict(tensors)
        if bool(vector.count_nonzero()):
            found[_TABLE] = table - vector
            step = vector * (math.sqrt(config["d_model"]) if config["scale_embedding"] else 1.0)
            for first in _FIRST:
                for name in ("q_proj", "k_proj", "v_proj"):
                    found[f"{first}{name}.bias"] = found[f"{first}{name}.bias"] + found[f"{first}{name}.weight"] @ step
                found[f"{first}out_proj.bias"] = found[f"{first}out_proj.bias"] + step
        if self.row is not None:
            found[_TABLE] = torch.cat((found[_TABLE], table.new_zeros(1, table.size(1))))
            found[_BIAS] = torch.cat((bias, bias.new_full((1, 1), _NEVER)), dim=1)
        return found

    def undo(self, weights: Weights, originals: Weights, config: Config) -> dict[str, Tensor] | None:
        """The tensors of the class with the originals, None when the folder's are no longer made of them."""
        before = {**weights, **originals}
        try:
            again = self.move(before, config)
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError):
            return None
        same = all(
            name in weights and again[name].shape == weights[name].shape
            and torch.allclose(again[name], weights[name], atol=1e-6)
            for name in again
        )  # fmt: skip
        return before if same else None

    # --- settings ------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """The settings of config.json that differ."""
        if self.row is None:
            return {}
        return {"vocab_size": self.row + 1, "pad_token_id": self.row, "decoder_start_token_id": self.row}

    def settings_before(self, theirs: Config) -> dict[str, Any]:
        """config.json as it was without the change."""
        if self.row is None:
            return dict(theirs)
        return {name: value for name, value in theirs.items() if name not in _IDS} | self.ids | {"vocab_size": self.row}

    def generation(self, written: Config) -> dict[str, Any]:
        """generation_config.json with the change."""
        if self.row is None:
            return dict(written)
        more = {"suppress_tokens": [*written["suppress_tokens"], self.row]} if "suppress_tokens" in written else {}
        return {**written, **more, "pad_token_id": self.row, "decoder_start_token_id": self.row}

    def generation_before(self, stored: Config) -> dict[str, Any]:
        """Decoding settings without the change."""
        found = {name: value for name, value in stored.items() if name not in _IDS or value != self.row}
        found |= {name: value for name, value in self.ids.items() if stored.get(name, -1) == self.row}
        if isinstance(found.get("suppress_tokens"), list):
            found["suppress_tokens"] = [id_ for id_ in found["suppress_tokens"] if id_ != self.row]
        return found

    # --- the tokenizer -------------------------------------------------------------------------------------------

    def tokenizer_files(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The tokenizer's files with `<pad>` as the last token; what was called so is an unused token now."""
        if self.row is None:
            return dict(files)
        found = {name: json.loads(files[name]) for name in (_MAP, _CONFIG, _FAST, _VOCABULARY) if name in files}
        for name in (_MAP, _CONFIG):  # without bos, as published ones: who reads them begins with <pad>
            named = {f"{role}_token": token for role, token in self.tokens.items() if role not in ("bos", "pad")}
            own = {key: value for key, value in found[name].items() if key.removesuffix("_token") not in self.tokens}
            found[name] = own | {key: self._new_name(token) for key, token in named.items()} | {"pad_token": NAME}
        if _FAST in found:
            _rename(found[_FAST], NAME, self._new_name(NAME))
            free = range(_size(found[_FAST]), self.row)
            found[_FAST]["added_tokens"] += [_added(id_, f"<unused_{id_}>") for id_ in free]
            found[_FAST]["added_tokens"].append(_added(self.row, NAME))
        else:
            vocabulary = {self._new_name(name): id_ for name, id_ in found[_VOCABULARY].items()}
            gaps = set(range(self.row)).difference(vocabulary.values())
            vocabulary |= {f"<unused_{id_}>": id_ for id_ in sorted(gaps)}
            found[_VOCABULARY] = vocabulary | {NAME: self.row}
        return {**files, **{name: _written(content) for name, content in found.items()}}

    def content_before(self, content: dict[str, Any]) -> None:
        """Takes the change out of the content of tokenizer.json."""
        if self.row is not None:
            content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] != self.row]
            _rename(content, self._new_name(NAME), NAME)

    def vocabulary_before(self, vocabulary: Mapping[str, int]) -> dict[str, int]:
        """Takes the change out of the content of vocab.json."""
        if self.row is None:
            return dict(vocabulary)
        names = {self._new_name(NAME): NAME}
        return {names.get(token, token): id_ for token, id_ in vocabulary.items() if id_ != self.row}

    def _new_name(self, name: str) -> str:
        return f"<unused_{self.renamed}>" if name == NAME and self.renamed is not None else name


def _rename(content: dict[str, Any], old: str, new: str) -> None:
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {new if name == old else name: id_ for name, id_ in model["vocab"].items()}
    else:
        model["vocab"] = [[new if name == old else name, score] for name, score in model["vocab"]]
    for token in content["added_tokens"]:
        token["content"] = new if token["content"] == old else token["content"]


def _size(content: Mapping[str, Any]) -> int:
    vocab = content["model"]["vocab"]
    last = max(vocab.values(), default=-1) if isinstance(vocab, dict) else len(vocab) - 1
    return max([last, *(token["id"] for token in content["added_tokens"])]) + 1


def _added(id_: int, name: str) -> dict[str, Any]:
    return {"id": id_, "content": name, **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
            "special": True}  # fmt: skip


def _written(content: object) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
