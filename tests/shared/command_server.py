"""`nlpcli` for tests that call it hundreds of times: a server that has imported everything forks for each call.

    python command_server.py serve SOCKET
    python command_server.py call SOCKET ARGUMENT…  with the arguments, folder, environment and streams of a real call

A call costs the start of a bare Python, not an import of torch and of all that commands import when they need it. What
Python and its libraries read from the environment when they start is that of the server.

Where the environment variable `NLPCLI_SHORTENED` names a folder, trainings are short and the sample data is the one in
that folder; the rest of a command line is run as it stands.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import sys

SHORTENED = "NLPCLI_SHORTENED"
_LIMITS = ("--max-minutes", "--max-epochs", "--max-steps", "--max-tokens")
_SMALL = ("--set", "training.bleu_sentences=4", "--set", "training.batch_tokens=1024")


def shortened(arguments: list[str]) -> list[str]:
    """The same call with a training of two steps, a small vocabulary, or a short demonstration."""
    command = arguments[:1]
    if command == ["demo"]:
        return [*arguments, "--minutes", "0.05"]
    if command == ["compare"]:
        return [*arguments, *_SMALL[:2]]
    if arguments[:2] == ["tokenize", "train"]:
        return [*_without(arguments, ("--vocab-size",)), "--vocab-size", "500"]
    if command not in (["pretrain"], ["finetune"]) or {"--show", "--dry-run", "--help"} & set(arguments):
        return arguments
    arguments = _without(arguments, _LIMITS)
    if "--resume" in arguments:
        return [*arguments, "--max-steps", "3"]
    return [*arguments, "--max-steps", "2", *(_SMALL[:2] if "--batch-tokens" in arguments else _SMALL)]


def _without(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """The arguments but for these options and their values."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument not in options:
            kept.append(argument)
        skip = argument in options and not skip
    return kept


_SLOW_IMPORTS = (
    "torch._dynamo",  # by the first optimizer
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.figure",
    "sklearn.cluster",
)


def _import_everything() -> None:
    """All modules of nlpcli, with what they import at their top, and what is imported late and takes long."""
    import importlib
    import pkgutil

    import nlpcli

    for module in pkgutil.walk_packages(nlpcli.__path__, "nlpcli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _SLOW_IMPORTS:
        importlib.import_module(name)


def serve(path: str) -> None:
    _import_everything()
    gc.freeze()  # or each training would search all modules for garbage
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    data, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    call = json.loads(data)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = sys.__stdin__ = open(0)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w")  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    arguments = call["arguments"]
    if folder := os.environ.pop(SHORTENED, None):
        arguments = shortened(arguments)
        _replace_sample_data(folder)
    from nlpcli.cli.main import main

    status = 1
    sys.argv = ["nlpcli", *arguments]
    try:
        status = int(main())
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        connection.sendall(bytes([status]))
        os._exit(status)


def _replace_sample_data(folder: str) -> None:
    from pathlib import Path

    from nlpcli.data import sample_data

    sample_data.sample_folder = lambda: Path(folder)


def call(path: str, arguments: list[str]) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        message = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(message).encode()], [0, 1, 2])
        answer = connection.recv(1)
    return answer[0] if answer else 70


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        raise SystemExit(call(sys.argv[2], sys.argv[3:]))
