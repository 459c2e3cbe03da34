"""Errors that a user can fix."""

import pytest

from famkd.errors import as_sentence, counted

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


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("a\n  b"), "a b."),
        (ValueError("Read to its end."), "Read to its end."),
        (ValueError("No layr1. Did you mean layer1?"), "No layr1. Did you mean layer1?"),
        (KeyError(), "KeyError."),
    ],
)
def test_any_exception_can_be_told_as_a_sentence(error, sentence):
    assert as_sentence(error) == sentence


@pytest.mark.parametrize(("number", "told"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (2000, "2,000 epochs")])
def test_counts_are_told_in_words(number, told):
    assert counted(number, "epoch") == told
