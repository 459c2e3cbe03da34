"""famkd with Accelerate of Hugging Face."""

import torch
from accelerate import Accelerator
from generated import images, networks

import famkd

(student, teacher), loader = networks(), images()

# --- quoted in the documentation
accelerator = Accelerator()
distillation = famkd.distill(student, teacher, "fam_review+kd", example=next(iter(loader)))
optimizer = torch.optim.SGD(distillation.parameters(), lr=0.05, momentum=0.9)
prepared, optimizer, loader = accelerator.prepare(distillation, optimizer, loader)

for epoch in range(1, 4):
    prepared.train()
    distillation.epoch = epoch  # for the warm-up of the method's weight
    for batch in loader:
        loss = prepared(batch)
        optimizer.zero_grad()
        accelerator.backward(loss.total)
        optimizer.step()
    accelerator.print(epoch, {name: round(float(part), 3) for name, part in loss.parts.items()})

accelerator.save(distillation.deployed.state_dict(), "student.pt")
