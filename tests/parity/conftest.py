"""Tiny models of `transformers` with random weights, saved as it saves them and read by our reader; no download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nlpcli.convert.huggingface_in import read_huggingface
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import load_weights

pytest.importorskip("transformers", reason="parity needs the extra 'test'")

GAINS = ("norm.weight", "LayerNorm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight", "embedding.weight")


def _scattered(model: Any, seed: int, scale: float = 0.25) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_positions" not in name or "Bart" in type(model).__name__:
                weight.copy_(torch.randn_like(weight) * scale + (weight.ndim == 1 and name.endswith(GAINS)))
    return model.eval()


@pytest.fixture(scope="session")
def scattered() -> Callable[..., Any]:
    """`scattered(model, seed)`: every number random, so that no part can be left out unnoticed."""
    return _scattered


def few_words(folder: Path) -> None:
    """The least a folder needs for a tokenizer: ids of the model beyond it are unused."""
    pieces = {"<a>": 0, "<b>": 1, "<c>": 2, "word": 3}
    core = {
        "added_tokens": [], "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None, "truncation": None, "padding": None, "version": "1.0",
        "model": {"type": "WordLevel", "vocab": pieces, "unk_token": "<c>"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(core))
    (folder / "special_tokens_map.json").write_text(json.dumps({"unk_token": "<c>"}))


@pytest.fixture(scope="session")
def read(tmp_path_factory) -> Callable[[Any], Any]:
    """`read(model)`: the same model as ours, through a folder. What it gives has `.model`, `.config`, `.left_out` …

    Both compute in float64 from then on: they must be equal, and what float32 rounds differs between processors.
    """

    def convert(theirs: Any) -> Any:
        folder = tmp_path_factory.mktemp(type(theirs).__name__)
        theirs.save_pretrained(folder)
        few_words(folder)
        found = read_huggingface(folder)
        model = build_model(found.config, found.tokenizer.vocab_size, found.info.get("head"))
        load_weights(model, found.weights, str(folder))
        theirs.double()
        return SimpleNamespace(model=model.double().eval(), folder=folder, **vars(found))

    return convert
