"""Small models, tokenizers, vectors and indexes to damage, and the damage."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path
from random import Random

import numpy as np
import yaml

from hostile import inputs

_TEXT = "the small cat sat on the mat\nit was good\na dog ran to the cat\n\n"
_TINY = [
    *("--set", "tokenizer.type=chars", "--set", "model.d_model=8", "--max-steps", "1", "--device", "cpu"),
    *("--precision", "float32"),
]
_NANO = [*_TINY, "--set", "model.d_ff=8", "--set", "model.heads=2"]
_ENCODER = [*_NANO, "--set", "model.encoder_layers=1"]
_DECODER = [*_NANO, "--set", "model.decoder_layers=1"]
_RECURRENT = [*_TINY, "--set", "model.d_embed=8"]

_BUILD = {
    "lm": ["pretrain", "--objective", "clm", "--preset", "gpt-mini", *_DECODER, "--data", "t.txt"],
    "mlm": ["pretrain", "--objective", "mlm", "--preset", "roberta-nano", *_ENCODER, "--data", "t.txt"],
    "xl": ["pretrain", "--objective", "clm", "--preset", "transformer-xl-nano", *_DECODER, "--data", "t.txt"],
    "lstm": ["pretrain", "--objective", "clm", "--preset", "lstm-lm", *_TINY, "--data", "t.txt"],
    "words": ["pretrain", "--objective", "word2vec", "--preset", "word2vec", "--set", "model.d_model=8",
              "--max-steps", "1", "--data", "t.txt"],
    "cls": ["finetune", "--task", "classify", "--model", "mlm", "--train", "c.tsv", "--dev", "c.tsv",
            "--max-steps", "1", "--device", "cpu"],
    "tag": ["finetune", "--task", "tag", "--model", "mlm", "--train", "n.conll", "--dev", "n.conll", "--max-steps", "1",
            "--device", "cpu"],
    "mt": ["finetune", "--task", "translation", "--model", "transformer-tiny", *_NANO,
           "--set", "model.encoder_layers=1", "--set", "model.decoder_layers=1",
           "--train", "s.txt", "u.txt", "--dev", "s.txt", "u.txt"],
    "rnn": ["finetune", "--task", "translation", "--model", "rnn-seq2seq", *_TINY,
            "--train", "s.txt", "u.txt", "--dev", "s.txt", "u.txt"],
}  # fmt: skip
_CONVERTED = {"hf-lm": "lm", "hf-mlm": "mlm", "hf-cls": "cls", "hf-mt": "mt"}
_TOKENIZERS = {
    "tok-unigram": ["--type", "unigram", "--vocab-size", "28", "--no-byte-fallback"],
    "tok-bpe": ["--type", "bpe", "--vocab-size", "290"],
    "tok-byte-bpe": ["--type", "byte-bpe", "--vocab-size", "290"],
    "tok-wordpiece": ["--type", "wordpiece", "--vocab-size", "50"],
    "tok-chars": ["--type", "chars"],
    "tok-words": ["--type", "words"],
}
TOKENIZERS = tuple(_TOKENIZERS)
LANGUAGE_MODELS = ("lm", "xl", "lstm", "hf-lm")
TRANSLATORS = ("mt", "rnn", "hf-mt")
PREDICTORS = ("cls", "tag", "hf-cls")
EMBEDDERS = ("mlm", "lm", "cls", "words", "hf-mlm")
MODELS = (*_BUILD, *_CONVERTED)


def build(folder: Path) -> list[str]:
    """Makes everything in `folder`, which is the working folder. Returns the calls that failed."""
    from nlpcli.cli.main import main

    Path("t.txt").write_text(_TEXT * 20)
    Path("s.txt").write_text("the cat\na dog ran\nit was good\n" * 8)
    Path("u.txt").write_text("die katze\nein hund lief\nes war gut\n" * 8)
    Path("c.tsv").write_text("a cat sat\tpos\na dog ran\tneg\n" * 8)
    Path("n.conll").write_text("Ann\tB-PER\nran\tO\n\na\tO\ncat\tO\n\n" * 8)
    Path("points.tsv").write_text("0\t1\n1\t2\n2\t0\n")
    calls = [[*line, "--out", name] for name, line in _BUILD.items()]
    calls += [["convert", "--to", "huggingface", name, out] for out, name in _CONVERTED.items()]
    calls += [["tokenize", "train", *line, "--out", name, "t.txt"] for name, line in _TOKENIZERS.items()]
    calls += [
        ["embed", "--model", "mlm", "--out", "v.npy", "s.txt"],
        ["search", "--model", "mlm", "--corpus", "s.txt", "--save-index", "idx", "a cat"],
        ["convert", "--to", "word2vec", "words", "vectors.txt"],
    ]
    return [" ".join(line) for line in calls if main(line) != 0]


def damage_folder(folder: Path, rng: Random) -> None:
    """Changes one file of a model, tokenizer or index; what guards it is changed to fit, so that the change gets in."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # each file as often as a model has kinds of files, not as often as it has checkpoints
    path = rng.choice(
        files if rng.random() < 0.3 else [one for one in files if "checkpoints" not in one.parts] or files
    )
    how = rng.random()
    if how < 0.06:
        inputs.write_special(path, rng)
        return
    if how < 0.08:
        path.write_bytes(rng.choice(files).read_bytes())
        return
    if how < 0.1:
        _plant(folder, rng)
        return
    data = path.read_bytes()
    path.write_bytes(_damaged_content(path, data, rng))
    if path.suffix == ".safetensors":
        seal_weights(folder)


