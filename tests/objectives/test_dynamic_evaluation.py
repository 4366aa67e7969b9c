"""Dynamic evaluation against a loop with PyTorch's own optimizer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nlpcli.data.packing import PackedWindows, StreamedWindows, TokenStream
from nlpcli.data.shards import build_shards
from nlpcli.models.build import build_model
from nlpcli.objectives.clm import CausalLanguageModelling
from nlpcli.objectives.dynamic_evaluation import Adaptation, evaluate_dynamically
from nlpcli.text import train_tokenizer

CONTEXT = 7
TEXT = ["a bad cab", "dab", "abba and a bee", "cede", "a deed", "bede fed a cafe", "fade"] * 2
MODELS = {
    "recurrent": {"family": "recurrent-lm", "d_model": 12, "past_states": 3, "dropout": 0.5, "weight_dropout": 0.5},
    "transformer-xl": {
        "family": "transformer-xl", "d_model": 12, "heads": 2, "d_ff": 16, "decoder_layers": 1, "memory_length": 9,
    },
    "transformer": {"kind": "decoder", "d_model": 12, "heads": 2, "d_ff": 16, "decoder_layers": 1},
}  # fmt: skip


@pytest.fixture
def prepared(tmp_path, request):
    tokenizer = train_tokenizer("chars", TEXT, vocab_size=None)
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXT) + "\n")
    shards = build_shards([path], tokenizer, out=tmp_path / "shards", documents="lines", workers=1)
    torch.manual_seed(1)
    model = build_model(MODELS[request.param], tokenizer.vocab_size).eval()
    eos = tokenizer.special.eos
    windows = (StreamedWindows if model.has_memory else PackedWindows)(shards, 1, eos=eos, batch_size=1)
    return CausalLanguageModelling(windows, TokenStream(shards, eos=eos), context=CONTEXT), model


def by_hand(task, model, rate, decay):
    """Nats of each window, by a loop over windows with `torch.optim.SGD`."""
    ids = torch.from_numpy(task.dev.read(0, len(task.dev)))[None]
    trained = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer, memory, found = torch.optim.SGD(model.parameters(), lr=rate), None, []
    for start in range(0, ids.size(1) - 1, CONTEXT):
        read, goal = ids[:, start : start + CONTEXT], ids[0, start + 1 : start + CONTEXT + 1]
        read = read[:, : len(goal)]
        hidden, memory = model.hidden(read, memory) if model.has_memory else (model.hidden(read), None)
        losses = F.cross_entropy(model.logits(hidden)[0], goal, reduction="none")
        found.append(losses.sum().item())
        optimizer.zero_grad()
        losses.mean().backward()
        back = {name: decay * (trained[name] - weight.detach()) for name, weight in model.named_parameters()}
        optimizer.step()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight += back[name]
    model.load_state_dict(trained, strict=False)
    return found


@pytest.mark.parametrize("prepared", MODELS, indirect=True)
@pytest.mark.parametrize(("rate", "decay"), [(0.5, 0.0), (0.5, 0.2)])
def test_it_is_a_step_of_sgd_after_each_window_and_leaves_the_model_as_it_was(prepared, rate, decay):
    task, model = prepared
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    losses = list(evaluate_dynamically(task, model, torch.device("cpu"), Adaptation(rate, decay)))
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert sum(loss.count for loss in losses) == len(task.dev) - 1
    assert [loss.nll.item() for loss in losses] == pytest.approx(by_hand(task, model, rate, decay), rel=1e-4)
    assert not any(loss.nll.requires_grad for loss in losses)
    with torch.inference_mode():
        static = [loss.nll.item() for loss in task.evaluate(model, torch.device("cpu"))]
    assert static[0] == pytest.approx(losses[0].nll.item(), rel=1e-5)  # scored before anything is learnt
    assert sum(static) > 1.02 * sum(loss.nll.item() for loss in losses)


@pytest.mark.parametrize("prepared", ["recurrent"], indirect=True)
def test_the_weights_come_back_where_the_evaluation_is_left_early(prepared):
    task, model = prepared
    before = model.output_weight.detach().clone()
    losses = evaluate_dynamically(task, model, torch.device("cpu"), Adaptation(1.0))
    next(losses)
    next(losses)
    assert not torch.equal(model.output_weight, before)
    losses.close()
    assert torch.equal(model.output_weight, before)
