"""The entry point: runs a command and turns whatever ends it into an exit status and at most one sentence."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, TextIO

from nlpcli.errors import (
    ExitStatus,
    Interruption,
    NlpcliError,
    RunFailed,
    interrupt_status,
    is_out_of_memory,
    nearest,
)
from nlpcli.escaping import HINT, sentence

COMPLETION_VARIABLE = "_NLPCLI_COMPLETE"
TRACEBACK_VARIABLE = "NLPCLI_TRACEBACK"

_USUAL = {
    **dict.fromkeys(("format", "f"), "--json"),
    "preset": "--model",
    "metrics": "--metric",
    "learning-rate": "--lr",
    "epochs": "--max-epochs",
    "steps": "--max-steps",
    "input": "--data",
    **dict.fromkeys(("width", "w", "precision"), "--decimals"),
    "patience": "--beam-patience",
    "memory": "--memory-length",
    "as": "--unit",
}
"""Other names of an option, in other commands or programs, for a command that does not have it."""

_SENTENCES = {
    r"'-\w' / '(--[\w-]+)'(?: / '--[\w-]+')?": r"'\1'",
    r": Input should be greater than or equal to (\S+)$": r": Input should be at least \1",
    r": Input should be less than or equal to (\S+)$": r": Input should be at most \1",
    r"^Invalid value '(.*)' for '(.+?)': Input should be (.+)$": r"\2 must be \3, not '\1'",
    r"^Missing command$": "'COMMAND' needs the name of a command",
    r"^Missing (argument|option) '(.+)'$": r"the \1 \2 is missing",
    r"^Got unexpected extra arguments?(?:\(s\))? \((.+)\)$": r"'COMMAND' does not take the argument '\1'",
    r"^Option '(.+)' requires an argument$": r"the option \1 needs a value",
    r"^Option '(.+)' requires (\d+) arguments$": r"the option \1 needs \2 values",
    r"^Option '(.+)' does not take a value$": r"the option \1 takes no value",
}
"""Sentences of Typer about a call, as patterns, and what is reported instead."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `nlpcli ARGV` and returns its exit status; without `argv`, the arguments of this process.

    No exception leaves this function, KeyboardInterrupt included.
    """
    whole_process = argv is None
    arguments = list(sys.argv[1:] if argv is None else argv)
    # OpenMP's spinning barriers slow every process on a busy machine; the choice must stand before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if whole_process and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        status = _status_of(arguments)
    finally:
        if whole_process:
            # Nothing is left to save: from here on a signal just ends the process, without a traceback.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            gc.freeze()  # Python would search all modules for garbage before it ends the process
    if whole_process and status in (ExitStatus.INTERRUPTED, ExitStatus.TERMINATED):
        _leave(status)
    return status


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a command as Ctrl-C does: what has to be tidied up is."""
    raise Interruption(number)


def _leave(status: int) -> NoReturn:
    """Ends the process after what is registered for its end; taking torch apart would only make the user wait."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _status_of(arguments: list[str]) -> int:
    try:
        try:
            from nlpcli.cli.terminal import prepare_streams

            prepare_streams()
            _let_first_process_talk()
            status = _run(arguments)
            sys.stdout.flush()
            return status
        except BaseException as error:
            return _report_error(error, arguments)
    except KeyboardInterrupt as error:  # a second Ctrl-C while the first was being answered
        return interrupt_status(error)
    except OSError:  # nobody listens on stderr
        _drop(sys.stderr)
        return ExitStatus.FAILED


def _let_first_process_talk() -> None:
    """Where several processes run a command together, only the first one writes more than errors."""
    from nlpcli.training.distributed.environment import process_count, process_rank

    if process_count() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its advice on unused parameters is not for users
    if process_rank():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _run(arguments: list[str]) -> int:
    from nlpcli.cli.app import PROGRAM, build

    command = build()
    if COMPLETION_VARIABLE in os.environ:
        command.main(args=arguments, prog_name=PROGRAM)
        return ExitStatus.OK
    if not arguments:
        with command.make_context(PROGRAM, ["--help"], resilient_parsing=True) as context:
            print(command.get_help(context), file=sys.stderr)
        return ExitStatus.BAD_INPUT
    with command.make_context(PROGRAM, arguments) as context:
        result = command.invoke(context)
    return result if isinstance(result, int) else ExitStatus.OK


def _report_error(error: BaseException, arguments: list[str]) -> int:
    """Reports `error` on stderr and returns its exit status."""
    if isinstance(error, SystemExit):
        return _ended(_code(error), arguments)
    if hasattr(error, "exit_code") and not hasattr(error, "format_message"):  # typer.Exit
        return _ended(error.exit_code, arguments)
    if isinstance(error, BrokenPipeError):
        _drop(sys.stdout)
        return ExitStatus.OK
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        _drop_unwritable()
        if sys.stderr.isatty():
            print(file=sys.stderr)  # past the ^C that the terminal shows
        return interrupt_status(error)
    shown = _in_words(error, arguments)
    who = ""
    if getattr(sys.stderr, "name", None) == os.devnull:  # one of several processes, see above
        from nlpcli.training.distributed.environment import is_connected, process_rank

        if type(error).__name__ == "ProcessLost" or not is_connected():  # the first process reports the same
            return shown.status
        sys.stderr, who = sys.__stderr__, f"process {process_rank()}: "
    _show_traceback(error)
    _drop_unwritable()
    print(f"nlpcli: {who}{sentence(shown.message)}", file=sys.stderr)
    if shown.hint:
        print(f"  hint: {sentence(shown.hint, HINT)}", file=sys.stderr)
    return shown.status


def _code(error: SystemExit) -> int:
    if error.code is None:
        return ExitStatus.OK
    return error.code if isinstance(error.code, int) else ExitStatus.FAILED


def _ended(status: int, arguments: list[str]) -> int:
    """The exit status a command ended with, if what it wrote has arrived."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _report_error(error, arguments)
    return status


