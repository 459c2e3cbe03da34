"""Hosts of widgets beside JupyterLab: servers of Voila and marimo, each on one notebook, with settings of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.browser import served
from helpers.processes import free_port

# what the pages of Voila ask a content delivery network for by themselves: icons and mathematics
VOILA_ASKS = ("https://cdn.jsdelivr.net/npm/@fortawesome/", "https://cdnjs.cloudflare.com/ajax/libs/mathjax/")


@contextmanager
def voila(notebook: Path) -> Iterator[str]:
    """Voila on a notebook; yields its address."""
    home, port = notebook.parent, free_port()
    command = ["-m", "voila", str(notebook), "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    settings = {"JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_RUNTIME_DIR": home / "runtime"}
    environment = {name: str(path) for name, path in settings.items()}
    with served(command, f"http://127.0.0.1:{port}", "/voila/static/", home / "log", **environment) as address:
        yield address


@contextmanager
def marimo(program: Path) -> Iterator[str]:
    """`marimo run` on a program; yields its address."""
    home, port = program.parent, free_port()
    command = ["-m", "marimo", "run", str(program), "--headless", "--no-token", "--host=127.0.0.1", f"--port={port}"]
    environment = {"XDG_CONFIG_HOME": str(home / "config"), "MARIMO_SKIP_UPDATE_CHECK": "1"}
    with served(command, f"http://127.0.0.1:{port}", "/health", home / "log", **environment) as address:
        yield address
