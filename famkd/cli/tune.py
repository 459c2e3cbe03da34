"""famkd tune."""

from typing import Annotated, Literal

from annotated_types import Ge

from famkd.cli.flags import Place, Plugins, Positional
from famkd.command_line.parse import call
from famkd.command_line.values import expanded
from famkd.errors import UserError


def tune_command(argv: list[str]) -> None:
    print(call(tune, argv, prog="famkd tune"), end="")


def tune(
    source: Positional[str] = "",
    /,
    trials: Annotated[int, Ge(1)] = 50,
    jobs: Annotated[int, Ge(0)] = 0,
    pruner: Literal["median", "hyperband", "none"] = "median",
    grace: Annotated[int, Ge(0)] = 0,
    seed: Annotated[int, Ge(0)] = 0,
    runs: Place = "runs",
    plugins: Plugins = (),
) -> str:
    """Search for settings of a recipe by trainings that Optuna chooses, judged by held-out images. Can be resumed.

    Args:
        source: A YAML file such as `recipe: quickstart`, `data.val: 0.1`, `method: [kd, fam_review]`,
            `optim.lr: {low: 0.01, high: 0.3, log: true}`.
        trials: Trainings of the whole search; more continue a finished one.
        jobs: Trainings at once. By default one per GPU, or one on a machine without a GPU.
        pruner: What stops a trial early. median: a figure below the median of the others at the same epoch.
        grace: Epochs that every trial trains before it may be stopped. By default a tenth of them.
        seed: Random seed of the choice of settings.
        runs: Folder of run directories. Those of the search are in a folder of the file's name.
    """
    if not source:
        raise UserError("Name a file that says what to vary: famkd tune search.yaml. See famkd tune --help.")
    from famkd.config.plugins import import_plugins
    from famkd.sweep.tune import tune

    import_plugins(plugins)
    return tune(
        expanded(source), trials=trials, jobs=jobs, pruner=pruner, grace=grace, seed=seed, runs=runs, plugins=plugins
    ).text