def _in_words(error: BaseException, arguments: list[str]) -> NlpcliError:
    if isinstance(error, NlpcliError):
        return error
    if hasattr(error, "format_message"):  # Typer's errors about the call
        return _usage(error, error.format_message(), arguments)
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, RecursionError):
        return NlpcliError("the input is nested too deeply", hint="flatten the input, such as its lists in lists")
    if is_out_of_memory(error):
        return RunFailed(
            "there is not enough memory",
            hint="use smaller batches (--batch-tokens or --batch-size), shorter texts or a smaller model",
        )
    text = " ".join(str(error).split())
    return RunFailed(
        f"internal error: {type(error).__name__}: {text}" if text else f"internal error: {type(error).__name__}",
        hint=f"this is a bug in nlpcli; the environment variable {TRACEBACK_VARIABLE}=1 shows the traceback",
    )


def _usage(error: BaseException, message: str, arguments: list[str]) -> NlpcliError:
    """Typer's sentence without its capital and full stop, with the value and the nearest right spelling."""
    message = " ".join(message.split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else " ".join(["nlpcli", *arguments[:1]])
    hint = f"'{command} --help' lists its options"
    wrong = getattr(error, "option_name", None)
    if wrong is not None and hasattr(error, "possibilities"):
        message = f"unknown option '{wrong}' of '{command}'"
        parameters = context.command.get_params(context) if context is not None else []
        names = [name for parameter in parameters for name in parameter.opts if name.startswith("-")]
        usual = _USUAL.get(wrong.partition("=")[0].lstrip("-"), "")
        near = usual if usual in names else nearest(wrong, names)
        hint = f"did you mean '{near}'?" if near else hint
    value = _given(getattr(error, "param", None), arguments)
    if value is not None and f"'{value}'" not in message:
        message = message.replace("nvalid value for", f"nvalid value '{value}' for", 1)
    message = message.rstrip(".")
    for pattern, sentence_of in _SENTENCES.items():
        message = re.sub(pattern, sentence_of, message)
    message = message.replace("COMMAND", command)
    return NlpcliError(message[:1].lower() + message[1:], hint=hint)


def _given(parameter: object, arguments: list[str]) -> str | None:
    """The value of an option in the call."""
    for name in getattr(parameter, "opts", ()):
        for place, argument in enumerate(arguments):
            if argument == name and place + 1 < len(arguments):
                return arguments[place + 1]
            if argument.startswith(f"{name}="):
                return argument[len(name) + 1 :]
    return None


def _system(error: OSError) -> NlpcliError:
    place = f"{error.filename}: " if error.filename is not None else ""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.EBADF and not place:
        return RunFailed("standard output is closed", hint="send the results to a file or to another program")
    if error.errno in _NO_ROOM:
        what = "standard output" if error.filename is None else error.filename
        return RunFailed(
            f"{what} can't be written, because no space is left on the disk",
            hint="free some disk space, then run the command again",
        )
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)):
        return NlpcliError(f"{place}{reason}")
    return RunFailed(f"{place}{reason}")


def _show_traceback(error: BaseException) -> None:
    if os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)


def _drop_unwritable() -> None:
    """Results still waiting in the buffer are written now, or else given up, so that nothing complains at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _drop(sys.stdout)


def _drop(stream: TextIO) -> None:
    """Points a stream whose other end is gone or full to nowhere; its buffer would fail again at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return
