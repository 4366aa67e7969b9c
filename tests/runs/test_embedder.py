"""Vectors of texts and words from every kind of model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_settings import of_family

from nlpcli.commands.embed import _finder, words_in
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.models.model_with_head import WithHead
from nlpcli.runs.embedder import Embedder, EmbedderSettings
from nlpcli.runs.init_from_model import open_initial_model
from nlpcli.text import train_tokenizer

TEXT = ["the plane landed", "planes aren't flat?", "", "dogs run", "the old plane " * 9]
SIZES = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 2, "decoder_layers": 2}
SHAPES = {
    "encoder": {"kind": "encoder", "positions": "learned", "max_length": 24, "segments": 2},
    "decoder": {"kind": "decoder"},
    "encoder-decoder": {"kind": "encoder-decoder"},
    "xlnet": {"kind": "encoder", "family": "xlnet"},
    "transformer-xl": {"kind": "decoder", "family": "transformer-xl"},
}


def write(path, shape="encoder", head=None, kind="bpe", **info):
    torch.manual_seed(1)
    tokenizer = train_tokenizer(kind, TEXT, vocab_size=60 if kind == "bpe" else None, byte_fallback=False, seed=1)
    config = of_family(SIZES | SHAPES[shape])
    model = build_model(config, tokenizer.vocab_size, head)
    info = {"task": "encoder", **info} | ({"head": head} if head else {})
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=info)
    return path


def open_embedder(path, **settings):
    return Embedder(EmbedderSettings(model=path, device="cpu", **settings), notify=lambda text: None)


@pytest.fixture(params=list(SHAPES))
def shape(request):
    return request.param


def states_alone(embedder, text):
    """The states of one text, read by itself."""
    row = embedder._row(embedder.tokenizer.encode([text])[0])
    ((_, states, _),) = embedder._states([row])
    return states[0].numpy()


@pytest.mark.parametrize("pooling", ["mean", "first", "last", "max"])
def test_a_vector_does_not_depend_on_the_batch_it_is_made_in(tmp_path, shape, pooling):
    embedder = open_embedder(write(tmp_path / "m", shape), pooling=pooling, batch_tokens=40)
    found = embedder.vectors(TEXT)
    assert found.shape == (5, 16) and found.dtype == np.float32 and np.isfinite(found).all()
    for text, vector in zip(TEXT, found, strict=True):
        states = states_alone(embedder, text)
        pool = {"mean": states.mean(0), "first": states[0], "last": states[-1], "max": states.max(0)}
        np.testing.assert_allclose(vector, pool[pooling], atol=2e-5)


def test_normalized_vectors_have_the_length_one(tmp_path):
    path = write(tmp_path / "m")
    plain, unit = open_embedder(path).vectors(TEXT), open_embedder(path, normalize=True).vectors(TEXT)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder"])
def test_layers_are_concatenated_or_averaged(tmp_path, kind):
    path = write(tmp_path / "m", kind)
    both = open_embedder(path, layers="concat:2").vectors(TEXT)
    last, mean = open_embedder(path).vectors(TEXT), open_embedder(path, layers="mean:2").vectors(TEXT)
    assert both.shape == (5, 32)
    np.testing.assert_allclose(both[:, 16:], last, atol=1e-5)
    np.testing.assert_allclose((both[:, :16] + both[:, 16:]) / 2, mean, atol=1e-5)


def test_a_model_of_similarity_makes_the_vectors_it_was_trained_to_make(tmp_path):
    head = {"kind": "vector", "pooling": "max", "normalize": True, "layers": "mean:2"}
    embedder = open_embedder(write(tmp_path / "m", head=head, problem={}, max_length=12))
    assert isinstance(embedder.model, WithHead) and embedder.max_length == 12
    assert (embedder.pooling, embedder.normalize, embedder.layers) == ("max", True, "mean:2")
    other = open_embedder(tmp_path / "m", pooling="first", normalize=False, layers="last")
    assert (other.pooling, other.normalize, other.width) == ("first", False, 16)


def test_any_other_head_is_left_out(tmp_path):
    plain = open_embedder(write(tmp_path / "a")).vectors(TEXT)
    headed = write(tmp_path / "b", head={"kind": "text", "outputs": 2, "pooling": "first", "dense": True})
    np.testing.assert_array_equal(open_embedder(headed).vectors(TEXT), plain)


def test_a_run_remembers_how_vectors_were_made_by_what_it_began_with(tmp_path):
    trained = write(tmp_path / "a", head={"kind": "vector", "pooling": "max"}, problem={})
    assert open_initial_model(str(trained)).info["pooling"] == "max"
    assert open_embedder(write(tmp_path / "b", pooling="last")).pooling == "last"
    assert "pooling" not in open_initial_model(str(write(tmp_path / "c"))).info


def test_long_texts_are_cut_and_counted(tmp_path):
    embedder = open_embedder(write(tmp_path / "m"))
    assert embedder.max_length == 24
    embedder.vectors(TEXT)
    assert embedder.cut == 1
    assert open_embedder(tmp_path / "m", max_length=5).max_length == 5
    with pytest.raises(NlpcliError, match="larger than the model's maximum of 24 tokens"):
        open_embedder(tmp_path / "m", max_length=25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"pooling": "men"}, "unknown pooling 'men'"), ({"layers": "concat"}, "--layers does not support the value"),
     ({"layers": "weighted"}, "--layers does not support the value 'weighted'"),
     ({"layers": "mean:x"}, "--layers does not support the value")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(NlpcliError, match=message):
        EmbedderSettings(**settings)


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bpe", "chars"])
def test_the_vector_of_a_word_is_the_mean_of_its_pieces_states(tmp_path, shape, kind):
    embedder = open_embedder(write(tmp_path / "m", shape, kind=kind), batch_tokens=30)
    found = embedder.word_vectors(TEXT[:4], words_in)
    first = embedder.word_vectors(TEXT[:4], words_in, how="first")
    table = next(parameter for name, parameter in embedder.model.body.named_parameters() if "tokens.weight" in name)
    for text, words, firsts in zip(TEXT[:4], found, first, strict=True):
        ids, spans = (part[0] for part in embedder.tokenizer.encode_with_offsets([text]))
        states = states_alone(embedder, text)
        assert [text[slice(*word.span)] for word in words] == [text[slice(*span)] for span in words_in(text)]
        for word, alone in zip(words, firsts, strict=True):
            pieces = [i for i, (a, b) in enumerate(spans) if a < word.span[1] and b > word.span[0]]
            places = [i + embedder.layout.first() for i in pieces]
            np.testing.assert_allclose(word.vector, states[places].mean(0), atol=2e-5)
            np.testing.assert_allclose(alone.vector, states[places[0]], atol=2e-5)
            static = table[[ids[i] for i in pieces]].detach().numpy().mean(0)
            np.testing.assert_allclose(word.static, static, atol=1e-6)


def test_words_beyond_the_longest_text_have_no_vector(tmp_path):
    embedder = open_embedder(write(tmp_path / "m"), max_length=6)
    words = embedder.word_vectors([TEXT[4]], words_in)[0]
    assert 0 < len(words) < 27 and embedder.cut == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Isn't it well-known?", ["Isn't", "it", "well-known", "?"]),
        ("飞机 lands，OK", ["飞", "机", "lands", "，", "OK"]),
        ("  ", []),
        ("naïve “quote” 3.5", ["naïve", "“", "quote", "”", "3", ".", "5"]),
    ],
)
def test_words_are_runs_of_letters_signs_and_single_ideographs(text, words):
    assert [text[slice(*span)] for span in words_in(text)] == words


@pytest.mark.parametrize(
    ("wanted", "text", "found"),
    [
        (["plane"], "Plane, airplane planes plane.", ["Plane", "plane"]),
        (["new york", "york"], "In New  York and York", ["New  York", "York"]),
        (["飞机"], "大飞机场", ["飞机"]),
        (["c++"], "c++ and c", ["c++"]),
    ],
)
def test_wanted_words_are_found_whole_and_in_any_case(wanted, text, found):
    assert [text[slice(*span)] for span in _finder(wanted)(text)] == found
