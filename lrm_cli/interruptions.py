"""What interrupts a command: Ctrl-C, schedulers and containers, a terminal that closes."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

# What a terminal sends to all processes of a command: Ctrl-C, and that it closes.
TERMINAL_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]


class _Interruption:
    """By signals that are heard: whether one has come, and whether it has to wait."""

    def __init__(self) -> None:
        self.came = False
        self.held = False
        self.heard: list[int] = []

    def happen(self) -> NoReturn:
        """Once; while all is put in order no signal is heard."""
        for number in self.heard:
            signal.signal(number, signal.SIG_IGN)
        self.came = False
        raise KeyboardInterrupt


_interruption = _Interruption()


@contextlib.contextmanager
def one_interruption() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, with everything put in order.

    The clean-up takes a moment; who presses Ctrl-C again meanwhile is not to tear it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (*TERMINAL_SIGNALS, signal.SIGTERM)
    # Ignored is Ctrl-C in what a shell has started in the background, and SIGHUP under nohup.
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(_number: int, _frame: object) -> None:
        if _interruption.held and not _interruption.came:
            _interruption.came = True
        else:  # a second one waits for nothing
            _interruption.happen()

    _interruption.came, _interruption.heard = False, heard
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        _interruption.heard = []
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What is in here is interrupted where it lets interruptions through, and at its end.

    Anywhere else the first one waits: it might cut another process's message in two, or lose it.
    """
    with _holding(True):
        yield
    _let_through()


@contextlib.contextmanager
def let_through() -> Iterator[None]:
    """What is in here may be interrupted at once, also within `held`."""
    with _holding(False):
        _let_through()
        yield


@contextlib.contextmanager
def _holding(held: bool) -> Iterator[None]:
    before, _interruption.held = _interruption.held, held
    try:
        yield
    finally:
        _interruption.held = before


def _let_through() -> None:
    if _interruption.came and not _interruption.held:
        _interruption.happen()


def end_in_words(code: int) -> str:
    """What a process's exit code says of its end; negative ones are signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # of those for real time only the first and the last have one
        return f"signal {-code}"
    if name == "SIGKILL":
        return "SIGKILL, with which systems end what takes too much memory"
    return name
