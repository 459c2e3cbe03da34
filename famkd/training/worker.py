"""One of the processes that famkd/training/launch.py starts. It prints no error: it records it for the agent.

python -m famkd.training.worker RECIPE OUT RUNS RESUME COMMAND...
"""

import sys

from famkd.errors import TrainingStopped, UserError, quiet_on_closed_pipe


def main() -> None:
    """Train a recipe from a file. COMMAND is the user's command line, for the run directory."""
    from torch.distributed.elastic.multiprocessing.errors import record

    from famkd.config.load import load_recipe
    from famkd.training.loop import train

    recipe, out, runs, resume, *sys.argv = sys.argv[1:]
    record(train)(load_recipe(recipe), out=out, resume=bool(resume), runs=runs)


if __name__ == "__main__":
    try:
        with quiet_on_closed_pipe():
            main()
    except (UserError, TrainingStopped, KeyboardInterrupt):
        sys.exit(1)
