"""Heads of fine-tuned models against the classes of `transformers` that have them, both ways."""

from __future__ import annotations

import json

import pytest
import torch

from nlpcli.convert.checkpoint import KEPT
from nlpcli.models.rows import Row, Rows, stack

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

VOCABULARY, LENGTH, PAD, END = 50, 20, 1, 2
BERT = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 24, "pad_token_id": PAD, "type_vocab_size": 2,
}  # fmt: skip
GPT = {
    "vocab_size": VOCABULARY, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 24, "pad_token_id": PAD,
    "bos_token_id": 0, "eos_token_id": END,
}  # fmt: skip
BART = {
    "vocab_size": VOCABULARY, "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 24,
    "pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": 2, "bos_token_id": 0,
}  # fmt: skip
XLNET = {"vocab_size": VOCABULARY, "d_model": 24, "n_layer": 2, "n_head": 4, "d_inner": 40, "pad_token_id": PAD}
CONFIGS = {
    "Bert": ("BertConfig", BERT),
    "Roberta": ("RobertaConfig", BERT),
    "GPT2": ("GPT2Config", GPT),
    "OpenAIGPT": ("OpenAIGPTConfig", GPT),
    "Bart": ("BartConfig", BART),
    "XLNet": ("XLNetConfig", XLNET),
}
CLASSES = [
    *((name, "ForSequenceClassification", {"num_labels": 3}) for name in CONFIGS),
    *((name, "ForTokenClassification", {"num_labels": 5}) for name in ("Bert", "Roberta", "GPT2", "XLNet")),
    *((name, "ForQuestionAnswering", {}) for name in ("Bert", "Roberta", "GPT2", "Bart")),
    ("XLNet", "ForQuestionAnsweringSimple", {}),
    *((name, "ForMultipleChoice", {}) for name in ("Bert", "Roberta", "XLNet")),
    ("Bert", "ForSequenceClassification", {"num_labels": 1}),
    ("Roberta", "ForSequenceClassification", {"num_labels": 4, "problem_type": "multi_label_classification"}),
]


@pytest.fixture(scope="module", params=CLASSES, ids=lambda one: f"{one[0]}{one[1]}{one[2].get('num_labels', '')}")
def theirs(request, scattered):
    name, suffix, more = request.param
    kind, settings = CONFIGS[name]
    config = getattr(transformers, kind)(**settings, **more)
    return scattered(getattr(transformers, name + suffix)(config), 4)


def rows(segments: bool) -> Rows:
    """Padded rows, each of which ends with the only END in it."""
    draw = torch.Generator().manual_seed(2)
    made = []
    for length in (LENGTH, 13, 6, 1):
        ids = torch.randint(3, VOCABULARY, (length - 1,), generator=draw).tolist()
        kinds = torch.randint(0, 2, (length,), generator=draw).tolist() if segments else [0] * length
        made.append(Row([*ids, END], kinds))
    return stack(made, PAD, segments=segments)


def logits(model, batch: Rows) -> torch.Tensor:
    """Theirs, at our places: (rows, outputs) or (rows, n, outputs)."""
    name = type(model).__name__
    mask = torch.ones_like(batch.ids, dtype=torch.bool) if batch.mask is None else batch.mask
    fields = {"input_ids": batch.ids, "attention_mask": mask.long()}
    if batch.segments is not None and not name.startswith(("Bart", "GPT2", "OpenAI")):
        fields["token_type_ids"] = batch.segments
    left = name.startswith("XLNet")
    if left:
        fields = {key: turned(value, batch.ends) for key, value in fields.items()}
    if "MultipleChoice" in name:
        fields = {key: value[None] for key, value in fields.items()}
    output = model(**fields)
    if "QuestionAnswering" in name:
        found = torch.stack((output.start_logits, output.end_logits), dim=-1)
    else:
        found = output.logits
    if "MultipleChoice" in name:
        return found.T
    return turned(found, batch.ends, back=True) if left and found.ndim == 3 else found


def turned(tensor: torch.Tensor, ends: torch.Tensor, back: bool = False) -> torch.Tensor:
    """Padding from the right side to the left."""
    lengths = (ends + 1 if back else tensor.size(1) - ends - 1).tolist()
    if back:
        return torch.stack([row.roll(length, 0) for row, length in zip(tensor, lengths, strict=True)])
    return torch.stack([row.roll(length, 0) for row, length in zip(tensor, lengths, strict=True)])


def same(found: torch.Tensor, expected: torch.Tensor, batch: Rows) -> bool:
    if found.ndim == 3 and batch.mask is not None:
        found, expected = found[batch.mask], expected[batch.mask]
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-4)


@torch.inference_mode()
def test_logits_are_theirs(theirs, read):
    ours = read(theirs)
    batch = rows(ours.config["segments"] > 1)
    expected = logits(theirs, batch)
    assert float(expected.std()) > 0.1
    assert same(ours.model(batch), expected, batch)
    assert ours.left_out == []
