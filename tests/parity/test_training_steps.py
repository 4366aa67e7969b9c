"""Steps of fine-tuning: losses, gradients and weights as a loop over the class of `transformers` has them."""

from __future__ import annotations

import pytest
import torch

from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.schema import TrainingConfig
from nlpcli.data.examples import Example
from nlpcli.models.padded_batch import Row, stack
from nlpcli.tasks.classification import Classification
from nlpcli.tasks.task import Context
from nlpcli.tasks.text_batches import RowsItem
from nlpcli.text import train_tokenizer
from nlpcli.training.optimizer import make_optimizer, set_rate

transformers = pytest.importorskip("transformers", reason="parity needs the extra 'test'")

PAD, LR = 0, 1e-2
UNDECAYED = ("bias", "LayerNorm.weight")


def test_adamw_on_a_classifier_takes_the_steps_it_takes_on_bert(scattered, read):
    shape = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 40, "max_position_embeddings": 24, "pad_token_id": PAD, "num_labels": 3,
             "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip
    theirs = scattered(transformers.BertForSequenceClassification(transformers.BertConfig(**shape)), seed=3)
    found = read(theirs)
    ours, special = found.model.eval(), train_tokenizer("words", ["a b c"] * 3, vocab_size=10)
    task = Classification.create(
        [Example(("a",), label, "x") for label in "012"],
        Context(special, ModelConfig.model_validate(found.config)),
        dropout=0.0,
    )
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(1, 50, (length,), generator=generator).tolist() for length in (7, 12, 3, 9)]
    goals = [0, 2, 1, 2]
    batch = task.collate([RowsItem((Row(ids, [0] * len(ids)),), goal) for ids, goal in zip(rows, goals, strict=True)])
    batch.rows = stack([Row(ids, [0] * len(ids)) for ids in rows], PAD)
    settings = TrainingConfig(lr=LR, weight_decay=0.1, beta1=0.9, beta2=0.999, eps=1e-8)
    optimizer = make_optimizer(ours, settings)
    set_rate(optimizer, LR)
    groups = [
        {"params": [p for n, p in theirs.named_parameters() if n.endswith(UNDECAYED) == free], "weight_decay": decay}
        for free, decay in ((False, 0.1), (True, 0.0))
    ]
    reference = torch.optim.AdamW(groups, lr=LR)
    theirs.eval()  # without dropout on either side
    for _ in range(4):
        loss = task.loss(ours, batch)
        (loss.total / loss.count).backward()
        expected = theirs(
            input_ids=batch.rows.ids, attention_mask=batch.rows.mask.long(), labels=torch.tensor(goals)
        ).loss
        expected.backward()
        assert loss.total.item() / loss.count == pytest.approx(expected.item(), rel=1e-5)
        norms = [torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) for model in (ours, theirs)]
        assert float(norms[0]) == pytest.approx(float(norms[1]), rel=1e-4)
        for each in (optimizer, reference):
            each.step()
            each.zero_grad()
    torch.testing.assert_close(ours.head.output.weight, theirs.classifier.weight, rtol=1e-3, atol=1e-4)
