"""Time calls on a device."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from famkd.errors import UserError

Call = Callable[[], object]

# Calls per synchronization with a GPU. Training does not synchronize after each step, so neither does this: the next
# step is launched while one runs.
CALLS_PER_WAIT = 20


def processor_seconds(call: Call) -> float:
    """Seconds that the threads of this process compute during a call. Other programs hardly disturb it."""
    start = time.process_time()
    call()
    return time.process_time() - start


class Timer:
    """Measures milliseconds of calls on a device, and waits for the device before it reads the clock."""

    def __init__(self, device: torch.device):
        self.device = device
        self.calls = CALLS_PER_WAIT if device.type == "cuda" else 1

    def once(self, call: Call) -> float:
        """Milliseconds of a call; on a GPU the mean of several calls in a row."""
        self._wait()
        start = time.perf_counter()
        for _ in range(self.calls):
            call()
        self._wait()
        return 1000 * (time.perf_counter() - start) / self.calls

    def medians(self, calls: Sequence[Call], rounds: int) -> list[float]:
        """Median of each call over several rounds, in which the calls take turns, so that drift affects all alike."""
        if rounds < 1:
            raise UserError(f"Nothing can be timed in {rounds} steps: pass --steps 1 or more.")
        times = [[self.once(call) for call in calls] for _ in range(rounds)]
        return [statistics.median(of_call) for of_call in zip(*times)]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
