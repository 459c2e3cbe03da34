"""Networks and images to look at: those of runs, or any others."""

from famviz.networks.inside import device_of, logits_of, returning_logits, untouched
from famviz.networks.runs import (
    MovedRun,
    Pictures,
    Source,
    classification_run,
    located,
    networks,
    networks_of_runs,
    run_images,
    student_alone,
    trained_distiller,
)

__all__ = [
    "MovedRun", "Pictures", "Source", "classification_run", "device_of", "located", "logits_of", "networks",
    "networks_of_runs", "returning_logits", "run_images", "student_alone", "trained_distiller", "untouched",
]  # fmt: skip
