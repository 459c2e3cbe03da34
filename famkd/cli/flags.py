"""Types of flags that several commands have."""

from typing import Annotated

import tyro

from famkd.command_line.values import PLACE

Place = Annotated[str, PLACE]
Plugins = Annotated[
    tuple[Place, ...],
    tyro.conf.arg(help="Python files that register your own models, methods or data sets. They are imported."),
]
Positional = tyro.conf.Positional
