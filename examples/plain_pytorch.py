"""famkd in a plain PyTorch loop."""

import torch
from generated import images, networks

import famkd

(student, teacher), loader = networks(), images()

# --- quoted in the documentation
distillation = famkd.distill(student, teacher, "fam_review+kd", example=next(iter(loader)))
optimizer = torch.optim.SGD(distillation.parameters(), lr=0.05, momentum=0.9)

for epoch in range(1, 4):
    distillation.train()
    distillation.epoch = epoch  # for the warm-up of the method's weight
    for batch in loader:
        loss = distillation(batch)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    print(epoch, {name: round(float(part), 3) for name, part in loss.parts.items()})

torch.save(distillation.deployed.state_dict(), "student.pt")
