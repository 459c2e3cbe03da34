"""Networks and images to look at: those of runs, or any others."""

from famviz.networks.inside import device_of, logits_of, returning_logits, tapping, untouched
from famviz.networks.runs import (
    MovedRun,
    Pictures,
    Source,
    classification_run,
    located,
    networks,
    networks_of_runs,
    run_images,
    run_of,
    student_alone,
    students_of_runs,
    trained_distiller,
)
from famviz.networks.scenes import BoxScores, Scene, common_part, has_boxes, scenes, task_images

__all__ = [
    "BoxScores", "MovedRun", "Pictures", "Scene", "Source", "classification_run", "common_part", "device_of",
    "has_boxes", "located", "logits_of", "networks", "networks_of_runs", "returning_logits", "run_images", "run_of",
    "scenes", "student_alone", "students_of_runs", "tapping", "task_images", "trained_distiller", "untouched",
]  # fmt: skip
