"""A folder with a model in the ONNX format: the graph, model.yaml and the tokenizer; no other weights.

`model.onnx` has the inputs and outputs that `nlpcli.runs.onnx.graph` names. `pairs.onnx` is the head that compares two
vectors, where the model was trained with one. model.yaml has the contents of the original's, and `onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nlpcli import __version__
from nlpcli.config.files import sha256_file, write_together
from nlpcli.config.loading import dump_yaml
from nlpcli.config.optional_packages import optional
from nlpcli.errors import NlpcliError, unknown
from nlpcli.models.model_folder import DESCRIPTION, FORMAT, LoadedModel, save_tokenizer
from nlpcli.models.model_with_head import WithHead
from nlpcli.runs.onnx.graph import (
    INPUTS,
    INSTEAD,
    LOGITS,
    TEXT_VECTOR,
    ExportGraph,
    PairGraph,
    as_plain_operations,
    check_exportable,
    example_inputs,
    longest_text,
)
from nlpcli.runs.onnx.onnx_info import OnnxFacts, weights_fingerprint

GRAPH, PAIRS = "model.onnx", "pairs.onnx"
QUANTIZATIONS = ("int8",)
_OPSET = 20
_POOLINGS = ("first", "last", "mean", "max")  # those that a graph has


def check_quantization(quantization: str | None) -> None:
    """Raises: NlpcliError for a quantization that there is not."""
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise unknown("quantization", quantization, QUANTIZATIONS)


def write_onnx(
    folder: Path,
    loaded: LoadedModel,
    *,
    pooling: str | None = None,
    normalize: bool = False,
    layers: str | None = None,
    vector_length: int | None = None,
    quantization: str | None = None,
) -> None:
    """Writes the model into the empty folder `folder`.

    pooling, normalize, layers, vector_length: of the vector of a text, where the model was not trained with a head that
    makes one. quantization: `int8`: the matrices of attention and the first ones of feed-forward layers become 8-bit
    integers with a scale for each column, and their inputs with one for each batch; the second matrices stay as they
    are, because their inputs have outliers.

    Raises: NlpcliError for a model that no graph is made of, and where a package is missing.
    """
    check_quantization(quantization)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        optional(package, "onnx", "the ONNX format")
    check_exportable(loaded.config, loaded.model)
    trained = loaded.info.get("head") or {}
    if trained.get("kind") == "vector":
        pooling, layers = trained["pooling"], layers or trained.get("layers", "last")
        normalize = bool(trained.get("normalize", False))
    longest = longest_text(loaded.config, loaded.info)
    model = as_plain_operations(loaded.model, loaded.config, longest=longest)
    chosen = pooling or loaded.info.get("pooling") or loaded.config.text_pooling or "mean"
    chosen = chosen if chosen in _POOLINGS else "mean"
    vectors = WithHead(
        model.body, width=loaded.config.d_model, layers=layers or "last", side="encoder", kind="vector",
        pooling=chosen, normalize=normalize,
    ).eval()  # fmt: skip
    heads, outputs = _heads(model, vectors)
    segments = loaded.config.segment_count > 1
    inputs = example_inputs(loaded.vocab_size, segments=segments)
    graph = ExportGraph(vectors, heads)
    _export(folder / GRAPH, graph, inputs, INPUTS[: len(inputs)], graph.names, {0: "rows", 1: "length"}, longest)
    if quantization is not None:
        _quantize(folder / GRAPH)
    pairs = _pairs(folder / PAIRS, model)
    facts = OnnxFacts(
        quantization=quantization, layers=layers or "last", pooling=chosen, normalize=normalize,
        width=vectors.head.width, max_length=longest, vector_length=vector_length, segments=segments,
        outputs=outputs, fingerprint=weights_fingerprint(loaded.model.body), pairs_sha256=pairs,
    )  # fmt: skip
    _describe(folder, loaded, facts)


def _heads(model: Any, vectors: WithHead) -> tuple[dict[str, WithHead], dict[str, str]]:
    """The modules that the graph computes by the names of its outputs, and the name of each task's output."""
    heads, outputs = {}, {}
    for prefix, head in model.task_heads().items():
        task = prefix.removeprefix("tasks.").removesuffix(".")
        kind = TEXT_VECTOR if head.head.output_of == "vector" else LOGITS
        outputs[task] = f"{task}.{kind}" if task else kind
        heads[outputs[task]] = head
    return (heads if TEXT_VECTOR in heads else {**heads, TEXT_VECTOR: vectors}), outputs


def _pairs(file: Path, model: Any) -> str | None:
    """Writes the head that compares two vectors; its digest, None where there is no such head."""
    own = [head for head in model.task_heads().values() if getattr(head.head, "classes", None) is not None]
    if not own:
        return None
    import torch

    u, v = torch.zeros(2, 2, own[0].head.width).unbind()  # an input that stood twice would be one in the graph
    _export(file, PairGraph(own[0]), (u, v), ("u", "v"), (LOGITS,), {0: "rows"}, None)
    return sha256_file(file)


def _describe(folder: Path, loaded: LoadedModel, facts: OnnxFacts) -> None:
    save_tokenizer(folder, loaded.tokenizer)
    description = {
        **{name: value for name, value in loaded.info.items() if name != "left_out"},
        "nlpcli": __version__,
        "format": FORMAT,
        "model": loaded.config.model_dump(),
        "vocab_size": loaded.vocab_size,
        "tokenizer": loaded.tokenizer.fingerprint,
        "sha256": sha256_file(folder / GRAPH),
        "onnx": facts.model_dump(),
    }
    write_together({folder / DESCRIPTION: dump_yaml(description)})


def _export(
    file: Path,
    module: nn.Module,
    inputs: Sequence[Tensor],
    names: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[int, str],
    longest: int | None,
) -> None:
    """Writes the graph of a module. axes: of inputs, whose size is free; `length` is at most `longest`."""
    import torch

    free = {
        axis: torch.export.Dim(name, max=longest) if name == "length" else torch.export.Dim(name)
        for axis, name in axes.items()
    }
    try:
        with _quietly(), torch.no_grad():
            traced = torch.export.export(
                module.eval(), tuple(inputs), dynamic_shapes=tuple(free for _ in inputs), strict=False
            )
            program: Any = torch.onnx.export(
                traced, dynamo=True, opset_version=_OPSET, optimize=True, verbose=False, input_names=list(names),
                output_names=list(outputs),
            )  # fmt: skip
            program.save(str(file))
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:  # what torch's exporters raise
        why = str(error).strip().splitlines()[0]
        raise NlpcliError(f"the model can't be exported to ONNX ({why})", hint=INSTEAD) from error


def _quantize(file: Path) -> None:
    """Makes the large matrices of a graph 8-bit integers, in place; see `write_onnx`."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = onnx.load(str(file), load_external_data=False).graph.node
    kept = [node.name for node in nodes if node.op_type == "MatMul" and _is_second_matrix(node)]
    with _quietly():
        quantize_dynamic(
            str(file), str(file), op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
            nodes_to_exclude=kept, extra_options={"MatMulConstBOnly": True},
            reduce_range=True,  # 7 bits: without VNNI, sums of two products of 8 bits overflow
        )  # fmt: skip


def _is_second_matrix(node: Any) -> bool:
    """Whether a node is the second product of a feed-forward layer, by the exporter's note of its origin."""
    return any("feed_forward.outer" in entry.value for entry in node.metadata_props)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps what exporters log, warn and print away from the user: none of it is about the model."""
    import contextlib
    import io
    import logging
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
