"""Files of word vectors as models, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nlpcli.commands.convert import Conversion, convert
from nlpcli.commands.embed import words_in
from nlpcli.convert.word2vec_text import read_vectors_model, write_token_vectors
from nlpcli.data.word_vectors import read_word_vectors
from nlpcli.errors import NlpcliError
from nlpcli.runs.open_model import open_model
from nlpcli.text import TOKENIZERS, load_tokenizer, train_tokenizer

LINES = {"the": [1, 2, 3], "don't": [0.5, 0.25, 1], "well-known": [1, 1, 1], "北": [3, 2, 1], "<unk>": [9, 9, 9],
         ".": [0, 1, 0], "naïve": [0, 0, 1]}  # fmt: skip


def written(path, lines=LINES):
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in lines.items()), "utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "vectors.txt")


def spelled(tokenizer, text):
    return [tokenizer.id_to_piece(id_) for id_ in tokenizer.encode([text])[0]]


def test_words_are_found_with_what_joins_them_and_signs_stand_alone(file):
    tokenizer = read_vectors_model(file).tokenizer
    found = spelled(tokenizer, "The don't, well-known 北京 naïve.")
    assert found == ["the", "don't", "<unk>", "well-known", "北", "<unk>", "naïve", "."]
    text = "It's «2nd» e\u0301t\u0301e 東京 snake_case 3.5"
    ids, spans = (part[0] for part in tokenizer.encode_with_offsets([text]))
    assert spans == words_in(text) and len(ids) == len(spans)


def test_capitals_count_where_the_file_has_some(tmp_path):
    cased = read_vectors_model(written(tmp_path / "cased.txt", {"The": [1], "the": [2], "dog": [3]})).tokenizer
    assert spelled(cased, "The the Dog") == ["The", "the", "<unk>"]


def test_a_model_has_the_vectors_of_the_file_and_frequencies_by_its_order(file):
    loaded = open_model(file)
    weight, vectors = loaded.model.token_embedding.weight, read_word_vectors(file)
    first = len(loaded.tokenizer.special.all())
    assert not weight[:first].any()
    words = [word for word in LINES if word != "<unk>"]
    for place, word in enumerate(words):
        np.testing.assert_array_equal(weight[first + place].detach().numpy(), vectors[word])
    shares = loaded.model.token_frequencies[first:]
    torch.testing.assert_close(shares * torch.arange(1, len(words) + 1), shares[0].expand(len(words)))
    assert shares.sum() == pytest.approx(1.0) and not loaded.model.token_frequencies[:first].any()


def test_a_file_becomes_a_folder_and_the_folder_a_file_again(file, tmp_path):
    done = convert(Conversion(file, tmp_path / "model"))
    assert (done.form, done.vocab_size, done.parameters) == ("nlpcli", 13, 39)
    assert load_tokenizer(tmp_path / "model" / "tokenizer").settings.lowercase
    convert(Conversion(tmp_path / "model", tmp_path / "again.txt", to="word2vec"))
    again, first = read_word_vectors(tmp_path / "again.txt"), read_word_vectors(file, lambda word: word != "<unk>")
    assert (tmp_path / "again.txt").read_text("utf-8").startswith("6 3\n")
    assert list(again.places) == list(first.places)
    np.testing.assert_array_equal(again.matrix, first.matrix)


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "words"])
def test_tokens_that_are_words_are_written_with_their_vectors(tmp_path, kind):
    text = ["the cat sat on the mat", "a dog runs home", "cats and dogs", "the dog sat"] * 5
    tokenizer = train_tokenizer(kind, text, vocab_size={"unigram": 282, "wordpiece": 50}.get(kind))
    word = "dog"  # every one of these tokenizers has it whole
    weight = torch.randn(tokenizer.vocab_size, 4)
    count = write_token_vectors(tmp_path / "v.txt", weight, tokenizer)
    vectors = read_word_vectors(tmp_path / "v.txt")
    assert len(vectors) == count and word in vectors and not any(one.startswith(("##", "▁")) for one in vectors.places)
    (ids,) = tokenizer.encode([word])
    np.testing.assert_array_equal(vectors[word], weight[ids[0]].numpy())


def test_a_tokenizer_of_characters_has_no_words(tmp_path):
    assert "chars" in TOKENIZERS
    tokenizer = train_tokenizer("chars", ["abc"])
    with pytest.raises(NlpcliError, match=r"no token of this model's tokenizer \(chars\) begins a word"):
        write_token_vectors(tmp_path / "v.txt", torch.zeros(tokenizer.vocab_size, 2), tokenizer)


def test_files_that_are_in_the_way_are_kept(file, tmp_path):
    convert(Conversion(file, tmp_path / "model"))
    (tmp_path / "there.txt").write_text("mine")
    with pytest.raises(NlpcliError, match="already exists"):
        convert(Conversion(tmp_path / "model", tmp_path / "there.txt", to="word2vec"))
    with pytest.raises(NlpcliError, match="is a folder, but the vectors are written to a file"):
        convert(Conversion(tmp_path / "model", tmp_path, to="word2vec"))
    convert(Conversion(tmp_path / "model", tmp_path / "there.txt", to="word2vec", overwrite=True))
    assert "don't" in read_word_vectors(tmp_path / "there.txt")


def test_what_is_no_file_of_vectors_is_refused_with_its_line(tmp_path):
    (tmp_path / "text.txt").write_text("This is a text.\n")
    with pytest.raises(NlpcliError, match=r"text.txt:1: there are no numbers after the word"):
        open_model(tmp_path / "text.txt")
