"""Random numbers that follow from a seed alone, and leave the program's own generators as they were."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*numbers: int) -> int:
    """A seed that differs for every other tuple of numbers, however close."""
    text = ",".join(map(str, numbers)).encode()
    digest = hashlib.blake2b(text, digest_size=7).digest()
    return int.from_bytes(digest, "big")


def generator_of(seed: int, epoch: int) -> torch.Generator:
    """The generator of an epoch's order and crops, on the CPU, so that they are the same on every device."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Seed torch's generator on the CPU, and restore its state at the end."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed also seeds the GPUs, a hundred times as slow
    try:
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def drawing_anywhere(seed: int) -> Iterator[None]:
    """`drawing` that seeds Python's and numpy's generators too, which a Dataset of the user's may use."""
    state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    try:
        with drawing(seed):
            yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
