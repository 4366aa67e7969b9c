"""Links between the words of two files, out of models that were never trained."""

from __future__ import annotations

import io
import sys

import pytest
import torch

from nlpcli.commands.visualize_attention import word_alignment
from nlpcli.commands.visualize_attention.word_alignment import METHODS, AlignmentRequest, align, parse_layer
from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.decoding.aligner import Aligner, Pair, WeightSelector
from nlpcli.decoding.alignment_symmetrization import (
    agreed,
    agreement,
    links_of_sources,
    links_of_targets,
    symmetrised,
    turned,
)
from nlpcli.decoding.cross_attention import forced_weights, pharaoh, word_weights
from nlpcli.errors import NlpcliError
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_model, save_model
from nlpcli.text import train_tokenizer

GERMAN = ["ein mann läuft", "", "die frau  steht auf dem haus", "hund", "ein kind und ein hund", "   ", "a"]
ENGLISH = ["a man runs", "", "the woman stands on the house", "the dog", "a child and\u00a0a dog", "no", "b b"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("chars", [*GERMAN, *ENGLISH], vocab_size=None, byte_fallback=False, seed=1)


def write(path, tokenizer, seed, layers):
    """A model that listens to its source as sharply as a trained one."""
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": layers, "max_length": 64}
    config = TransformerConfig(kind="encoder-decoder", positions="learned", **sizes)
    model = build_model(config, tokenizer.vocab_size)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("cross_attention.query.weight"):
                weight.mul_(6)
    save_model(path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info={"task": "translation"})
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("models")
    return write(folder / "deen", tokenizer, 1, 3), write(folder / "ende", tokenizer, 2, 2)


@pytest.fixture
def files(tmp_path):
    for name, lines in (("de", GERMAN), ("en", ENGLISH)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(tmp_path / "de"), str(tmp_path / "en")


def aligned(files, **options):
    messages = []
    job = AlignmentRequest(target=files[1], sources=(files[0],), device="cpu", **options)
    lines = [line for portion in align(job, notify=messages.append, warn=messages.append) for line in portion]
    return lines, messages


def pairs(line):
    return frozenset((int(i), int(j)) for i, j in (link.split("-") for link in line.split()))


def test_each_pair_has_a_line_and_a_blank_one_has_no_links(models, files):
    lines, messages = aligned(files, model=models[0])
    assert messages == [] and [bool(line) for line in lines] == [True, False, True, True, True, False, True]
    for line, source, target in zip(lines, GERMAN, ENGLISH, strict=True):
        links = pairs(line)
        assert len({j for _, j in links}) == len(links) == (len(target.split()) if source.split() else 0)
        assert all(0 <= i < len(source.split()) and 0 <= j < len(target.split()) for i, j in links)


@pytest.mark.parametrize("options", [{"layer": 1}, {"layer": 3, "step": "read"}, {}])
def test_links_are_those_of_each_pair_alone(models, files, tokenizer, options):
    lines, _ = aligned(files, model=models[0], **options)
    model = load_model(models[0], "cpu").model
    for line, source, target in zip(lines, GERMAN, ENGLISH, strict=True):
        if not source.strip() or not target.strip():
            continue
        ids, goal = tokenizer.encode([source, target])
        read = torch.tensor([[*ids, tokenizer.special.eos]])
        [weights] = forced_weights(
            model, read, torch.ones_like(read) > 0, [goal], start=[tokenizer.special.bos], layers=[options.get("layer")]
        )
        words = [torch.tensor([words_of(text)]) for text in (source, target)]
        words[0] = torch.cat([words[0], torch.tensor([[-1]])], dim=1)
        looked = word_weights(weights, *words, step=options.get("step", "predict"))
        assert line == pharaoh(sorted(links_of_targets(looked[0].numpy())))


def words_of(text):
    """The word of each piece of a line whose pieces are its characters."""
    numbers, word = [], -1
    for before, char in zip(" " + text, text, strict=False):
        word += before.isspace() and not char.isspace()
        numbers.append(-1 if char.isspace() else word)
    return numbers


@pytest.mark.parametrize("options", [{}, {"gradient": True}, {"gradient": True, "method": "grow-diag"}])
def test_batches_and_windows_change_nothing(models, files, monkeypatch, options):
    lines, _ = aligned(files, model=models[0], **options)
    assert aligned(files, model=models[0], batch_tokens=1, **options)[0] == lines
    monkeypatch.setattr(word_alignment, "WINDOW", 2)
    assert aligned(files, model=models[0], **options)[0] == lines


def test_gradient_and_attention_are_not_the_same(models, files):
    assert aligned(files, model=models[0])[0] != aligned(files, model=models[0], gradient=True)[0]
    alone = [aligned(files, model=models[0], gradient=True, layer=layer)[0] for layer in (1, 2, 3)]
    assert len({tuple(lines) for lines in alone}) > 1


@pytest.mark.parametrize("method", METHODS)
def test_two_models_are_combined_by_the_product_of_their_shares(models, files, tokenizer, method):
    both, _ = aligned(files, model=models[0], reverse=models[1], method=method)
    deen, ende = (Aligner(load_model(path, "cpu").model, tokenizer) for path in models)
    texts = [Pair(source, target) for source, target in zip(GERMAN, ENGLISH, strict=True)]
    back = [Pair(pair.target, pair.source) for pair in texts]
    for some, others, line in zip(
        deen.shares(texts, [WeightSelector()])[0], ende.shares(back, [WeightSelector()])[0], both, strict=True
    ):
        weights = agreed(some, others.T)
        links = links_of_targets(weights)
        assert pairs(line) == (links if method == "argmax" else symmetrised(links, links_of_sources(weights), method))
    if method == word_alignment.DEFAULT_METHOD:
        assert aligned(files, model=models[0], reverse=models[1])[0] == both


def test_one_model_alone_is_combined_with_the_best_target_word_of_each_source_word(models, files):
    forward, _ = aligned(files, model=models[0])
    both, _ = aligned(files, model=models[0], method="intersection")
    union, _ = aligned(files, model=models[0], method="union")
    for some, line, all_links, source in zip(forward, both, union, GERMAN, strict=True):
        assert pairs(line) <= pairs(some) <= pairs(all_links)
        assert len({i for i, _ in pairs(line)}) == len(pairs(line)), "a source word has one best target word"
        if some:
            assert {i for i, _ in pairs(all_links)} == set(range(len(source.split())))


def test_layers_are_those_of_which_the_two_directions_agree_best(models, files):
    chosen, messages = aligned(files, model=models[0], reverse=models[1], layer="auto", method="intersection")
    forward = [[pairs(line) for line in aligned(files, model=models[0], layer=n)[0]] for n in (1, 2, 3)]
    backward = [[turned(pairs(line)) for line in aligned(files[::-1], model=models[1], layer=n)[0]] for n in (1, 2)]
    values = {(i, j): agreement(forward[i], backward[j]) for i in range(3) for j in range(2)}
    i, j = max(values, key=values.get)
    assert chosen == aligned(files, model=models[0], reverse=models[1], layer=(i + 1, j + 1), method="intersection")[0]
    assert len(messages) == 1 and messages[0].startswith(
        f"layers: {i + 1} of the model and {j + 1} of the reverse model"
    )


def test_either_side_may_be_standard_input_and_sources_follow_one_another(models, files, tmp_path, monkeypatch):
    lines, _ = aligned(files, model=models[0])
    for side, text in ((0, GERMAN), (1, ENGLISH)):
        data = "".join(f"{line}\n" for line in text).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert aligned([*files[:side], "-", *files[side + 1 :]], model=models[0])[0] == lines
    (tmp_path / "first").write_text("\n".join(GERMAN[:3]) + "\n")
    (tmp_path / "rest").write_text("\n".join(GERMAN[3:]) + "\n")
    job = AlignmentRequest(files[1], (str(tmp_path / "first"), str(tmp_path / "rest")), models[0], device="cpu")
    assert [line for portion in align(job, notify=print, warn=print) for line in portion] == lines


def test_lines_before_an_error_are_given(models, files, tmp_path):
    (tmp_path / "short").write_text("a man runs\n\n")
    job = AlignmentRequest(str(tmp_path / "short"), (files[0],), models[0], device="cpu")
    portions = align(job, notify=print, warn=print)
    assert len(next(portions)) == 2
    with pytest.raises(NlpcliError, match=r"de:3: .*short has only 2 lines"):
        next(portions)
    (tmp_path / "long").write_text("a\n" * 9)
    with pytest.raises(NlpcliError, match=r"long has more lines than the source, which has 7 lines"):
        aligned([files[0], str(tmp_path / "long")], model=models[0])


def test_what_is_longer_than_the_model_is_cut_and_reported(models, tmp_path):
    (tmp_path / "de").write_text("ein mann " * 10 + "\nein hund\n")
    (tmp_path / "en").write_text("a man\n" + "a dog " * 20 + "\n")
    lines, messages = aligned((str(tmp_path / "de"), str(tmp_path / "en")), model=models[0])
    assert all(warning.endswith("the model's maximum length") for warning in messages)
    assert [warning.split(" has ")[0].rsplit("/", 1)[-1] for warning in messages] == [
        "de:1: the source",
        "de:2: the target",
    ]
    assert all(i <= 14 for i, _ in pairs(lines[0])) and max(j for _, j in pairs(lines[1])) < 25


def test_no_lines_are_no_links(models, tmp_path):
    for name in ("de", "en"):
        (tmp_path / name).write_text("")
    empty = (str(tmp_path / "de"), str(tmp_path / "en"))
    assert aligned(empty, model=models[0])[0] == []
    assert aligned(empty, model=models[0], reverse=models[1], layer="auto")[0] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "best"}, "unknown alignment method 'best'"),
        ({"step": "write"}, "unknown step 'write'"),
        ({"layer": "auto"}, "--layer auto needs a reverse model"),
        ({"layer": (1, 2)}, "the second layer"),
        ({"gradient": True, "step": "read"}, "--gradient works only with --step predict, not read"),
        ({"target": "-"}, "only once"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(options, words):
    with pytest.raises(NlpcliError, match=words):
        AlignmentRequest(**{"target": "x", **options})


def test_a_missing_file_and_a_missing_layer_are_refused(models, files):
    with pytest.raises(NlpcliError, match="nowhere"):
        aligned([files[0], "nowhere"], model=models[0])
    with pytest.raises(NlpcliError, match="no decoder layer 9"):
        aligned(files, model=models[0], layer=9)


def test_a_layer_is_a_number_two_or_auto():
    assert [parse_layer(text) for text in (None, "auto", "3", "3,2")] == [None, "auto", 3, (3, 2)]
    for text in ("", "three", "1,2,3", "-1", "1-2"):
        with pytest.raises(NlpcliError, match="is not a layer"):
            parse_layer(text)
