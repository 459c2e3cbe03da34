"""A stopwatch that waits for the device."""

import time
from collections.abc import Callable

import torch


class Clock:
    """Milliseconds of calls, the device waited for."""

    def __init__(self, device: torch.device):
        self.device = device

    def once(self, call: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        call()
        self._wait()
        return 1000 * (time.perf_counter() - start)

    def in_turn(self, calls: list[Callable[[], object]], n: int) -> list[float]:
        """Median of each over n rounds; taking turns lets a machine's drift fall on all alike."""
        rounds = [[self.once(call) for call in calls] for _ in range(n)]
        return [sorted(times)[n // 2] for times in zip(*rounds)]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
