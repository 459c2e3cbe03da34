"""Running means of the losses of an epoch, and the first step in which something was not finite."""

import torch
from torch import Tensor

from famkd import distributed
from famkd.distill.distiller import Losses

NEVER = 2**62  # later than any step


class Monitor:
    """Watches the losses and outputs of every step on the device, so that no step waits for it.

    Reading (`means`, `first_bad`) waits for the device, so it is done once per epoch.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.loss_names: list[str] = []
        self.watched_names: list[str] = []
        self.step = torch.zeros((), dtype=torch.int64, device=device)  # number of the current step, from 1
        self.loss_sums: Tensor | None = None  # (losses,) since `reset`
        self.first_bad_step: Tensor | None = None  # (watched,) first step that was not finite, or NEVER

    def reset(self) -> None:
        """Start a new epoch. Tensors are written in place, because a CUDA graph holds on to them."""
        self.step.zero_()
        if self.loss_sums is not None and self.first_bad_step is not None:
            self.loss_sums.zero_()
            self.first_bad_step.fill_(NEVER)

    def pack(self, losses: Losses, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Every loss, and the sum of every output, as two vectors; a compiled step can return these."""
        self.loss_names = [f"{group}.{name}" for group, terms in losses.items() for name in terms]
        self.watched_names = [*outputs, *(f"the loss {name}" for name in self.loss_names)]
        values = [loss.detach().float() for terms in losses.values() for loss in terms.values()]
        packed = torch.stack(values)
        return packed, torch.stack(list(outputs.values())) if outputs else packed[:0]

    def note(self, losses: Tensor, outputs: Tensor, parts: int) -> None:
        """Add what `pack` returned for one of the parts of a step."""
        watched = torch.cat((outputs, losses))
        if self.loss_sums is None or self.first_bad_step is None:
            self.loss_sums = torch.zeros_like(losses)
            self.first_bad_step = torch.full_like(watched, NEVER, dtype=torch.int64)
        self.loss_sums += losses / parts
        bad_now = self.step.expand_as(watched).masked_fill(watched.isfinite(), NEVER)
        torch.minimum(self.first_bad_step, bad_now, out=self.first_bad_step)

    def means(self, steps: int) -> dict[str, float]:
        """Mean of each loss since `reset`, over all processes."""
        assert self.loss_sums is not None
        means = distributed.all_reduce_mean(self.loss_sums / steps)
        return dict(zip(self.loss_names, means.tolist(), strict=True))

    def first_bad(self) -> tuple[str, int] | None:
        """Name and step of the first thing that was not finite since `reset`; None if everything was."""
        assert self.first_bad_step is not None
        step, place = self.first_bad_step.min(0)
        if int(step) == NEVER:
            return None
        return self.watched_names[int(place)], int(step)

    def tensors(self) -> list[Tensor]:
        """Every tensor that `note` writes in place."""
        held = (self.step, self.loss_sums, self.first_bad_step)
        return [tensor for tensor in held if tensor is not None]

    def state(self) -> tuple[Tensor, Tensor]:
        """The sums and the first bad steps so far, on the CPU."""
        assert self.loss_sums is not None
        assert self.first_bad_step is not None
        return self.loss_sums.cpu(), self.first_bad_step.cpu()

    def set_state(self, steps: int, loss_sums: Tensor, first_bad_step: Tensor) -> None:
        """Continue after `steps` steps from what `state` returned."""
        self.step.fill_(steps)
        self.loss_sums = loss_sums.to(self.device)
        self.first_bad_step = first_bad_step.to(self.device)
