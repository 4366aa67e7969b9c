from __future__ import annotations

import pytest
import torch

from nlpcli.config.transformer_settings import TransformerConfig
from nlpcli.models.build import build_model
from nlpcli.training.checkpoint import checkpoints, load_yaml
from nlpcli.training.flops import counted
from nlpcli.training.training_log import read_metrics


def test_the_count_of_a_decoder_is_that_of_its_equation():
    layers, d, ff, n = 3, 32, 64, 16
    model = build_model(
        TransformerConfig(kind="decoder", encoder_layers=layers, decoder_layers=layers, d_model=d, heads=4, d_ff=ff),
        100,
    )
    tokens = torch.randint(5, 100, (4, n))
    with counted() as operations:
        states = model.hidden(tokens)
        forward = operations()
        states.sum().backward()
    of_a_token = layers * (2 * (4 * d * d + 2 * d * ff) + 4 * n * d)
    assert forward == tokens.numel() * of_a_token
    products = 2 * tokens.numel() * layers * 2 * (4 * d * d + 2 * d * ff)
    attention = tokens.numel() * layers * 4 * n * d
    assert operations() == forward + products + attention * 5 // 2  # scores are computed once more


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize(("kind", "gates"), [(torch.nn.LSTM, 4), (torch.nn.GRU, 3), (torch.nn.RNN, 1)])
def test_a_recurrent_layer_counts_as_its_products_on_the_meta_device_too(kind, gates, layers, bidirectional, device):
    directions, n, rows, d_in, d = 1 + bidirectional, 5, 3, 8, 16
    with torch.device(device):
        layer = kind(d_in, d, layers, batch_first=True, bidirectional=bidirectional)
        x = torch.zeros(rows, n, d_in, requires_grad=True)
    with counted() as operations:
        found, state = layer(x)
        forward = operations()
        found.sum().backward()
    widths = [d_in, *[d * directions] * (layers - 1)]
    assert forward == sum(2 * rows * n * directions * gates * d * (width + d) for width in widths)
    assert operations() == pytest.approx(3 * forward, rel=0.1)  # loops leave out what the first state would need
    assert found.shape == (rows, n, d * directions)
    assert (state[0] if kind is torch.nn.LSTM else state).shape == (layers * directions, rows, d)


@pytest.mark.parametrize("setting", ["training.max_tokens=20000", "training.max_flops=4e8"])
def test_a_run_ends_with_the_step_that_reaches_its_tokens_or_operations(run_clm, setting):
    name, limit = setting.removeprefix("training.max_").split("=")
    run, outcome = run_clm("run", None, "training.max_steps=null", setting, "training.log_every=1")
    lines = [line for line in read_metrics(run) if line["kind"] == "train"]
    assert lines[-2][name] < float(limit) <= lines[-1][name]
    assert outcome.progress.step == lines[-1]["step"]
    assert lines[-1]["flops"] / lines[-1]["tokens"] == pytest.approx(outcome.progress.flops_per_token)
    state = load_yaml(checkpoints(run)[-1] / "state.yaml")["progress"]
    assert state["flops"] == pytest.approx(outcome.progress.flops)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Using `torch.compile")  # PyTorch's own, of loading
def test_compiled_layers_count_as_much_as_plain_ones():
    layer, x = torch.nn.Linear(8, 8), torch.ones(4, 8)
    found = []
    for function in (layer, torch.compile(layer, dynamic=True)):
        with counted() as operations:
            function(x).sum().backward()
        found.append(operations())
    assert found[0] == found[1] > 0


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
@pytest.mark.parametrize("padded", [False, True])
def test_recurrent_layers_count_as_the_products_of_their_steps(kind, padded):
    rows, n, d_in, d = 2, 5, 4, 3
    layer = kind(d_in, d, batch_first=True, bidirectional=True)
    x = torch.ones(rows, n, d_in, requires_grad=True)
    lengths = torch.tensor([n, n - 2])
    tokens = int(lengths.sum()) if padded else rows * n
    gates = {torch.nn.LSTM: 4, torch.nn.GRU: 3, torch.nn.RNN: 1}[kind]
    with counted() as operations:
        read = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True) if padded else x
        found = layer(read)[0]
        forward = operations()
        (found.data if padded else found).sum().backward()
    assert forward == 2 * 2 * tokens * gates * d * (d_in + d)
    assert operations() == pytest.approx(3 * forward, rel=0.25)  # the first step's state gets no gradient


def test_fused_recurrent_layers_of_a_gpu_count_as_much():
    from nlpcli.training.flops import _FUSED

    weights = [torch.Size(shape) for shape in ((12, 4), (12, 3), (12,), (12,))] * 2
    for packed in (torch.Size((10, 4)), torch.Size((2, 5, 4))):
        forward = _FUSED[torch.ops.aten._cudnn_rnn](packed, weights, 4, None, out_shape=())
        assert forward == 2 * 2 * 10 * 12 * (4 + 3)
        assert _FUSED[torch.ops.aten._cudnn_rnn_backward](packed, weights, 4, out_shape=()) == 2 * forward
