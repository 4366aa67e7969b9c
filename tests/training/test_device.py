from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from nlpcli.errors import NlpcliError
from nlpcli.training.device import choose_device, prepare


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", "cuda:99"])
def test_a_device_that_is_unknown_or_not_there_is_refused(name):
    with pytest.raises(NlpcliError, match=f"device '{name}'"):
        choose_device(name)


def test_a_requested_precision_is_taken_and_reported():
    machine = prepare("cpu", "bfloat16")
    assert machine.precision == "bfloat16" and "as configured" in machine.describe()
    with machine.autocast():
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.bfloat16


def test_float16_is_refused_on_a_cpu_before_anything_is_read(tmp_path, monkeypatch, capsys):
    from nlpcli.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "clm", "--data", "none.txt", "--precision", "float16", "--device", "cpu"]) == 2
    assert "precision 'float16' is for CUDA GPUs, but the device is 'cpu'" in capsys.readouterr().err
    with pytest.raises(NlpcliError, match="is for CUDA GPUs"):
        prepare("cpu", "float16")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an Apple GPU")
def test_an_apple_gpu_that_is_not_there_is_refused_at_once(tmp_path, monkeypatch, capsys):
    from nlpcli.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(["finetune", "--task", "classify", "--train", "none.tsv", "--device", "mps"]) == 2
    assert "device 'mps' is not available (PyTorch finds no Apple GPU here)" in capsys.readouterr().err


def test_what_the_user_set_for_kernels_stays(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "5")
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "6")
    prepare("cpu", "float32")
    assert os.environ["LRU_CACHE_CAPACITY"] == "5" and os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "6"


def test_products_of_ever_new_shapes_do_not_pile_up_in_memory(environment):
    program = """
import resource

import torch
from nlpcli.training.device import prepare

machine = prepare("cpu", "bfloat16", 1)
layer = torch.nn.Linear(64, 64)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def work(shapes):
    for n in shapes:
        with machine.autocast():
            y = layer(torch.ones(n, 64))
        y.sum().backward()

work(range(400, 500))
before = peak()
work(range(500, 1000))
print(peak() / before)
"""
    environment = {name: value for name, value in environment.items() if not name.endswith("CACHE_CAPACITY")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.2


def test_more_threads_than_a_machine_can_start_are_refused():
    with pytest.raises(NlpcliError, match="100,000 CPU threads are too many"):
        prepare("cpu", "float32", threads=100_000)
