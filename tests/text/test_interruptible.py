"""Work in a thread beside."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from nlpcli.text.interruptible import interruptible

_LONG_WORK = """
import threading
from nlpcli.text.interruptible import interruptible
print("begun", flush=True)
try:
    interruptible(threading.Event().wait)
except KeyboardInterrupt:
    print("answered", flush=True)
"""


def test_the_result_and_the_error_are_those_of_the_work():
    assert interruptible(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 / 0)
    assert interruptible(threading.current_thread) is not threading.current_thread()


@pytest.mark.processes
def test_an_interrupt_is_answered_while_the_work_goes_on():
    with subprocess.Popen([sys.executable, "-c", _LONG_WORK], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "begun\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=30)[0] == "answered\n"
    assert child.returncode == 0
