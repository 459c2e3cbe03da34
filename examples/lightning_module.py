"""famkd in Lightning."""

import lightning
import torch
from generated import images, networks

import famkd

(student, teacher), loader = networks(), images()


# --- quoted in the documentation
class Distilled(lightning.LightningModule):
    def __init__(self, distillation):
        super().__init__()
        self.distillation = distillation

    def training_step(self, batch, number):
        self.distillation.epoch = self.current_epoch + 1  # for the warm-up of the method's weight
        loss = self.distillation(batch)
        self.log_dict(loss.parts, prog_bar=True)
        return loss.total

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


distillation = famkd.distill(student, teacher, "fam_review+kd", example=next(iter(loader)))
trainer = lightning.Trainer(max_epochs=3, logger=False, enable_checkpointing=False)
trainer.fit(Distilled(distillation), loader)

torch.save(distillation.deployed.state_dict(), "student.pt")
