"""Several processes that are forked, so that they need not import torch again, with time limits everywhere."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import sys
import time
import traceback

import pytest
import torch
from torch import distributed

from nlpcli.training.distributed import processes as group

LIMIT = 180  # seconds, on a busy machine


def _child(rank, count, folder, function, argument):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank))
    try:
        torch.set_num_threads(1)
        group._connected.cache_clear()
        distributed.init_process_group(
            "gloo", store=distributed.FileStore(str(folder / "store"), count), rank=rank, world_size=count,
            timeout=datetime.timedelta(seconds=LIMIT),
        )  # fmt: skip
        (folder / f"{rank}.json").write_text(json.dumps(function(argument)))
        status = 0
    except BaseException as error:
        traceback.print_exc()
        (folder / f"{rank}.error").write_text(f"{type(error).__name__}: {error}")
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@pytest.fixture
def together(tmp_path_factory):
    """together(count, function, argument): what function(argument) gives in each of so many processes.

    Raises: AssertionError with the errors of those that failed, or did not end in time.
    """

    def run(count, function, argument=None):
        folder = tmp_path_factory.mktemp("group")
        context = multiprocessing.get_context("fork")
        children = [
            context.Process(target=_child, args=(rank, count, folder, function, argument)) for rank in range(count)
        ]
        for child in children:
            child.start()
        end = time.monotonic() + LIMIT
        for child in children:
            child.join(max(0.0, end - time.monotonic()))
        late = [rank for rank, child in enumerate(children) if child.is_alive()]
        for rank in late:
            children[rank].kill()
        errors = {path.stem: path.read_text() for path in sorted(folder.glob("*.error"))}
        assert not late and not errors, (late, errors)
        return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]

    return run
