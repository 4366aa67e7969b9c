"""Language models whose tokenizer begins every text with a token, as Llama's does: each command reads it, too."""

from __future__ import annotations

import json

import pytest
import torch

from nlpcli.models.directory import load_model
from nlpcli.recipes.convert import Conversion, convert
from nlpcli.recipes.generate import Generating, Generator, beginning
from nlpcli.recipes.models import open_model
from nlpcli.recipes.prompting_layout import DecoderLayout

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

WORDS = [f"w{i}" for i in range(3, 40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=40, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(4)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.3 + (weight.ndim == 1))
    model.save_pretrained(folder)
    core = {
        "added_tokens": [
            {"id": id_, "content": name, "special": True, **dict.fromkeys(("single_word", "lstrip", "rstrip"), False),
             "normalized": False}
            for id_, name in enumerate(["<unk>", "<s>", "</s>"])
        ],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None, "truncation": None,
        "padding": None, "version": "1.0",
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "model": {"type": "WordLevel", "unk_token": "<unk>",
                  "vocab": {name: id_ for id_, name in enumerate(["<unk>", "<s>", "</s>", *WORDS])}},
    }  # fmt: skip
    core["model"]["vocab"].setdefault("the", 3)
    del core["model"]["vocab"]["w3"]
    (folder / "tokenizer.json").write_text(json.dumps(core))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names, "model_max_length": 64})
    )
    return folder


@pytest.mark.parametrize("converted", [False, True])
def test_continuations_are_those_of_transformers(folder, tmp_path, converted):
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    path = folder
    if converted:
        path = tmp_path / "ours"
        convert(Conversion(folder, path))
        assert load_model(path).info["text_start"] == [1]
    job = Generating(model=path, max_new_tokens=12, greedy=True)
    prompts = ["w5 w6 w7", "w9", ""]
    generator = Generator(job, say=lambda text: None, warn=lambda text: None)
    found = [row.text.split() for part in generator.generate(prompts) for row in part]
    for prompt, words in zip(prompts, found, strict=True):
        given = tokenizer(prompt, return_tensors="pt")
        assert given.input_ids[0, 0] == 1
        given.pop("token_type_ids", None)
        ids = model.generate(**given, do_sample=False, max_new_tokens=12, pad_token_id=2)[0]
        assert words == tokenizer.decode(ids[given.input_ids.size(1) :], skip_special_tokens=True).split()


def test_prompts_and_candidates_begin_with_it_and_keep_it_when_they_are_cut(folder):
    loaded = open_model(folder)
    assert beginning(loaded) == [1]
    layout = DecoderLayout(loaded)
    asked = layout.ask("w5 w6", [" w7", " w8 w9"])
    assert asked.prefix == [1, 5, 6] and list(asked.candidates) == [[7], [8, 9]]
    assert layout.ask("", ["w7"]).prefix == [1] == layout.ask("", []).prefix
    assert layout.cut(asked, 1).prefix == [1, 6]
