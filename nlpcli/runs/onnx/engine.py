"""Running a model that was exported to ONNX, by onnxruntime on the CPU, where tasks and vectors expect a model."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlpcli.config.counting import counted
from nlpcli.config.files import check_regular, sha256_file
from nlpcli.config.loading import parse
from nlpcli.config.model_settings import ModelConfig
from nlpcli.config.optional_packages import optional
from nlpcli.errors import NlpcliError
from nlpcli.models.model_folder import DESCRIPTION, TOKENIZER, LoadedModel, own_tokenizer, read_info
from nlpcli.models.padded_batch import Rows
from nlpcli.runs.onnx.folder import GRAPH, PAIRS
from nlpcli.runs.onnx.graph import INPUTS, LOGITS, TOKEN_INPUTS, TOKEN_STATES
from nlpcli.runs.onnx.onnx_info import OnnxFacts, facts_of


class OnnxModel:
    """A graph in the place of a `WithHead`: what a task's head makes of rows, or the states of their tokens.

    body: the attributes of the model below the head that vectors of texts use. head: compares the vectors of two texts.
    """

    def __init__(self, graph: Any, pairs: Any, facts: OnnxFacts) -> None:
        self._graph = graph
        self.facts = facts
        self._output = facts.outputs.get("")
        self.head = SimpleNamespace(width=facts.width, compare=_Comparison(pairs))
        self.body = SimpleNamespace(token_frequencies=None, token_embedding=self._token_inputs)

    def __call__(self, rows: Rows) -> Tensor:
        assert self._output is not None, "the model has no head"
        return self._run(rows, self._output)

    def of(self, task: str) -> OnnxModel:
        """The same graph with the output of one task of several."""
        found = copy.copy(self)
        found._output = self.facts.outputs[task]
        return found

    def states(self, rows: Rows) -> Tensor:
        """(rows, n, width) states of tokens, see `WithHead.states`."""
        return self._run(rows, TOKEN_STATES)

    def _token_inputs(self, ids: Tensor) -> Tensor:
        """(rows, n) -> (rows, n, d_embedding)"""
        ends = torch.full((len(ids),), ids.size(1) - 1)
        return self._run(Rows(ids, None, None, ends), TOKEN_INPUTS)

    def _run(self, rows: Rows, output: str) -> Tensor:
        ids = rows.ids.numpy()
        if ids.shape[1] > self.facts.max_length:
            longest = counted(self.facts.max_length, "token")
            raise NlpcliError(f"a text has {ids.shape[1]:,} tokens, but the ONNX graph reads at most {longest}")
        mask = np.ones_like(ids) if rows.mask is None else rows.mask.numpy().astype(ids.dtype)
        given = [ids, mask]
        if self.facts.segments:
            given.append(np.zeros_like(ids) if rows.segments is None else rows.segments.numpy())
        return _computed(self._graph, [output], dict(zip(INPUTS, given, strict=False)))


class _Comparison:
    """`VectorHead.compare` by a graph; session: None where the model was not trained with one."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, u: Tensor, v: Tensor) -> Tensor:
        assert self._session is not None, "the model compares no vectors"
        return _computed(self._session, [LOGITS], {"u": u.numpy(), "v": v.numpy()})


def _computed(session: Any, outputs: list[str], inputs: dict[str, np.ndarray]) -> Tensor:
    import onnxruntime

    only = onnxruntime.RunOptions()
    only.only_execute_path_to_fetches = True
    return torch.from_numpy(session.run(outputs, inputs, only)[0])


def open_onnx(path: Path, threads: int) -> LoadedModel:
    """The model in a folder that `write_onnx` made, run on so many threads.

    Raises: NlpcliError for a damaged or altered folder, and where onnxruntime is missing.
    """
    path = Path(path)
    info = read_info(path)
    facts = facts_of(info, path)
    assert facts is not None, "the folder has a graph"
    graph = _session(path / GRAPH, info["sha256"], threads)
    pairs = None if facts.pairs_sha256 is None else _session(path / PAIRS, facts.pairs_sha256, threads)
    named = {output.name for output in graph.get_outputs()}
    if not named >= {TOKEN_STATES, TOKEN_INPUTS, *facts.outputs.values()}:
        raise NlpcliError(f"{path / DESCRIPTION}: the description names outputs that {GRAPH} does not have")
    config = parse(ModelConfig, info["model"], str(path / DESCRIPTION))
    tokenizer = own_tokenizer(path / TOKENIZER, info["tokenizer"])
    return LoadedModel(OnnxModel(graph, pairs, facts), tokenizer, config, info, path)


def _session(file: Path, digest: str, threads: int) -> Any:
    runtime = optional("onnxruntime", "onnx", "a model in the ONNX format")
    if not file.exists():
        raise NlpcliError(f"{file.parent}: the model folder is incomplete, {file.name} is missing")
    check_regular(file)
    if sha256_file(file) != digest:
        raise NlpcliError(f"{file}: the file is damaged or was replaced (its SHA-256 is not the one in {DESCRIPTION})")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as OpenMP's threads here
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no base class for its own
        why = str(error).strip().splitlines()[0]
        raise NlpcliError(f"{file}: onnxruntime can't read the graph ({why})") from error
