"""A model's vocabulary exchanged for another one, extended, and filled with vectors of words."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli.data.word_vectors import WordVectors
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.embedding_transfer import (
    TransferredTokens,
    embed_from,
    same_tokens,
    transfer_embeddings,
    wanted_by,
    with_roles,
)
from nlpcli.models.model_folder import load_weights, unshared
from nlpcli.text import SpecialTokens, Tokenizer, load_tokenizer, train_tokenizer
from nlpcli.text.huggingface_tokenizer import HuggingFaceModel
from nlpcli.text.token_normalization import words_of
from nlpcli.text.tokenizer import TokenizerSettings

SMALL = {"d_model": 8, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1}
MODELS = {
    "tied encoder": {"kind": "encoder", "mlm_head": True},
    "decoder": {"kind": "decoder", "tie": "none", "output_bias": True},
    "tied": {"kind": "encoder-decoder", "output_bias": True},
    "untied": {"kind": "encoder-decoder", "tie": "none"},
    "transformer-xl": {"family": "transformer-xl", "kind": "decoder"},
    "xlnet": {"family": "xlnet", "kind": "encoder"},
    "hierarchical": {"family": "hierarchical", "kind": "encoder"},
}
WORDS = """\
the and a of in to dogs dog cats cat sleeping sleeps sleep reads reading read unbelievable stories story
kitchen kitchens housekeeper keeps keeping house houses outside inside river rivers running runs mountain green small
large children child window windows table under over they were are always never morning evening garden walked"""
SIZES = {"unigram": 338, "bpe": 360, "wordpiece": 120, "byte-bpe": 360, "chars": None, "words": None}


def text():
    draw = random.Random(3)
    return [" ".join(["the", "and", "dog", *draw.choices(WORDS.split(), k=9)]) for _ in range(200)]


@pytest.fixture(scope="module")
def tokenizers():
    return {kind: train_tokenizer(kind, text(), vocab_size=size, sentinels=2) for kind, size in SIZES.items()}


def theirs(words=("dog", "cat"), unused=0):
    """A tokenizer as of a decoder from elsewhere: bos and eos are one, and it has nothing else that is special."""
    pieces = {"<|end|>": 0} | {word: id_ for id_, word in enumerate(words, 1)}
    core = {
        "added_tokens": [{"id": 0, "content": "<|end|>", "special": True, "lstrip": False, "rstrip": False,
                          "single_word": False, "normalized": False}],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "truncation": None, "padding": None, "version": "1.0",
        "model": {"type": "WordLevel", "vocab": pieces, "unk_token": "<|end|>"},
    }  # fmt: skip
    beyond = tuple((len(pieces) + n, f"<unused_{n}>") for n in range(unused))
    special = SpecialTokens(*[0] * 7, spellings=((0, "<|end|>"), *beyond), absent=("pad", "unk", "cls", "sep", "mask"))
    model = HuggingFaceModel(json.dumps(core).encode(), special)
    return Tokenizer(TokenizerSettings(kind="huggingface", byte_fallback=False), model, special, {"read from": "x"})


def made(name, tokenizer):
    torch.manual_seed(1)
    model = build_model(of_family(SMALL | MODELS[name]), tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


@pytest.mark.parametrize("name", MODELS)
def test_shared_pieces_keep_their_rows_in_every_family_and_the_model_is_whole(name, tokenizers):
    old, new = tokenizers["unigram"], tokenizers["wordpiece"]
    model, other = made(name, old), build_model(of_family(SMALL | MODELS[name]), new.vocab_size)
    weights, carried = transfer_embeddings(model.state_dict(), old, new)
    load_weights(other, unshared(weights), "carried")
    places = same_tokens(old, new)
    assert carried == TransferredTokens(sum(place is not None for place in places), new.vocab_size)
    assert 20 < carried.shared < carried.total
    kept = [(id_, place) for id_, place in enumerate(places) if place is not None]
    after, before = zip(*kept, strict=True)
    matrices = [name for name in ("output_weight", "output_bias") if getattr(model, name, None) is not None]
    for matrix in matrices:
        assert torch.equal(getattr(other, matrix)[list(after)], getattr(model, matrix)[list(before)])
    for part in ("encoder_embedding", "decoder_embedding", "embedding"):
        if hasattr(model, part):
            rows, old_rows = (getattr(one, part).tokens.weight for one in (other, model))
            assert torch.equal(rows[list(after)], old_rows[list(before)])
    for path, tensor in model.state_dict().items():
        if tensor.dim() == 0 or tensor.size(0) != old.vocab_size:
            assert torch.equal(other.state_dict()[path], tensor), path


@pytest.mark.parametrize("new_kind", SIZES)
@pytest.mark.parametrize("old_kind", SIZES)
def test_pieces_are_the_same_across_kinds_when_they_stand_for_the_same(tokenizers, old_kind, new_kind):
    old, new = tokenizers[old_kind], tokenizers[new_kind]
    places = same_tokens(old, new)
    if old_kind == new_kind:
        assert places == list(range(old.vocab_size))
        return
    for role in ("pad", "unk", "bos", "eos", "cls", "sep", "mask"):
        assert places[getattr(new.special, role)] == getattr(old.special, role)
    assert [places[id_] for id_ in new.special.sentinels] == list(old.special.sentinels)
    in_common = set(words_of(old).values()) & set(words_of(new).values())
    if "chars" not in (old_kind, new_kind):
        assert in_common >= {"the"}
    ids, old_ids = ({word: id_ for id_, word in words_of(one).items()} for one in (new, old))
    for word in in_common:
        assert places[ids[word]] == old_ids[word], word
    special = new.special.all()
    assert all(place not in old.special.all() for id_, place in enumerate(places) if id_ not in special)


def test_new_rows_are_drawn_like_the_old_ones(tokenizers):
    old, new = theirs(), tokenizers["unigram"]
    torch.manual_seed(0)
    matrix = torch.randn(old.vocab_size, 500) * torch.tensor([[9.0], [2.0], [4.0]]) + 1.5
    weights, carried = transfer_embeddings({"decoder_embedding.tokens.weight": matrix}, old, new)
    rows = weights["decoder_embedding.tokens.weight"][20:]
    expected = matrix[1:]  # without the special one
    assert carried.shared < 9 and rows.size(1) == 500
    assert (rows.mean(0) - expected.mean(0)).abs().mean() < 0.2
    assert abs(float((rows.std(0) / expected.std(0, correction=0)).median()) - 1) < 0.05


def test_shared_matrices_stay_shared_and_halves_halves(tokenizers):
    old, new = tokenizers["unigram"], tokenizers["words"]
    model = made("tied", old).bfloat16()
    weights, _ = transfer_embeddings(model.state_dict(), old, new)
    names = [name for name in weights if name.endswith("tokens.weight") or "output_weight_owner" in name]
    assert len(names) == 3 and len({weights[name].data_ptr() for name in names}) == 1
    assert weights[names[0]].dtype == torch.bfloat16
    assert weights["output_bias"].shape == (new.vocab_size,)


def test_a_body_under_a_head_is_found(tokenizers):
    old, new = tokenizers["unigram"], tokenizers["words"]
    weights = {f"body.{name}": tensor for name, tensor in made("tied encoder", old).state_dict().items()}
    weights["head.output.weight"] = torch.ones(old.vocab_size, 8)  # as wide by chance
    carried, _ = transfer_embeddings(weights, old, new)
    assert carried["body.encoder_embedding.tokens.weight"].size(0) == new.vocab_size
    assert torch.equal(carried["head.output.weight"], weights["head.output.weight"])


def test_the_vocabulary_of_an_adaptive_softmax_is_not_exchanged_but_may_grow(tokenizers):
    old = theirs(words=[f"w{n}" for n in range(30)])
    settings = of_family(SMALL | MODELS["transformer-xl"] | {"adaptive_cutoffs": [10]})
    model = build_model(settings, old.vocab_size)
    with pytest.raises(NlpcliError, match="sorted by frequency"):
        transfer_embeddings(model.state_dict(), old, tokenizers["words"])
    weights, carried = transfer_embeddings(model.state_dict(), old, with_roles(old, ["sep"]))
    assert carried == TransferredTokens(31, 32) and weights["embedding.tokens.weight"].size(0) == 32


def test_weights_of_another_vocabulary_are_refused(tokenizers):
    with pytest.raises(NlpcliError, match=r"'encoder_embedding.tokens.weight' has 5 rows"):
        transfer_embeddings(
            {"encoder_embedding.tokens.weight": torch.ones(5, 2)}, tokenizers["chars"], tokenizers["words"]
        )


@pytest.mark.parametrize("unused", [0, 3])
def test_roles_that_are_lacking_get_ids_beyond_the_others(unused, tmp_path):
    old = theirs(unused=unused)
    new = with_roles(old, ["sep", "cls", "eos"])
    size = 3 + unused
    assert (new.special.sep, new.special.cls, new.special.eos) == (size, size + 1, 0)
    assert new.vocab_size == size + 2 and new.special.absent == ("pad", "unk", "mask")
    new.special.check("sep", "cls", "bos")
    assert new.encode(["dog <sep> cat <cls>"]) == [[1, 0, 2, 0]]
    assert new.decode([[1, new.special.sep, 2, new.special.cls]]) == ["dog cat"]
    assert new.id_to_piece(new.special.sep) == "<sep>" and new.piece_to_id("<cls>") == new.special.cls
    assert new.fingerprint != old.fingerprint
    new.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.fingerprint, again.special, again.vocab_size) == (new.fingerprint, new.special, new.vocab_size)
    assert again.encode(["dog <sep> cat"]) == new.encode(["dog <sep> cat"])


def test_a_tokenizer_that_has_the_roles_stays_the_same(tokenizers):
    for tokenizer in tokenizers.values():
        assert with_roles(tokenizer, ["sep", "cls"]) is tokenizer


@pytest.mark.parametrize("unused", [0, 3])
@pytest.mark.parametrize("name", ["decoder", "tied"])
def test_a_grown_vocabulary_leaves_every_row_in_its_place(name, unused):
    old = theirs(unused=unused)
    new = with_roles(old, ["cls", "sep"])
    weights, carried = transfer_embeddings(made(name, old).state_dict(), old, new)
    before = made(name, old).state_dict()
    assert carried == TransferredTokens(old.vocab_size, old.vocab_size + 2)
    for path in ("decoder_embedding.tokens.weight", "output_bias"):
        assert torch.equal(weights[path][: old.vocab_size], before[path])
        assert len(weights[path]) == new.vocab_size
    build_model(of_family(SMALL | MODELS[name]), new.vocab_size).load_state_dict(weights)


def vectors(words, width=4):
    rows = np.arange(len(words) * width, dtype=np.float32).reshape(len(words), width)
    return WordVectors({word: row for row, word in enumerate(words)}, rows, "v.txt")


@pytest.mark.parametrize("kind", [kind for kind in SIZES if kind != "chars"])
def test_words_that_are_pieces_get_their_vectors_and_the_others_stay(tokenizers, kind):
    tokenizer = tokenizers[kind]
    given = vectors(["the", "THE", "nowhere", "And", "dog", "<pad>"])
    weight = torch.full((tokenizer.vocab_size, 4), -1.0)
    parameter = torch.nn.Parameter(weight.clone())
    count = embed_from(given, tokenizer, parameter)
    expected = weight.clone()
    known = {word: id_ for id_, word in words_of(tokenizer).items()}
    rows = {"the": 0, "and": 3, "dog": 4}
    for word in rows.keys() & known.keys():
        expected[known[word]] = torch.from_numpy(given.matrix[rows[word]])
    assert torch.equal(parameter.detach(), expected)
    assert count == len(rows.keys() & known.keys()) and {"the", "and"} <= set(known)
    assert parameter.requires_grad


def test_characters_are_no_words(tokenizers):
    tokenizer = tokenizers["chars"]
    weight = torch.zeros(tokenizer.vocab_size, 4)
    assert embed_from(vectors(["a", "the"]), tokenizer, weight) == 0 and not weight.any()


def test_the_spelling_itself_comes_before_another_case_and_the_first_word_before_later_ones():
    tokenizer = theirs(words=("Dog", "dog", "CAT"))
    weight = torch.zeros(4, 4)
    given = vectors(["DOG", "dog", "Cat", "cat"])
    assert embed_from(given, tokenizer, weight) == 3
    assert torch.equal(weight[1:], torch.from_numpy(given.matrix[[0, 1, 2]]))


def test_only_words_with_a_use_are_wanted(tokenizers):
    wanted = wanted_by(tokenizers["words"])
    assert wanted("the") and wanted("THE") and not wanted("nowhere") and not wanted("<pad>")


def test_vectors_of_another_width_are_refused(tokenizers):
    with pytest.raises(NlpcliError, match=r"v\.txt: .* dimension 4, but the embeddings have dimension 8") as caught:
        embed_from(vectors(["the"]), tokenizers["words"], torch.zeros(9, 8))
    assert "model.d_model=4" in caught.value.hint
