"""famkd as a task of timm's train script."""

import torch
from generated import images, networks
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import TrainingTask

import famkd

(student, teacher), loader = networks(), images()


# --- quoted in the documentation
class FamkdTask(TrainingTask):
    """Put `task = FamkdTask(...)` in the place where timm's train.py chooses its task."""

    def __init__(self, distillation):
        super().__init__()
        self.trainable_module = distillation

    def forward(self, input, target):
        loss = self.trainable_module(input, target)
        return {"loss": loss.total, "output": loss.logits, **loss.parts}


task = FamkdTask(famkd.distill(student, teacher, "fam_review+kd", example=next(iter(loader))))
optimizer = create_optimizer_v2(task.trainable_module, opt="sgd", lr=0.05, momentum=0.9)
scheduler, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=3)

for epoch in range(epochs):
    task.train()
    task.trainable_module.epoch = epoch + 1  # for the warm-up of the method's weight
    for input, target in loader:
        result = task(input, target)
        optimizer.zero_grad()
        result["loss"].backward()
        optimizer.step()
    scheduler.step(epoch + 1)
    print(epoch + 1, {name: round(float(part), 3) for name, part in result.items() if name not in ("output", "loss")})

torch.save(task.trainable_module.deployed.state_dict(), "student.pt")
