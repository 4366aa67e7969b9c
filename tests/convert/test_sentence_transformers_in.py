from __future__ import annotations

import json

import pytest

from nlpcli.convert.sentence_transformers_in import SentenceSettings, pooling_of, sentence_settings
from nlpcli.errors import NlpcliError

OLD = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules.pooling."


def write(folder, pooling, *more, names=OLD, **files):
    modules = [{"idx": 0, "path": "", "type": OLD + "Transformer"}]
    modules += [
        {"path": "1_Pooling", "type": f"{names}Pooling"},
        *({"path": name, "type": OLD + name} for name in more),
    ]
    (folder / "1_Pooling").mkdir()
    contents = {"modules.json": modules, "1_Pooling/config.json": pooling}
    contents |= {f"{name}.json": content for name, content in files.items()}
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("mode", "ours"), [("mean_tokens", "mean"), ("cls_token", "first"), ("max_tokens", "max"), ("lasttoken", "last")]
)
def test_a_pooling_is_read_in_either_spelling(tmp_path, mode, ours):
    modes = {f"pooling_mode_{name}": name == mode for name in ("mean_tokens", "cls_token", "max_tokens", "lasttoken")}
    (tmp_path / "old").mkdir()
    assert pooling_of(write(tmp_path / "old", {"word_embedding_dimension": 8, **modes})) == ours
    (tmp_path / "new").mkdir()
    new = {"pooling_mode": mode.removesuffix("_tokens").removesuffix("_token")}
    assert pooling_of(write(tmp_path / "new", new, names=NEW)) == ours


def test_length_and_normalization_stand_in_their_own_files(tmp_path):
    folder = write(tmp_path, {"pooling_mode": "mean"}, "Normalize", sentence_bert_config={"max_seq_length": 128})
    assert sentence_settings(folder) == SentenceSettings("mean", True, 128)
    assert sentence_settings(folder, "max") == SentenceSettings("max", False, 128)


def test_a_tokenizer_without_limit_is_none(tmp_path):
    folder = write(tmp_path, {"pooling_mode": "mean"}, tokenizer_config={"model_max_length": int(1e30)})
    assert sentence_settings(folder).max_length is None


def test_any_other_folder_says_nothing(tmp_path):
    assert sentence_settings(tmp_path) == SentenceSettings()
    assert pooling_of(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("pooling", "more", "message"),
    [
        ({"pooling_mode": ["cls", "mean"]}, [], "'cls and mean' is not supported"),
        ({"pooling_mode_weightedmean_tokens": True}, [], "'weightedmean' is not supported"),
        ({}, [], "the pooling is missing"),
        ({"pooling_mode": "mean"}, ["Dense"], "module Dense is not supported"),
    ],
)
def test_what_would_give_other_vectors_is_refused_unless_a_pooling_is_named(tmp_path, pooling, more, message):
    folder = write(tmp_path, pooling, *more)
    with pytest.raises(NlpcliError, match=message):
        sentence_settings(folder)
    assert sentence_settings(folder, "mean").pooling == "mean"


def test_broken_files_are_named(tmp_path):
    (tmp_path / "modules.json").write_text("{", "utf-8")
    with pytest.raises(NlpcliError, match=r"modules\.json can't be read"):
        sentence_settings(tmp_path)
    for outside in ("../1_Pooling", "/1_Pooling", "..", 7):
        modules = [{"path": outside, "type": OLD + "Pooling"}]
        (tmp_path / "modules.json").write_text(json.dumps(modules), "utf-8")
        with pytest.raises(NlpcliError, match=r"modules\.json: .* can't be the name of a file or folder"):
            sentence_settings(tmp_path)
    (tmp_path / "modules.json").write_text("{}", "utf-8")
    with pytest.raises(NlpcliError, match=r"modules\.json is not a list"):
        sentence_settings(tmp_path)
