"""Small models of every kind that was never trained, in folders."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from model_settings import of_family

from nlpcli.commands.visualize_attention.collect_maps import collect_attention
from nlpcli.commands.visualize_attention.request import AttentionInput, AttentionRequest
from nlpcli.models.build import build_model
from nlpcli.models.model_folder import save_model
from nlpcli.text import train_tokenizer

TEXTS = ["der mann läuft im haus", "ein hund und ein kind", "the dog sleeps in the house", "a man and a child"]
SIZES = {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 3, "decoder_layers": 2, "max_length": 32}


@cache
def pieces(*texts):
    return train_tokenizer("bpe", texts, vocab_size=60, byte_fallback=False, seed=1)


@pytest.fixture(scope="session")
def write_model(tmp_path_factory):
    """`write_model(task="translation", head=…, info=…, **settings of the model)` gives a folder."""

    def write(task="translation", head=None, info=None, source=None, **settings):
        torch.manual_seed(2)
        path = tmp_path_factory.mktemp("looking") / "model"
        tokenizer = pieces(*TEXTS)
        if source is not None:
            source = pieces(*source)
            settings |= {"source_layers": 1, "source_vocab_size": source.vocab_size}
        config = of_family({**SIZES, **settings})
        model = build_model(config, tokenizer.vocab_size, head)
        about = {"task": task, **(info or {}), **({"head": head} if head else {})}
        save_model(
            path, weights=model.state_dict(), config=config, tokenizer=tokenizer, info=about, source_tokenizer=source
        )
        return path

    return write


@pytest.fixture
def messages():
    """The messages and warnings of `collect_attention`."""
    return []


@pytest.fixture
def see(messages):
    """`see(path, text or AttentionInput, **settings of AttentionRequest)`: the one attention."""

    def call(path, given, **settings):
        given = given if isinstance(given, AttentionInput) else AttentionInput(given)
        [found] = collect_attention(
            AttentionRequest(path, device="cpu", **settings), [given], notify=messages.append, warn=messages.append
        )
        return found

    return call
