"""Random numbers that a Dataset of torch draws: those of a seed, and none of the program's own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def draws_from(seed: int) -> Iterator[None]:
    """Seed the generators of torch (on the CPU), Python and numpy, and restore their states at the end."""
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also seeds the GPUs, a hundred times as slow
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    try:
        yield
    finally:
        torch.set_rng_state(state[0])
        random.setstate(state[1])
        np.random.set_state(state[2])
