"""Errors that a user can fix."""

import pytest

NO_FILE = "There is no file data.npz: pass --root."


def test_a_notebook_shows_the_sentence_without_a_traceback(capsys):
    shells = pytest.importorskip("IPython.core.interactiveshell")
    shell = shells.InteractiveShell.instance()
    shell.history_manager.enabled = False
    try:
        shell.run_cell(f"from famkd.errors import UserError\nraise UserError({NO_FILE!r})")
    finally:
        shells.InteractiveShell.clear_instance()
    assert capsys.readouterr().out.strip() == f"UserError: {NO_FILE}"
