"""Masked language modelling by transformers' Trainer, with the model, tokenizer and text of a run of ours.

    python benchmarks/speed/peers/masked_language_model.py FOLDER TEXT --steps 9 --length 128 --batch 32

FOLDER is what `nlpcli convert --to huggingface` writes; the model gets new weights. The text is cut into equal windows,
as `run_mlm.py` of transformers' examples does, and 15 % of the tokens are masked by its collator. float32, one thread.
Prints the mean loss of the second half of the steps.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("text", type=Path)
    for name in ("steps", "length", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--lr", type=float, default=1e-3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(given.folder)
    lines = given.text.read_text(encoding="utf-8").split("\n")
    wanted, ids = given.steps * given.batch * (given.length - 2), []
    for line in lines:
        ids += tokenizer(line, add_special_tokens=False)["input_ids"]
        if len(ids) >= wanted:
            break
    inner = given.length - 2
    starts = range(0, len(ids) - inner + 1, inner)
    windows = [{"input_ids": [tokenizer.cls_token_id, *ids[i : i + inner], tokenizer.sep_token_id]} for i in starts]
    trainer = Trainer(
        AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(given.folder)),
        TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            max_steps=given.steps,
            per_device_train_batch_size=given.batch,
            learning_rate=given.lr,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=windows,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
    )
    trainer.train()
    losses = [float(row["loss"]) for row in trainer.state.log_history if "loss" in row]
    later = losses[len(losses) // 2 :]
    print(f"loss {sum(later) / len(later):.4f}")


if __name__ == "__main__":
    main()
