"""What the scripts beside this file share: settings, command line, and a clock around the training alone."""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


@dataclass(frozen=True)
class Settings:
    """How one task is tuned. Decay spares biases and norms; the rate falls linearly to 0 after warming up."""

    epochs: int
    batch_size: int  # examples a step
    lr: float
    max_length: int  # tokens of a text, special ones included
    warmup: float = 0.1  # share of all steps
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 1


# Dropout is the model's own: 0.1 in its layers and before its head. AdamW has its usual 0.9, 0.999 and 1e-8.
STSB = Settings(epochs=1, batch_size=16, lr=5e-5, max_length=128)
CONLL2003 = Settings(epochs=3, batch_size=32, lr=3e-4, max_length=256)
SST2 = Settings(epochs=1, batch_size=32, lr=1e-4, max_length=64)


def parse(description: str) -> argparse.Namespace:
    """MODEL TRAIN DEV [--max-steps N] [--seed N] of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--max-steps", type=int, default=-1, help="stop there, for a measurement of speed")
    parser.add_argument("--seed", type=int)
    return parser.parse_args()


def read(path: Path) -> list[str]:
    """The lines of a file, which may be gzipped."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return text.removesuffix("\n").split("\n")


def arguments(settings: Settings, given: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `TrainingArguments`: float32 on the CPU, nothing logged, measured or saved on the way."""
    return {
        "output_dir": tempfile.mkdtemp(),
        "num_train_epochs": settings.epochs,
        "max_steps": given.max_steps,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": settings.lr,
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup,  # below 1: a share of all steps
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "seed": settings.seed if given.seed is None else given.seed,
        "use_cpu": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


class Clock(TrainerCallback):
    """Wall and processor time between the first step and the last; setting up and evaluation are left out."""

    def __init__(self, examples: int, batch_size: int):
        self.examples, self.batch_size = examples, batch_size
        self.wall = self.cpu = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def on_train_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        steps = -(-self.examples // self.batch_size)  # of an epoch, the last one smaller
        epochs, rest = divmod(state.global_step, steps)
        seen = epochs * self.examples + rest * self.batch_size
        print(
            f"{state.global_step:,} steps, {seen:,} examples in {self.wall:.1f} s ({self.cpu:.1f} s of processor time)"
        )
        print(f"{seen / self.wall:.1f} examples/s ({seen / self.cpu:.1f} a second of processor time)", flush=True)


def tune(
    model: Any, tokenizer: Any, train: Sequence[dict], settings: Settings, given: argparse.Namespace, collator: Any
):
    """`model` after training by transformers' Trainer on `train`, batches of like length; gives the Trainer."""
    from transformers import Trainer, TrainingArguments

    trainer = Trainer(
        model,
        TrainingArguments(**arguments(settings, given), train_sampling_strategy="group_by_length"),
        train_dataset=train,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=[Clock(len(train), settings.batch_size)],
    )
    trainer.train()
    return trainer
