"""`nlpcli` for shells that call it hundreds of times: a server that has imported everything forks for each call.

    python command_server.py SOCKET            serves
    python command_server.py SOCKET ARGUMENT…  calls: same arguments, folder, environment and streams as a real call

A call costs the start of a bare Python, not an import of torch and of all that commands import when they need it.
`smaller` makes trainings short; the rest of a command line is run as it stands.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

_LIMITS = ("--max-minutes", "--max-epochs", "--max-steps", "--max-tokens")
_FEW_STEPS = ("--max-steps", "2", "--set", "training.bleu_sentences=4")


def smaller(arguments: list[str]) -> list[str]:
    """The same call with a training of two steps, or a short demonstration."""
    command = arguments[:1]
    if command == ["demo"]:
        return [*arguments, "--minutes", "0.05"]
    if command == ["compare"]:
        return [*arguments, *_FEW_STEPS[2:]]
    trains = command in (["pretrain"], ["finetune"]) and not {"--show", "--dry-run", "--help"} & set(arguments)
    if not trains:
        return arguments
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument not in _LIMITS:
            kept.append(argument)
        skip = argument in _LIMITS and not skip
    return [*kept, *(_FEW_STEPS if "--resume" not in kept else ("--max-steps", "3"))]


_SLOW_IMPORTS = (
    "torch._dynamo",  # by the first optimizer
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.figure",
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
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    from nlpcli.cli.main import main

    status = 1
    arguments = smaller(call["arguments"])
    sys.argv = ["nlpcli", *arguments]
    try:
        status = int(main(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        connection.sendall(bytes([status]))
        os._exit(status)


def call(path: str, arguments: list[str]) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        message = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        socket.send_fds(connection, [json.dumps(message).encode()], [0, 1, 2])
        answer = connection.recv(1)
    return answer[0] if answer else 70


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        raise SystemExit(call(sys.argv[1], sys.argv[2:]))
