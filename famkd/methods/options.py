"""What options may say: a ValueError that names the option ends what could only end in NaN later."""

from math import inf

from famkd.distill.types import Probe


def positive(**options: float) -> None:
    """Each is a finite number above 0."""
    for name, value in options.items():
        if not 0 < value < inf:
            raise ValueError(f"{name} is {value}, it must be above 0")


def not_negative(**options: float) -> None:
    """Each is a finite number, 0 or more."""
    for name, value in options.items():
        if not 0 <= value < inf:
            raise ValueError(f"{name} is {value}, it must be 0 or more")


def several_classes(probe: Probe) -> None:
    """There are classes beside the true one."""
    if probe.student.logits is not None and probe.student.logits.shape[1] < 2:
        raise ValueError("it compares the other classes than the true one, and there are none: take kd")
