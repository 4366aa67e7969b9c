"""`nlpcli convert`: models to and from Hugging Face folders and files of word vectors, and to CTranslate2."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import typer

from nlpcli.cli import option_conventions, terminal
from nlpcli.config.counting import counted
from nlpcli.errors import NlpcliError

_SHOWN = 5


class Command(option_conventions.Command):
    """The folder that is written is an argument or the value of --out."""

    exclusive: ClassVar = (("folder", "out"),)


def command(
    source: Path = typer.Argument(
        ..., metavar="MODEL", help="Folder of a run or of a Hugging Face model, or a file of word vectors."
    ),
    folder: Path = typer.Argument(None, metavar="OUT", help="The same as --out."),
    out: Path = typer.Option(None, "--out", metavar="DIR", help="Folder to write, or file of word vectors."),
    to: str = typer.Option(
        None,
        "--to",
        metavar="FORMAT",
        help="Format to write: huggingface, nlpcli, onnx (a graph for onnxruntime, which predict, embed and search "
        "use), ctranslate2 (for fast translation and generation with that library), or word2vec (a text file with a "
        "word and its vector on each line). "
        "Default: huggingface for a run, nlpcli for a Hugging Face model, a file of word vectors, or a changed model.",
    ),
    allow_pickle: bool = typer.Option(
        False,
        "--allow-pickle",
        help="Allow weights in pytorch_model.bin, which is a pickle file (only its tensors are loaded).",
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the model in OUT, if there is one."),
    max_length: int = typer.Option(
        None,
        "--max-length",
        metavar="N",
        min=1,
        help="Make the model read texts of up to N tokens: its learned positions are copied over and over.",
    ),
    attention: list[str] = typer.Option(
        [],
        "--attention",
        metavar="PATTERN",
        help="Give the model other self-attention, as 'nlpcli pretrain --attention' does, such as longformer:512 or "
        "bigbird:64; of an encoder-decoder, to its encoder. The weights stay as they are. If the option is repeated, "
        "the patterns alternate from layer to layer.",
    ),
    quantization: str = typer.Option(
        None,
        "--quantization",
        metavar="TYPE",
        help="Smaller numbers for the weights: the model is faster and its outputs change slightly. With --to onnx: "
        "int8, for most matrices. With --to ctranslate2: int8, int8_float32, int8_float16, int8_bfloat16, int16, "
        "float16 or bfloat16. Default: float32.",
    ),
    json: bool = typer.Option(False, "--json", help="Report as one JSON object."),
) -> None:
    """Convert a model to or from the Hugging Face format: configuration, weights and tokenizer.

    An encoder-decoder or a language model can also be written for CTranslate2.

    Files of word vectors (word2vec, GloVe, fastText, in the text format) become models, and the token embeddings of a
    model become such a file, with the tokens that are words or begin one.

    With --max-length or --attention the model itself is changed, as Longformer was made from RoBERTa; train it further
    on long texts. Such a model is written in the format of nlpcli, unless --to names another format.

    These families are supported: BERT, RoBERTa, XLM-R, ELECTRA, DistilBERT, ModernBERT, MPNet, Longformer, BigBird,
    GPT, GPT-2, GPT-NeoX, Llama, Mistral, Qwen3, BART, T5, PEGASUS, XLNet and Marian.

    A fine-tuned model is written as the class for its task, with its labels. For example, a BERT classifier becomes
    BertForSequenceClassification. A model for sentence similarity becomes a sentence-transformers folder.

    Commands that use a model also accept a Hugging Face folder, so you need not convert it first.

    \b
    Examples:
      nlpcli convert --to huggingface runs/ende ende-hf/
      nlpcli convert opus-mt-en-de/ runs/opus
      nlpcli convert --to huggingface runs/classifier classifier-hf/
      nlpcli convert roberta-base/ runs/long --max-length 4096 --attention longformer:512
      nlpcli convert --to onnx runs/classifier classifier-onnx/ --quantization int8
      nlpcli convert --to ctranslate2 runs/ende ende-ct2/ --quantization int8
      nlpcli convert --to word2vec runs/words words.txt
      nlpcli convert glove.6B.300d.txt runs/glove
    """
    from nlpcli.commands.convert import Conversion, convert

    target = out or folder
    if target is None:
        raise NlpcliError("no output folder is given", hint=f"add it: nlpcli convert {source} OUT")
    done = convert(Conversion(source, target, to, allow_pickle, overwrite, max_length, tuple(attention), quantization))
    terminal.notify(
        f"{done.out}: {done.model}, {counted(done.parameters, 'parameter')}, {counted(done.vocab_size, 'token')}"
    )
    if done.left_out:
        more = f" and {len(done.left_out) - _SHOWN} more" if len(done.left_out) > _SHOWN else ""
        terminal.warn(
            f"these weights are not used by the model and were left out: {', '.join(done.left_out[:_SHOWN])}{more}"
        )
    if done.note:
        terminal.notify(f"note: {done.note}")
    if json:
        from dataclasses import asdict

        terminal.write_json({**asdict(done), "out": str(done.out)})
