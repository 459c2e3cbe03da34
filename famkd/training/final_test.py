"""The test set of a training with held-out images: measured once, after the last epoch."""

from famkd import distributed
from famkd.console import console
from famkd.distill.distiller import Distiller
from famkd.distill.types import Dataset
from famkd.run.directory import Run
from famkd.run.scores import Rows, best_row
from famkd.training.average import Averaged, measure


def measure_test(
    title: str, run: Run, distiller: Distiller, averaged: Averaged | None, data: Dataset, rows: Rows
) -> dict[str, float]:
    """Measure the last and the best weights on the test set, and write test.json; returns the figures by name.

    The weights of the best epoch are left in the student. They are not measured where a method adds a part to the
    deployed network, since such parts are kept of the last epoch only.
    """
    distiller.eval()
    last, best = rows[-1]["epoch"], rows[best_row(rows)]["epoch"]
    measured = {"last": {"epoch": last, **measure(distiller, averaged, data.test)}}
    if best == last:
        measured["best"] = measured["last"]
    elif distiller.deploys_student:
        state = distributed.on_every_rank(lambda: run.student_state(best=True))
        distiller.student.model.load_state_dict(state)
        measured["best"] = {"epoch": best, **measure(distiller, None, data.test)}
    if distributed.rank() == 0:
        run.write_test(measured)
    named: dict[str, float] = {}
    for which, figures in measured.items():
        shown = {name: value for name, value in figures.items() if name != "epoch"}
        named |= {f"test_{which}_{name}": value for name, value in shown.items()}
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        console.print(f"{title}  test set, {which} epoch ({figures['epoch']})  {text}")
    return named


def forget_test(run: Run) -> None:
    """Remove the test-set figures of a run that is trained further."""
    (run.path / "test.json").unlink(missing_ok=True)
