"""Minimal pairs under Hugging Face folders: the log-probabilities that `transformers` gives, sentence by sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from nlpcli.commands.score.score_minimal_pairs import PairsRequest, scored_pairs

PAIRS = (
    ("The dogs are standing in the kitchen.", "The dogs is standing in the kitchen."),
    ("Who reads unbelievable stories?", "Reads who unbelievable stories?"),
    ("A man don't stand.", "Housekeepers, sleeping and reading, don't stand in 1,234.50 kitchens for the others."),
)
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def write(folder, tokens, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokens)
    size = len(tokenizer)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=64)
        config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
        model = transformers.GPT2LMHeadModel(config)
    elif kind == "bert":
        model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=size, **SIZES))
    else:
        config = transformers.RobertaConfig(
            vocab_size=size, pad_token_id=tokenizer.pad_token_id, max_position_embeddings=70, **SIZES
        )
        model = transformers.RobertaForMaskedLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    shutil.copytree(tokens, folder)
    model.save_pretrained(folder)
    return model.eval(), tokenizer


def causal(model, tokenizer, text):
    ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[i, id_]) for i, id_ in enumerate(ids[1:]))


def masked(model, tokenizer, text, *, words):
    encoded = tokenizer(text)
    ids, word_ids, total = encoded.input_ids, encoded.word_ids(), 0.0
    for i in range(1, len(ids) - 1):
        copy = list(ids)
        for j in range(i, len(ids) - 1):
            if j == i or (words and word_ids[j] == word_ids[i]):
                copy[j] = tokenizer.mask_token_id
        with torch.no_grad():
            total += float(model(torch.tensor([copy])).logits[0, i].double().log_softmax(-1)[ids[i]])
    return total


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{good}\t{bad}\n" for good, bad in PAIRS))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "pll"),
    [("gpt2", None), ("bert", None), ("bert", "word-l2r"), ("roberta", None), ("roberta", "word-l2r")],
)
def test_sentences_are_as_probable_as_under_transformers(tokenizer_folders, tmp_path, data, kind, pll):
    torch.manual_seed(3)
    if pll:  # a contraction is cut as for BERT, don ' t, which is not how RoBERTa's words are: don 't
        Path(data).write_text(Path(data).read_text().replace("don't", "never"))
    model, tokenizer = write(tmp_path / "model", tokenizer_folders[kind], kind)
    request = PairsRequest((data,), tmp_path / "model", pll, device="cpu")
    found = [value for scored in scored_pairs(request, notify=print) for value in (scored.good, scored.bad)]
    texts = [text for line in Path(data).read_text().splitlines() for text in line.split("\t")]
    if kind == "gpt2":
        wanted = [causal(model, tokenizer, text) for text in texts]
    else:
        wanted = [masked(model, tokenizer, text, words=pll is not None) for text in texts]
    assert found == pytest.approx(wanted, abs=1e-4)
    assert max(map(abs, wanted)) > 50