def _damaged_content(path: Path, data: bytes, rng: Random) -> bytes:
    how = rng.random()
    try:
        if how < 0.12:
            return inputs.any_bytes(rng)
        if path.suffix == ".safetensors" and how < 0.85:
            return inputs.damaged_tensors(data, rng)
        if path.suffix in (".yaml", ".json") and how < 0.85:
            loaded = yaml.load(data, yaml.CSafeLoader) if path.suffix == ".yaml" else json.loads(data)
            for _ in range(rng.choice([1, 1, 1, 2])):
                loaded = inputs.mutated(loaded, rng)
            if path.suffix == ".yaml":
                return yaml.dump(loaded, Dumper=yaml.CSafeDumper).encode("utf-8", "surrogatepass")
            return json.dumps(loaded).encode()
        if path.suffix == ".jsonl" and how < 0.85:
            lines = data.splitlines()
            place = rng.randrange(len(lines))
            lines[place] = json.dumps(inputs.mutated(json.loads(lines[place]), rng)).encode()
            return b"\n".join(lines) + b"\n"
    except (ValueError, IndexError, yaml.YAMLError, RecursionError, OverflowError):
        pass
    return inputs.damaged(data, rng)


def _plant(folder: Path, rng: Random) -> None:
    """A pickle that would create a file, in the place of weights or beside them."""
    if rng.random() < 0.5:
        (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Planted()))


class Planted:
    """Unpickling it would create the file PWNED in the working folder."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("PWNED", "w")


def seal_weights(folder: Path) -> None:
    """Makes the digests that a model folder states those of its weights."""
    for weights in folder.rglob("model.safetensors"):
        description = weights.with_name("model.yaml")
        if weights.is_file() and description.is_file():
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            changed = re.sub(rb"(?m)^sha256: .*$", b"sha256: " + digest.encode(), description.read_bytes())
            description.write_bytes(changed)


def seal_tokenizer(folder: Path) -> None:
    """Makes the fingerprint that a model folder states that of its tokenizer, where that can be read at all."""
    from nlpcli.text import load_tokenizer

    description = folder / "model.yaml"
    if not (description.is_file() and (folder / "tokenizer").is_dir()):
        return
    try:
        tokenizer = load_tokenizer(folder / "tokenizer")
        lines = description.read_bytes()
    except Exception:  # the program itself meets it again
        return
    description.write_bytes(re.sub(rb"(?m)^tokenizer: .*$", b"tokenizer: " + tokenizer.fingerprint.encode(), lines))


def damage_vectors(path: Path, rng: Random) -> None:
    """A .npy file with another header, or with numbers that are none."""
    data = path.read_bytes()
    if rng.random() < 0.3:
        array = np.load(path)
        array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e38])
        kinds = ["f4", "f8", "i8", "c8", "bool", "f2"]
        with np.errstate(all="ignore"):
            np.save(path, array.astype(rng.choice(kinds)))
    elif rng.random() < 0.5:
        shapes = ["(-1, 8)", "(9999999999, 8)", "(24, 8), ", "(24,)", "()", "(24, 4611686018427387904)", "(True, 8)"]
        new = re.sub(rb"'shape': \([^)]*\)", b"'shape': " + rng.choice(shapes).encode(), data[:128])
        new = new if rng.random() < 0.7 else data[:128].replace(b"<f4", rng.choice([b"|O8", b"<f9", b"|S3", b"<U1"]))
        path.write_bytes(new[:128].ljust(128) + data[128:])
    else:
        path.write_bytes(inputs.damaged(data, rng))
