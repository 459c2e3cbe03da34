"""A stopwatch that waits for the device."""

import time
from collections.abc import Callable

import torch

from famkd.errors import UserError

BLOCK = 20  # calls between two waits for a GPU: in an epoch nothing waits, so the next step is told while one runs


class Clock:
    """Milliseconds of calls, the device waited for."""

    def __init__(self, device: torch.device):
        self.device = device
        self.calls = BLOCK if device.type == "cuda" else 1

    def once(self, call: Callable[[], object]) -> float:
        """Of one call; on a GPU the mean of several one after another."""
        self._wait()
        start = time.perf_counter()
        for _ in range(self.calls):
            call()
        self._wait()
        return 1000 * (time.perf_counter() - start) / self.calls

    def in_turn(self, calls: list[Callable[[], object]], n: int) -> list[float]:
        """Median of each over n rounds; taking turns lets a machine's drift fall on all alike."""
        if n < 1:
            raise UserError(f"Nothing can be timed in {n} steps: pass --steps 1 or more.")
        rounds = [[self.once(call) for call in calls] for _ in range(n)]
        return [sorted(times)[n // 2] for times in zip(*rounds)]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
