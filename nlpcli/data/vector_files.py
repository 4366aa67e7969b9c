"""Files of vectors: NumPy's format (.npy), written as they come and read without being held in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nlpcli.config.files import atomic_file
from nlpcli.errors import NlpcliError, missing_path_hint

SUFFIX = ".npy"


def write_vectors(path: Path, blocks: Iterable[np.ndarray], width: int) -> int:
    """Writes blocks (n, width) below each other as one float32 array (N, width); all or nothing, in constant memory.

    Returns: N. Raises: RunFailed when the disk is full, NlpcliError when the place can't be written.
    """
    with atomic_file(path) as file:
        count = 0
        _write_header(file, count, width)
        begin = file.tell()
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f4").tobytes())
            count += len(block)
        file.seek(0)
        _write_header(file, count, width)
        assert file.tell() == begin  # NumPy leaves room in the header for any number of rows
    return count


def _write_header(file: BinaryIO, count: int, width: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
    np.lib.format.write_array_header_1_0(file, header)


def open_vectors(path: Path) -> np.ndarray:
    """The vectors in a .npy file, (N, width) floating-point numbers, mapped from the disk.

    Raises: NlpcliError for a missing file, one that is not such an array, and an array of other shape or kind.
    """
    path = Path(path)
    if path.is_dir():
        raise NlpcliError(f"{path} is a folder, not a file")
    if not path.is_file():
        raise NlpcliError(f"{path}: no such file", hint=missing_path_hint(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a header that NumPy only reads with a warning is none that it wrote
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises what it likes for a damaged header
        raise NlpcliError(f"{path} is not a valid .npy file ({_one_line(error)})", hint=_MAKING) from None
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
        array = isinstance(vectors, np.ndarray)
        what = f"an array of shape {vectors.shape} and type {vectors.dtype}" if array else "several arrays"
        raise NlpcliError(
            f"{path} contains {what}, but it must contain one vector of floating-point numbers for each text",
            hint=_MAKING,
        )
    return vectors


def finite_vectors(path: Path) -> np.ndarray:
    """The same, after a check of all numbers. Raises: NlpcliError also for one that is not finite, with its row."""
    vectors = open_vectors(path)
    for start in range(0, len(vectors), _BLOCK):
        wrong = np.flatnonzero(~np.isfinite(vectors[start : start + _BLOCK]).all(axis=1))
        if len(wrong):
            raise NlpcliError(
                f"{path}: vector {start + int(wrong[0]) + 1:,} contains a number that is not finite", hint=_MAKING
            )
    return vectors


_BLOCK = 4096  # vectors checked together
_MAKING = "make such a file with: nlpcli embed --model DIR --out vectors.npy FILE"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, width) brought to the length 1; one of length 0 stays."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():  # the squares of large numbers are beyond their type
            largest = np.abs(vectors).max(axis=1, keepdims=True)
            vectors = vectors / np.where(largest > 0, largest, 1)
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)


def unit_float32(vectors: np.ndarray) -> np.ndarray:
    """The same in 32-bit numbers, also for vectors whose numbers are too large for those."""
    with np.errstate(over="ignore"):
        single = vectors.astype(np.float32)
    return unit(single) if np.isfinite(single).all() else unit(vectors).astype(np.float32)
