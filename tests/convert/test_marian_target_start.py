"""Marian folders begin targets with `<pad>`, the last token, whose vector is zero, and compute the same."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

from nlpcli.config.model_settings import ModelConfig
from nlpcli.convert.folder_files import ORIGINAL_WEIGHTS
from nlpcli.convert.huggingface_in import read_huggingface
from nlpcli.convert.huggingface_out import write_huggingface
from nlpcli.convert.marian_target_start import ZeroStart
from nlpcli.decoding.beam import BeamSettings, beam_search
from nlpcli.decoding.constraints import Constraints
from nlpcli.decoding.length_penalty import Ranking
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_weights, unshared
from nlpcli.text import train_tokenizer

KINDS = {"unigram": 360, "bpe": 360, "wordpiece": 250, "byte-bpe": 300, "chars": 300, "words": 60}


@pytest.fixture
def folder(write, tmp_path):
    """Our model and the folder it was written to."""
    path = tmp_path / "marian"
    path.mkdir()
    return write("transformer", path, task="translation")[0], path


def described(path, name="config.json"):
    return json.loads((path / name).read_text())


def save_elsewhere(theirs, path, to):
    """What `save_pretrained` makes of it, with the tokenizer's files."""
    theirs.save_pretrained(to)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(path / name, to / name)


@torch.inference_mode()
def test_the_start_is_the_last_token_and_its_vector_zero(folder, tokenizer):
    _, path = folder
    theirs = transformers.MarianMTModel.from_pretrained(path)
    last = tokenizer.vocab_size
    assert theirs.config.pad_token_id == theirs.config.decoder_start_token_id == last
    assert theirs.generation_config.pad_token_id == theirs.generation_config.decoder_start_token_id == last
    assert not theirs.model.shared.weight[[last, tokenizer.special.bos]].any()
    assert transformers.AutoTokenizer.from_pretrained(path).convert_ids_to_tokens([last]) == ["<pad>"]


@pytest.mark.parametrize("beams", [1, 4])
@torch.inference_mode()
def test_generate_of_transformers_writes_what_ours_writes(folder, tokenizer, beams):
    ours, path = folder
    special = tokenizer.special
    theirs = transformers.MarianMTModel.from_pretrained(path).eval()
    encode = transformers.AutoTokenizer.from_pretrained(path)
    texts = ["Two men", "the dogs sit", "a"]
    batch = encode(texts, return_tensors="pt", padding=True)
    found = theirs.generate(**batch, num_beams=beams, max_new_tokens=9, length_penalty=1.0, early_stopping=True)
    assert found[:, 0].tolist() == [tokenizer.vocab_size] * 3
    settings = BeamSettings(
        beam_size=beams,
        ranking=Ranking(1.0, normalization="average"),
        constraints=Constraints(suppress=tuple(special.all() - {special.eos})),
    )
    for row, ids in zip(found.tolist(), tokenizer.encode(texts), strict=True):
        state = ours.init_state(ours.encode(torch.tensor([[*ids, special.eos]]), None))
        [[best]] = beam_search(ours, state, [[special.bos]], settings=settings, eos=special.eos, max_length=9)
        assert list(best.ids) == [id_ for id_ in row[1:] if id_ not in (special.eos, tokenizer.vocab_size)]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_stay_and_pad_comes_last_with_every_tokenizer(settings, same_weights, training_lines, tmp_path, kind):
    ours_tokenizer = train_tokenizer(kind, training_lines, vocab_size=KINDS[kind])
    size = ours_tokenizer.vocab_size
    torch.manual_seed(5)
    whole = ModelConfig.model_validate(settings("marian"))
    model = build_model(whole, size)
    write_huggingface(
        tmp_path, config=whole.model_dump(), weights=model.state_dict(), tokenizer=ours_tokenizer, info={"task": "x"}
    )
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pieces = sorted(loaded.get_vocab().items(), key=lambda item: item[1])
    assert [id_ for _, id_ in pieces] == list(range(size + 1))
    assert pieces[-1] == ("<pad>", size) and loaded.pad_token_id == size
    texts = ["Two young men", "the dogs are standing in a kitchen"]
    assert loaded(texts, add_special_tokens=False).input_ids == ours_tokenizer.encode(texts)
    found = read_huggingface(tmp_path)
    assert same_weights(found.weights, model)
    assert found.tokenizer.encode(texts) == ours_tokenizer.encode(texts)
    assert found.tokenizer.special.names.items() >= {0: "<pad>", 2: "<bos>"}.items()
    assert (found.tokenizer.special.pad, found.tokenizer.special.bos) == (0, 2)


