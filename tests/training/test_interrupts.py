from __future__ import annotations

import os
import signal
import threading

import pytest

from nlpcli.errors import interrupt_status
from nlpcli.training.distributed.processes import Processes
from nlpcli.training.interrupts import Interrupted, Interrupts, InterruptsBetweenRuns


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_interrupts(number):
    with Interrupts() as interrupts:
        interrupts.check()
        send(number)
        assert interrupts.requested
        with pytest.raises(Interrupted) as met:
            interrupts.check()
        assert interrupt_status(met.value) == 128 + number
        with pytest.raises(KeyboardInterrupt) as caught:
            send(number)
        assert not isinstance(caught.value, Interrupted)
        assert interrupt_status(caught.value) == 128 + number


@pytest.mark.processes
def test_work_that_can_be_done_again_is_given_up_at_the_first_signal():
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted), interrupts.at_once():
            send()
        with pytest.raises(Interrupted), interrupts.at_once():  # and not begun at all afterwards
            pytest.fail("was begun")


def test_afterwards_signals_do_what_they_did_before():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError), Interrupts():
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_nothing_is_changed():
    found = []

    def work():
        with Interrupts() as interrupts:
            interrupts.check()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


@pytest.mark.processes
def test_a_signal_that_comes_while_processes_speak_is_not_lost(run_clm, quiet, monkeypatch):
    plain = Processes.sums
    calls = []

    def sums(self, *numbers):
        total = plain(self, *numbers)
        calls.append(numbers)
        if len(calls) == 5:
            send()
        return total

    monkeypatch.setattr(Processes, "sums", sums)
    with pytest.raises(Interrupted):
        run_clm("run", quiet())
    assert len(calls[4]) == 4 and len(calls) < 12  # of 40 steps, each with three


@pytest.mark.processes
def test_a_signal_in_a_run_that_ends_all_the_same_ends_the_sequence():
    with InterruptsBetweenRuns() as between:
        with Interrupts():
            pass
        between.check()
        with Interrupts():
            send(signal.SIGTERM)
        with pytest.raises(Interrupted) as met:
            between.check()
        assert interrupt_status(met.value) == 128 + signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):  # between the runs it does what it did before
            send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
