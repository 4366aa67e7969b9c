"""Of ten sentences with opinions one is marked as the one that counts: attention finds it sooner than a mean does."""

from __future__ import annotations

import random

import torch

from nlpcli.config.model_settings import ModelConfig
from nlpcli.models.build import build_model
from nlpcli.models.padded_batch import Row, stack
from nlpcli.visualization.capture import capture

CLS, SEP, PAD, MARK = 4, 5, 0, 7
OPINIONS, FILLER = [[8, 9, 10], [11, 12, 13]], list(range(20, 60))
SENTENCES, STEPS, BATCH = 10, 25, 32


def documents(count, seed):
    """Label, place of the marked sentence, and row. The second word of each sentence is an opinion."""
    draw = random.Random(seed)
    for _ in range(count):
        label, place = draw.randrange(2), draw.randrange(SENTENCES)
        ids, numbers = [CLS], [-1]
        for number in range(SENTENCES):
            words = draw.choices(FILLER, k=draw.randint(3, 6))
            words[1] = draw.choice(OPINIONS[label if number == place else draw.randrange(2)])
            words[0] = MARK if number == place else words[0]
            ids += [*words, SEP]
            numbers += [number] * len(words) + [-1]
        yield label, place, Row(ids, [0] * len(ids), numbers)


def trained(aggregation):
    torch.manual_seed(1)
    sizes = {"d_model": 16, "d_embedding": 16, "dropout": 0.0, "aggregation": aggregation}
    config = ModelConfig.model_validate({"family": "hierarchical", **sizes})
    model = build_model(config, 60, {"kind": "text", "outputs": 2, "pooling": "first"})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    data = list(documents(STEPS * BATCH, 1))
    for start in range(0, len(data), BATCH):
        labels, _, rows = zip(*data[start : start + BATCH], strict=True)
        loss = torch.nn.functional.cross_entropy(model(stack(rows, PAD)), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def measured(model):
    """The accuracy in percent, and the mean weight of the marked sentence where there is attention."""
    labels, places, rows = zip(*documents(200, 2), strict=True)
    with torch.no_grad(), capture(model) as recorded:
        right = model(stack(rows, PAD)).argmax(1) == torch.tensor(labels)
    weights = None
    if recorded:
        weights = recorded["sentences"][0][0][:, 0, 0].take_along_dim(torch.tensor(places)[:, None], 1).mean()
    return 100 * float(right.float().mean()), weights


def test_attention_is_on_the_planted_sentence_and_more_accurate_than_the_mean():
    accuracy, weight = measured(trained("attention"))
    mean_accuracy, _ = measured(trained("mean"))
    assert weight >= 0.8
    assert accuracy >= mean_accuracy + 5