def test_a_folder_saved_by_transformers_computes_the_same(folder, tokenizer, tmp_path):
    ours, path = folder
    save_elsewhere(transformers.MarianMTModel.from_pretrained(path), path, tmp_path / "again")
    assert not (tmp_path / "again" / ORIGINAL_WEIGHTS).exists()
    found = read_huggingface(tmp_path / "again")
    special = found.tokenizer.special
    assert special.bos == special.pad == tokenizer.vocab_size
    model = build_model(found.config, found.tokenizer.vocab_size).eval()
    load_weights(model, found.weights, "again")
    source, target = torch.tensor([[20, 30, 40, 3]]), [50, 60, 70]
    with torch.inference_mode():
        theirs = model(source, None, torch.tensor([[special.bos, *target]])).log_softmax(-1)
        expected = ours(source, None, torch.tensor([[tokenizer.special.bos, *target]])).log_softmax(-1)
    assert torch.allclose(theirs[..., :-1], expected, atol=1e-4)


def test_a_folder_that_was_trained_elsewhere_is_not_undone(folder, tokenizer, tmp_path):
    _, path = folder
    theirs = transformers.MarianMTModel.from_pretrained(path)
    with torch.no_grad():
        theirs.model.shared.weight[50] += 1
    save_elsewhere(theirs, path, tmp_path / "again")
    shutil.copy(path / ORIGINAL_WEIGHTS, tmp_path / "again" / ORIGINAL_WEIGHTS)
    found = read_huggingface(tmp_path / "again")
    assert torch.equal(found.weights["encoder_embedding.tokens.weight"], theirs.model.shared.weight)


def test_decoding_settings_changed_in_the_folder_count_and_name_our_ids(folder, tokenizer):
    _, path = folder
    changed = described(path, "generation_config.json") | {"num_beams": 7}
    (path / "generation_config.json").write_text(json.dumps(changed))
    generation = read_huggingface(path).info.get("generation")
    special = tokenizer.special
    assert generation["num_beams"] == 7
    assert (generation["pad_token_id"], generation["decoder_start_token_id"]) == (special.pad, special.bos)
    assert max(generation["suppress_tokens"]) < tokenizer.vocab_size


def test_a_folder_as_published_is_written_as_it_is(folder, tmp_path):
    """Pad is last and zero already: nothing moves and no token is added."""
    _, path = folder
    save_elsewhere(transformers.MarianMTModel.from_pretrained(path), path, tmp_path / "published")
    config = described(tmp_path / "published")
    config.pop("nlpcli", None)
    (tmp_path / "published" / "config.json").write_text(json.dumps(config))
    found = read_huggingface(tmp_path / "published")
    (tmp_path / "again").mkdir()
    write_huggingface(
        tmp_path / "again", config=found.config, weights=found.weights, tokenizer=found.tokenizer, info=found.info
    )
    assert not (tmp_path / "again" / ORIGINAL_WEIGHTS).exists()
    for name in ("vocab_size", "pad_token_id", "decoder_start_token_id", "eos_token_id"):
        assert described(tmp_path / "again")[name] == config[name]


def test_a_last_pad_whose_vector_was_trained_becomes_zero_and_comes_back(folder, tmp_path):
    _, path = folder
    save_elsewhere(transformers.MarianMTModel.from_pretrained(path), path, tmp_path / "published")
    found = read_huggingface(tmp_path / "published")
    weights = found.weights | {
        "encoder_embedding.tokens.weight": found.weights["encoder_embedding.tokens.weight"] + torch.linspace(-1, 1, 16)
    }
    out = tmp_path / "again"
    out.mkdir()
    write_huggingface(out, config=found.config, weights=weights, tokenizer=found.tokenizer, info=found.info)
    theirs = transformers.MarianMTModel.from_pretrained(out)
    assert theirs.config.vocab_size == found.tokenizer.vocab_size
    assert not theirs.model.shared.weight[-1].any()
    again = read_huggingface(out).weights
    assert all(torch.equal(again[name], unshared(weights)[name]) for name in again)


@pytest.mark.parametrize(
    "record", [None, 5, {}, {"start": 2}, {"start": -1, "row": 3, "renamed": 0, "ids": {}, "tokens": {}},
             {"start": 2, "row": "x", "renamed": 0, "ids": {}, "tokens": {}},
             {"start": 2, "row": 3, "renamed": 0, "ids": {"pad_token_id": "x"}, "tokens": {}},
             {"start": 2, "row": 3, "renamed": 0, "ids": [], "tokens": {}},
             {"start": 2, "row": 3, "renamed": 0, "ids": {}, "tokens": {"pad": 5}},
             {"start": 10**9, "row": 300, "renamed": 0, "ids": {}, "tokens": {}}],
)  # fmt: skip
def test_a_record_that_is_not_ours_is_passed_over(folder, tokenizer, record):
    _, path = folder
    config = described(path)
    config["nlpcli"]["zero_start"] = record
    (path / "config.json").write_text(json.dumps(config))
    assert read_huggingface(path).tokenizer.vocab_size == tokenizer.vocab_size + 1
    assert ZeroStart.read(record) is None or record["start"] > 300
