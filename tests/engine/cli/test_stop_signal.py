"""Ctrl-C within stop_on_interrupt, and what it leaves alone."""

from __future__ import annotations

import signal
import threading

import pytest

from ti_engine.cli.stop_signal import stop_on_interrupt

pytestmark = pytest.mark.usefixtures("interruptible")


def test_the_first_only_asks_and_the_second_ends_at_once() -> None:
    with stop_on_interrupt() as is_asked_to_stop:
        assert not is_asked_to_stop()
        signal.raise_signal(signal.SIGINT)
        assert is_asked_to_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_ctrl_c_is_ignored_it_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_interrupt() as is_asked_to_stop:
        signal.raise_signal(signal.SIGINT)
        assert not is_asked_to_stop()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_outside_of_the_main_thread_nothing_changes() -> None:
    found = []

    def other() -> None:
        with stop_on_interrupt() as is_asked_to_stop:
            found.append((is_asked_to_stop(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [(False, signal.default_int_handler)]
