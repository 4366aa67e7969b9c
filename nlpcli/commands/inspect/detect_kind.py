"""The kind of a path, found from the names and first bytes of its files; nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nlpcli import presets
from nlpcli.data.open_text import STDIN, check_text, inner_suffix, open_bytes
from nlpcli.errors import NlpcliError, missing_path_hint
from nlpcli.runs.open_model import is_huggingface

KINDS: Mapping[str, str] = {
    "run": "a run",
    "model": "a model",
    "tokenizer": "a tokenizer",
    "checkpoint": "a checkpoint",
    "runs": "a folder of runs",
    "shards": "a tokenized text",
    "index": "a search index",
    "suite": "the data of a benchmark suite",
    "weights": "a file of tensors",
    "vectors": "a file of vectors",
    "metrics": "the log of a run",
    "json-lines": "a JSON Lines file",
    "text": "a text",
}
"""The kinds that can be inspected, and their names for people."""

_FOREIGN = (  # first bytes of files that are not text, in addition to those of `check_text`
    (b"PK\x03\x04", "an archive (zip, or weights saved by torch.save)"),
    (b"\x80\x02", "a pickle"), (b"\x80\x03", "a pickle"), (b"\x80\x04", "a pickle"), (b"\x80\x05", "a pickle"),
    (b"\x7fELF", "a program"), (b"GGUF", "a GGUF file"),
)  # fmt: skip
_VECTORS = b"\x93NUMPY"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_LISTED = 6  # entries of a folder that is none of these


def kind_of(path: str) -> str:
    """A key of `KINDS`. Raises: NlpcliError for a path that does not exist, or is of an unknown kind."""
    if path == STDIN:
        return "text"
    place = Path(path)
    if not place.exists():
        raise _missing(place)
    return _folder(place) if place.is_dir() else _file(place)


def _missing(path: Path) -> NlpcliError:
    if str(path) in presets.names():
        return NlpcliError(
            f"{path}: no such file or folder", hint=f"'{path}' is a preset; show it with: nlpcli config show {path}"
        )
    return NlpcliError(f"{path}: no such file or folder", hint=missing_path_hint(path))


def _folder(path: Path) -> str:
    def holds(name: str) -> bool:
        return (path / name).is_file()

    tests = {
        "checkpoint": lambda: holds("state.yaml"),
        "run": lambda: holds("config.yaml"),
        "model": lambda: holds("model.yaml") or is_huggingface(path),
        "tokenizer": lambda: holds("tokenizer.yaml"),
        "shards": lambda: holds("offsets.bin") or (holds("index.json") and any(path.glob("tokens-*.bin"))),
        "index": lambda: holds("index.yaml") and holds("vectors.npy"),
        "runs": lambda: any(path.glob("*/config.yaml")),
        "suite": lambda: _is_suite(path),
    }
    for kind, fits in tests.items():
        if fits():
            return kind
    raise _unknown_folder(path)


def _is_suite(path: Path) -> bool:
    from nlpcli.commands.inspect.artifacts import suite_in

    return suite_in(path) is not None


def _unknown_folder(path: Path) -> NlpcliError:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    if not entries:
        return NlpcliError(f"{path}: the folder is empty")
    if path.name == "checkpoints" or any(name.startswith("step-") for name in entries):
        steps = [name for name in entries if name.startswith("step-") and name.endswith("/")]
        if steps:
            return NlpcliError(
                f"{path}: the folder contains several checkpoints", hint=f"name one of them, such as {path / steps[-1]}"
            )
    shown = ", ".join(entries[:_LISTED]) + (f" and {len(entries) - _LISTED} more" if len(entries) > _LISTED else "")
    near = {"tokenizer.json", "spiece.model", "vocab.txt", "sentencepiece.model"} & set(entries)
    hint = "a model folder contains model.yaml or config.json, a run config.yaml, a tokenizer tokenizer.yaml"
    if near:
        hint = "add the config.json of the Hugging Face model that the tokenizer belongs to"
    return NlpcliError(
        f"{path}: the folder is not a model, tokenizer, run, tokenized text or benchmark suite; it contains {shown}",
        hint=hint,
    )


def _file(path: Path) -> str:
    if path.name == "metrics.jsonl":
        return "metrics"
    if path.suffix == ".npy":
        return "vectors"
    if path.suffix == ".safetensors":
        return "weights"
    with open_bytes(path) as stream:
        head = stream.read(4096)
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise _foreign(path, name)
    if head.startswith(_VECTORS):
        return "vectors"
    if b"\x00" in head[:8] and b'{"' in head[8:12]:
        return "weights"
    check_text(path, head)
    if b"\x00" in head:
        raise _foreign(path, "a pickle" if path.suffix in _PICKLES else None)
    if path.name in ("config.yaml", "model.yaml", "tokenizer.yaml", "state.yaml") or path.name == "config.json":
        raise NlpcliError(
            f"{path}: the file describes its folder and is not inspected alone",
            hint=f"inspect the folder: nlpcli inspect {path.parent}",
        )
    return "json-lines" if inner_suffix(path) in (".jsonl", ".ndjson") else "text"


def _foreign(path: Path, name: str | None) -> NlpcliError:
    if name is None:
        return NlpcliError(f"{path}: the file is not a text (it contains zero bytes) and its format is not supported")
    hint = None
    if path.suffix == ".npz":
        hint = "'nlpcli visualize-attention' writes such files; read them with numpy.load"
    elif path.suffix in _PICKLES or "pickle" in name or "archive" in name:
        hint = "it is not opened, because a pickle can run code; for weights: nlpcli convert --allow-pickle MODEL OUT"
    return NlpcliError(f"{path}: the file is {name}, which can't be inspected", hint=hint)
