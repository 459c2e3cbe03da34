"""Callbacks of famkd.train: the student's weights after every second epoch, and a limit to its steps."""

import numpy as np
import torch
from generated import images

import famkd

x, y = (torch.cat(parts) for parts in zip(*images()))
pixels = ((x.permute(0, 2, 3, 1) + 4) * 32).clamp(0, 255).byte().numpy()
np.savez("data.npz", x_train=pixels[:96], y_train=y[:96], x_test=pixels[96:], y_test=y[96:])

# --- quoted in the documentation
recipe = famkd.load_recipe("", "--student.model", "resnet8x0.5", "--data", "npz", "--root", "data.npz",
                           "--epochs", "4", "--optim.steps", "3")  # fmt: skip


def on_epoch_end(now: famkd.Moment):
    figures = now.metrics[-1]
    print(now.epoch, round(figures["task.ce"], 3), figures["top1"])
    if now.epoch % 2 == 0:
        torch.save(now.student.state_dict(), f"epoch{now.epoch}.pt")


class CountSteps:
    steps = 0

    def on_step_end(self, now: famkd.Moment):
        self.steps += 1

    def on_train_end(self, now: famkd.Moment):
        print(f"{self.steps} steps; {now.run.path} holds the run")


famkd.train(recipe, out="run", callbacks=[on_epoch_end, CountSteps()])
