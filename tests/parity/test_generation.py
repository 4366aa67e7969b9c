"""Decoding settings of Hugging Face folders give here what `model.generate` of `transformers` gives."""

from __future__ import annotations

import random
import warnings

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

from nlpcli.config.generation_settings import Generation  # noqa: E402
from nlpcli.decoding.huggingface_generation import GenerationInputs, HuggingFaceDecoder  # noqa: E402
from nlpcli.text import SpecialTokens  # noqa: E402

transformers.logging.set_verbosity_error()

VOCABULARY = 24
SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
         "max_position_embeddings": 64}  # fmt: skip
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
TOKENS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
SPECIAL = SpecialTokens(pad=1, unk=0, bos=0, eos=2, cls=0, sep=2, mask=0, absent=("unk", "mask"))
ROUNDS = 60


def _models(scattered):
    common = {"vocab_size": VOCABULARY, **TOKENS}
    made = {
        "bart": transformers.BartForConditionalGeneration(transformers.BartConfig(**SIZES, **common)),
        "pegasus": transformers.PegasusForConditionalGeneration(transformers.PegasusConfig(**SIZES, **common)),
        "marian": transformers.MarianMTModel(transformers.MarianConfig(**SIZES, **common)),
        "t5": transformers.T5ForConditionalGeneration(transformers.T5Config(**T5, **common)),
        "gpt2": transformers.GPT2LMHeadModel(
            transformers.GPT2Config(**GPT2, vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=2, pad_token_id=1)
        ),
    }
    return {name: scattered(model, 5, 0.35) for name, model in made.items()}


@pytest.fixture(scope="module")
def pairs(scattered, read):
    return {name: (model, read(model).model) for name, model in _models(scattered).items()}


def drawn_settings(draw: random.Random) -> dict:
    """Some settings, each with a chance of being left out, that a published folder may hold."""
    ids = lambda n: draw.sample(range(3, VOCABULARY), n)  # noqa: E731
    may = {
        "num_beams": lambda: draw.choice([1, 2, 3, 5]),
        "max_new_tokens": lambda: draw.randint(1, 14),
        "min_new_tokens": lambda: draw.randint(1, 6),
        "min_length": lambda: draw.randint(1, 9),
        "early_stopping": lambda: draw.choice([True, False, "never"]),
        "length_penalty": lambda: draw.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
        "repetition_penalty": lambda: draw.choice([0.8, 1.2, 1.7]),
        "encoder_repetition_penalty": lambda: draw.choice([0.7, 1.5]),
        "no_repeat_ngram_size": lambda: draw.randint(1, 3),
        "encoder_no_repeat_ngram_size": lambda: draw.randint(2, 3),
        "bad_words_ids": lambda: [ids(draw.randint(1, 3)) for _ in range(draw.randint(1, 3))],
        "sequence_bias": lambda: [[ids(draw.randint(1, 2)), draw.choice([-3.0, 2.0])] for _ in range(2)],
        "forced_bos_token_id": lambda: ids(1)[0],
        "forced_eos_token_id": lambda: 2,
        "suppress_tokens": lambda: ids(3),
        "begin_suppress_tokens": lambda: ids(4),
        "eos_token_id": lambda: [2, *ids(draw.randint(1, 3))],
        "decoder_start_token_id": lambda: draw.choice([0, 1]),
        "exponential_decay_length_penalty": lambda: [draw.randint(1, 4), draw.choice([1.1, 1.5])],
        "renormalize_logits": lambda: True,
    }
    chosen = {name: make() for name, make in may.items() if draw.random() < 0.3}
    if chosen.get("forced_bos_token_id") in chosen.get("suppress_tokens", []):  # transformers refuses it
        del chosen["suppress_tokens"]
    return {**TOKENS, "max_length": draw.randint(16, 24), **chosen}


@pytest.mark.parametrize("family", ["bart", "pegasus", "marian", "t5", "gpt2"])
def test_any_settings_give_what_transformers_gives(pairs, family):
    theirs, ours = pairs[family]
    seen, draw = set(), random.Random(family)
    for _ in range(ROUNDS):
        settings = drawn_settings(draw)
        config = transformers.GenerationConfig(**settings)
        source = [draw.randint(3, VOCABULARY - 1) for _ in range(draw.randint(1, 8))] + [2] * (family != "gpt2")
        theirs.generation_config = config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = torch.tensor([source])
            expected = theirs.generate(given, attention_mask=torch.ones_like(given))[0].tolist()
        wanted = Generation.model_validate(settings)
        prompt = source if family == "gpt2" else [wanted.start]
        if family == "gpt2":
            state = ours.init_state(1)
        else:
            state = ours.init_state(ours.encode(torch.tensor([source]), None))
        limits = [wanted.new_tokens(len(prompt), 20)]
        inputs = GenerationInputs([prompt], limits, sources=None if family == "gpt2" else [source])
        [[found, *_]] = HuggingFaceDecoder(wanted, SPECIAL).generate(ours, state, inputs)
        written = [*prompt, *found.ids, *([found.end] if found.end in (0, 1, 2) else [])]
        expected = expected[: len(written)] + [i for i in expected[len(written) :] if i != 1]
        assert written == expected, settings
        seen.add(tuple(expected))
    assert len(seen) > ROUNDS // 2
