"""Options that several commands share; those of `pretrain` and `finetune` are in `nlpcli.cli.training_options`."""

from __future__ import annotations

import typer

THREADS = typer.Option(None, "--threads", min=1, help="Number of CPU threads.")
DEVICE = typer.Option(
    "auto",
    "--device",
    help="Device: auto (a CUDA GPU if there is one), cpu, cuda, cuda:N for GPU N, from 0, or mps (an Apple GPU).",
)
BATCH_TOKENS = typer.Option(4096, "--batch-tokens", min=1, help="Batch size in tokens, padding included.")
ENGINE = typer.Option(
    None,
    "--engine",
    metavar="ENGINE",
    help="What computes the model: torch, or onnx (onnxruntime, on the CPU). With onnx, the first call converts "
    "the model and keeps the result in its folder. Default: torch, or onnx for a folder of 'nlpcli convert --to onnx'.",
)
VECTOR_BATCH_TOKENS = typer.Option(
    None,
    "--batch-tokens",
    min=1,
    help="Batch size in tokens, padding included. Default: 1024 on a CPU, 4096 on a GPU.",
)
FINE_TUNED_MODEL = typer.Option(
    None,
    "--model",
    metavar="DIR",
    help="Fine-tuned model: the folder of a run or a Hugging Face folder. Default: the latest fine-tuned run in runs/.",
)
EXAMPLE_TEXT = typer.Option(
    None,
    "--text",
    metavar="COLUMN",
    help="Column of the text: its name, or its number from 1. Default: the same as in training.",
)
EXAMPLE_TEXT2 = typer.Option(
    None, "--text2", metavar="COLUMN", help="Column of the second text of a pair. Default: as in training."
)
ONE_OF_SEVERAL_TASKS = typer.Option(
    None, "--task", metavar="NAME", help="For a model trained on several tasks: name of the task to apply."
)
BOOTSTRAP_SEED = typer.Option(12345, "--seed", help="Random seed of the bootstrap.")
VECTOR_MODEL = typer.Option(
    None,
    "--model",
    metavar="DIR",
    help="Model: the folder of a run, a Hugging Face folder, or a text file of word vectors (word2vec, GloVe or "
    "fastText). Default: the latest similarity run in runs/, or else the latest encoder run.",
)
MAX_LENGTH = typer.Option(
    None, "--max-length", min=1, help="Truncate lines to this many tokens; see 'nlpcli embed --help'."
)
LAYERS = typer.Option(None, "--layers", help="Layers whose hidden states are used; see 'nlpcli embed --help'.")
POOLING = typer.Option(None, "--pooling", help="Pooling of the hidden states; see 'nlpcli embed --help'.")
NO_REPEAT_NGRAM = typer.Option(
    None,
    "--no-repeat-ngram",
    metavar="N",
    help="Never generate the same n-gram of N tokens twice; 0 means no limit. Default: 0.",
)
JSON_AS_FORMAT = typer.Option(False, "--json", help="The same as --format json.")
PROCESSES = typer.Option(
    1,
    "--processes",
    min=1,
    max=1024,
    help="Divide the input among N processes of this machine, each with a copy of the model. The output is in "
    "the same order.",
)
