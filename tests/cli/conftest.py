"""Commands that run in the test's own process."""

import pytest

from famkd.cli import main


@pytest.fixture
def famkd(capsys):
    """Run one command here: exit code, stdout, stderr."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(list(argv))
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run
