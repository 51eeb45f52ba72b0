"""SIGTERM waits for the step, and goes where it went before once there are no more steps."""

import os
import signal
import threading

import pytest

from dart_jax.sft.preemption import Preemption, Terminated


@pytest.fixture
def received():
    """Signals that reached the handler from before."""
    numbers = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGTERM, before)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_is_a_request(received):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), Preemption() as stop:
        assert not stop.agreed()
        terminate()
        assert stop.agreed()
        raise Terminated(143)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert received == []


def test_a_request_that_came_too_late_is_passed_on(received):
    with Preemption():
        terminate()
        assert received == []
    assert received == [signal.SIGTERM]


def test_without_a_signal_nothing_is_passed_on(received):
    with Preemption() as stop:
        assert not stop.agreed()
    assert received == []


def test_another_thread_leaves_the_handler_alone(received):
    def enter():
        with Preemption() as stop:
            terminate()
            found.append(stop.agreed())

    found = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]
    assert received == [signal.SIGTERM]
