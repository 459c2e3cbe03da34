"""Stopping a training when its machine is wanted back: SIGTERM, and the SIGUSR1 that SLURM sends some time before."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class EpochInterrupted(Exception):
    """An epoch that was left between two steps, and what it had come to, if to anything."""

    def __init__(self, reason: str, state: dict | None):
        super().__init__(reason)
        self.state = state


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], str]]:
    """While this lasts, such a signal does nothing but be told by name by what is yielded; "" until one comes.

    A second one ends the process as it would have without this. In a thread other than the main one, none is caught.
    """
    came: list[str] = []
    before = {}

    def note(number: int, frame) -> None:
        came.append(signal.Signals(number).name)
        _restore(before)

    try:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGUSR1"):
                if hasattr(signal, name):  # Windows has one of them
                    before[getattr(signal, name)] = signal.signal(getattr(signal, name), note)
        yield lambda: came[0] if came else ""
    finally:
        _restore(before)


def _restore(handlers: dict) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
