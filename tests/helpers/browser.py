"""A real browser for tests: headless Chromium on saved pages and on JupyterLab, offline and without console errors.

A test module takes the fixtures by `pytest_plugins = ("helpers.browser",)`, one browser for all of its tests; `lab`
serves a folder of notebooks. A page that asks for anything outside this machine, or logs an error, fails its test.
PYTEST_DONT_REWRITE: test modules import the functions before pytest sees the plugin.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.processes import HANG, free_port, wait_until

# --no-sandbox: Chromium refuses to run as root with one; --disable-dev-shm-usage: containers have a small /dev/shm
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"]  # fmt: skip
LOCAL = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "ws://127.0.0.1")


def chromium_path() -> str | None:
    """Chromium's executable, or None; FAMKD_CHROMIUM names another."""
    names = [os.environ.get("FAMKD_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


@contextmanager
def launched():
    """A headless Chromium; ImportError without playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), headless=True, args=FLAGS)
        yield browser
        browser.close()


def fresh_page(browser):
    """A page of its own context, whose waits only a hang can exhaust."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    context.set_default_timeout(1000 * HANG)
    # anywidget drops a model whose module was not evaluated within 2 s, too short on a busy machine
    longer = f"(ms) => own.call(AbortSignal, Math.max(ms, {1000 * HANG}))"
    context.add_init_script(f"const own = AbortSignal.timeout; AbortSignal.timeout = {longer};")
    return context.new_page()


@pytest.fixture(scope="module")
def chromium():
    """One browser for a module's tests; skips where Chromium or playwright is missing.

    Not for the session: while playwright is open, this thread has a running asyncio loop, which other tests would see.
    """
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if chromium_path() is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with launched() as browser:
        yield browser


@pytest.fixture
def page(chromium):
    """A fresh page that remembers what it asked for elsewhere and what went wrong; both must be empty at the end."""
    with watched(chromium) as page:
        yield page


@contextmanager
def watched(browser, but: tuple[str, ...] = (), own_errors: tuple[str, ...] = ()):
    """A fresh page; fails at the end if it asked for anything elsewhere or logged an error.

    Addresses that begin with one of `but` are those of a host's own files: they get no answer and do not count.
    `own_errors` are parts of what the host logs by itself.
    """
    page = fresh_page(browser)
    strangers, errors = [], []

    def note_error(message) -> None:
        if message.type == "error" and not (but and message.location.get("url", "").startswith(but)):
            errors.append(message.text)

    for address in but:
        page.route(f"{address}**", lambda route: route.abort())
    ours = (*LOCAL, *but)
    page.on("request", lambda request: None if request.url.startswith(ours) else strangers.append(request.url))
    page.on("console", note_error)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.context.close()
    assert not strangers, f"the page asked for {strangers[:3]}"
    found = [error for error in errors if not any(own in error for own in own_errors)]
    assert not found, f"the page logged {found[:3]}"


def settled(page, selector: str = ".famviz") -> int:
    """Wait until nothing is left to draw; the explorer's drawing count."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(page.get_attribute(selector, "data-seq"))


def trait(page, name: str):
    """A trait of the page's first widget."""
    return page.evaluate("(name) => window.famviz[0].get(name)", name)


def put(page, **traits) -> None:
    """Set traits of the page's first widget, and wait until they are drawn."""
    for name, value in traits.items():
        page.evaluate("([name, value]) => window.famviz[0].set(name, value)", [name, value])
    settled(page)


def pixels(page, selector: str):
    """A canvas's own pixels, (H, W, 4) bytes as a numpy array."""
    import numpy as np

    script = """(canvas) => { const {width, height} = canvas;
        return [height, width, [...canvas.getContext("2d").getImageData(0, 0, width, height).data]]; }"""
    height, width, data = page.locator(selector).first.evaluate(script)
    return np.array(data, np.uint8).reshape(height, width, 4)


def exports(path: str) -> str:
    """A module of the widgets as statements that define what it exports."""
    from famviz.explorer.page import EXPORT, STATIC, bundle

    text = bundle(STATIC / path)
    names = ", ".join(EXPORT.findall(text))
    return f"var {{ {names} }} = (() => {{ {EXPORT.sub('', text)}; return {{ {names} }}; }})();"


@contextmanager
def lab(folder: Path, app: str = "jupyterlab") -> Iterator[str]:
    """JupyterLab, or the app `notebook`, on a folder, with settings of its own and no token; yields its address."""
    home = Path(tempfile.mkdtemp(prefix="famviz-lab-"))
    variables = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
                 "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}  # fmt: skip
    environment = {name: str(home / place) for name, place in variables.items()}
    _set(home, "apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False})
    _set(home, "notebook-extension/tracker", {"windowingMode": "none"})
    port = free_port()
    command = ["-m", app, "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
               f"--ServerApp.root_dir={folder}", "--expose-app-in-browser",
               "--LabApp.extension_manager=readonly"]  # fmt: skip
    try:
        with served(command, f"http://127.0.0.1:{port}", "/api", home / "log", **environment) as address:
            yield address
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def served(command: list[str], address: str, ready: str, log: Path, **environment: str) -> Iterator[str]:
    """Start `python COMMAND` and yield its address once it answers at the path `ready`; ends the process by its id."""
    with log.open("w") as written:
        server = subprocess.Popen(
            [sys.executable, *command], env={**os.environ, **environment}, stdout=written, stderr=subprocess.STDOUT
        )
        try:
            _wait_for(address + ready, server, log)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(HANG)
            finally:
                server.kill()  # no effect on a server that has ended


def write_notebook(path: Path, cells: list[str]) -> None:
    """Write a notebook of code cells without output; it names its kernel, which a front end would else ask for."""
    import nbformat

    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    written = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=written, metadata=kernel), path)


def open_notebook(page, address: str, name: str, place: str = "lab/tree") -> None:
    """Open a notebook and wait for an idle kernel; Notebook 7 has its pages at the place `notebooks`."""
    page.goto(f"{address}/{place}/{name}?reset", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook")
    idle = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    page.wait_for_function(f"() => {idle}")


def run_all(page, timeout: float = HANG) -> None:
    """Run every cell, all within `timeout` seconds; fails with the first error output."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    cells = """const panel = window.jupyterapp.shell.currentWidget;
        const cells = [...panel.content.model.cells].filter((cell) => cell.type === "code");"""
    outputs = "cells.flatMap((c) => Array.from({length: c.outputs.length}, (_, i) => c.outputs.get(i).toJSON()))"
    errors = f"{outputs}.filter((o) => o.output_type === 'error').map((o) => o.ename + ': ' + o.evalue)"
    over = f"(cells.every((c) => c.executionCount !== null) || {errors}.length)"  # after an error no cell is run
    done = f"{over} && panel.sessionContext.session.kernel.status === 'idle'"
    page.wait_for_function(f"() => {{ {cells} return {done}; }}", timeout=timeout * 1000)
    found = page.evaluate(f"() => {{ {cells} return {errors}; }}")
    assert not found, found


def ask_kernel(page, expression: str) -> str:
    """What the notebook's kernel prints for an expression."""
    script = """async (code) => { let said = "";
        const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        const future = kernel.requestExecute({ code });
        future.onIOPub = (m) => { said += m.content.text ?? (m.content.evalue ? "ERROR " + m.content.evalue : ""); };
        await future.done; return said; }"""
    return page.evaluate(script, f"print({expression})").strip()


def _set(home: Path, plugin: str, values: dict) -> None:
    path = home / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers; RuntimeError with the end of its log if it ends first."""
    wait_until(lambda: server.poll() is not None or _answers(url))
    if server.poll() is not None:
        raise RuntimeError(log.read_text()[-2000:])


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=HANG).close()
    except urllib.error.HTTPError:  # a server that knows no such page is there
        return True
    except OSError:
        return False
    return True
