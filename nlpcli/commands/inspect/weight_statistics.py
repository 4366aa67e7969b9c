"""The tensors in a safetensors file: their header entries, and their values on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpcli.commands.inspect.findings import Finding, Inspection, Section, amount, size
from nlpcli.config.files import check_regular
from nlpcli.errors import NlpcliError, missing_path_hint

_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "U8": 8, "I8": 8, "BOOL": 8}
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}


@dataclass(frozen=True)
class Tensor:
    """The entry of a tensor in a file's header."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def bytes(self) -> int:
        return self.numbers * _BITS.get(self.dtype.upper().split("_")[0], 8 if self.dtype.startswith("F8") else 32) // 8


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, its parts where it has several."""
    whole = folder / "model.safetensors"
    return [whole] if whole.exists() else sorted(folder.glob("model-*-of-*.safetensors"))


def header(path: Path) -> list[Tensor]:
    """The tensors in a file, in its order. Raises: NlpcliError for one that is missing, cut off, or no safetensors."""
    with _opened(path) as file:
        slices = ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118
        return [Tensor(name, part.get_dtype(), tuple(part.get_shape())) for name, part in slices]


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise NlpcliError(f"{path}: no such file", hint=missing_path_hint(path)) from None
    except (SafetensorError, OSError) as error:
        raise NlpcliError(
            f"{path}: the file is damaged or incomplete, or is not a safetensors file ({error})",
            hint="copy or download it again",
        ) from None


def statistics(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """For each tensor: name, shape, dtype, mean, std, min, max of its finite numbers, and how many are not finite."""
    import torch

    for path in paths:
        stored = header(path)
        with _opened(path) as file:
            for tensor in stored:
                values = file.get_tensor(tensor.name)
                numbers = values.double() if values.is_floating_point() else values.long().double()
                finite = numbers[torch.isfinite(numbers)]
                row: dict[str, Any] = {
                    "name": tensor.name,
                    "shape": list(tensor.shape),
                    "dtype": dtype_name(tensor.dtype),
                    "not_finite": int(numbers.numel() - finite.numel()),
                }
                if finite.numel():
                    row |= {
                        "mean": float(finite.mean()),
                        "std": float(finite.std(unbiased=False)),
                        "min": float(finite.min()),
                        "max": float(finite.max()),
                    }
                yield row


def not_finite(paths: Sequence[Path]) -> list[Finding]:
    """The finding of weights that are infinite or no numbers."""
    import torch

    names, count = [], 0
    for path in paths:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                wrong = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
                if wrong:
                    names.append(name)
                    count += wrong
    if not count:
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [Finding("not_finite", f"weights that are not finite, in {names[0]}{more}", count, True)]


def dtype_name(dtype: str) -> str:
    return _TYPES.get(dtype, dtype.lower())


def stored_types(tensors: Sequence[Tensor]) -> dict[str, int]:
    """How many numbers are stored in each type."""
    found: dict[str, int] = {}
    for tensor in tensors:
        name = dtype_name(tensor.dtype)
        found[name] = found.get(name, 0) + tensor.numbers
    return found


def weight_section(rows: Sequence[dict[str, Any]]) -> Section:
    """The statistics as a table."""
    cells = []
    for row in rows:
        numbers = [f"{row[name]:.3g}" if name in row else "-" for name in ("mean", "std", "min", "max")]
        shape = "×".join(map(str, row["shape"])) or "1"
        cells.append([row["name"], shape, row["dtype"], *numbers, f"{row['not_finite']:,}"])
    headings = ("name", "shape", "type", "mean", "std", "min", "max", "not finite")
    return Section("Weights", cells, headings)


def inspect_weights(path: Path, *, weights: bool = False) -> Inspection:
    """A file of tensors. weights: their statistics too. Raises: NlpcliError for one that can't be read."""
    tensors = header(path)
    types = stored_types(tensors)
    numbers = sum(types.values())
    facts: dict[str, Any] = {
        "tensors": len(tensors),
        "values": numbers,
        "values_by_dtype": types,
        "bytes": path.stat().st_size,
    }
    rows = [
        ("tensors", f"{len(tensors):,}"),
        ("values", f"{numbers:,} ({amount(numbers)})"),
        ("data types", ", ".join(f"{name} {count:,}" for name, count in types.items())),
        ("size", size(facts["bytes"])),
    ]
    sections = [Section("Tensors", rows)]
    if weights:
        facts["weights"] = list(statistics([path]))
        sections.append(weight_section(facts["weights"]))
    else:
        largest = sorted(tensors, key=lambda tensor: -tensor.numbers)[:10]
        table = [[t.name, "×".join(map(str, t.shape)) or "1", f"{t.numbers:,}"] for t in largest]
        sections.append(Section("The largest tensors", table, ("name", "shape", "values")))
    return Inspection("weights", "a file of tensors (safetensors)", str(path), facts, sections, not_finite([path]))
