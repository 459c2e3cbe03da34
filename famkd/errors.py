"""Errors that are told in one sentence, what they say, and which of several processes tells it."""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

# control characters, line separators, marks of the direction of reading, and halves of surrogate pairs
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

ROLE = "famkd"  # of the processes that famkd starts, as PyTorch's elastic agent calls it


def inert(text: str) -> str:
    """The text on one line, with control characters escaped, such as \\x1b."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(error: BaseException, most: int = 300) -> str:
    """The message of an exception on one line, without a full stop, or its type; cut to `most` characters."""
    return " ".join(str(error).split())[:most].rstrip(".") or type(error).__name__


def as_sentence(error: BaseException) -> str:
    """`one_line` with a full stop, for a message that stands alone."""
    words = one_line(error)
    return words if words.endswith("?") else f"{words}."


class UserError(Exception):
    """An error that the user can fix: printed as one sentence, exit code 2. Control characters are escaped."""

    def __init__(self, text: str):
        super().__init__(inert(text))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback, so that a notebook shows the sentence too."""
        return [f"{type(self).__name__}: {self}"]


class RecipeError(UserError):
    """A recipe or a command line that cannot be read; `setting` is the dotted name of what is wrong, if known."""

    def __init__(self, text: str, setting: str = ""):
        super().__init__(text)
        self.setting = setting

    def in_file(self, place: str) -> "RecipeError":
        """The same error for a setting that comes from a file; `place` is the file and the line."""
        return RecipeError(f"In {place}: {re.sub('--(?!help)(?=[a-z])', '', str(self))}", self.setting)


class TrainingStopped(Exception):
    """A training that a signal stopped, after it saved its state: shown as one sentence, exit code 75."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " Did you mean resnet56 or resnet50?" for the closest names, ignoring case, or ""."""
    known = {candidate.lower(): candidate for candidate in names}
    close = [known[match] for match in get_close_matches(name.lower(), known, n=2)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def either(words: Iterable[str]) -> str:
    """Words as a choice, such as "high, low or both"; empty ones are left out."""
    *first, last = filter(None, words)
    return f"{', '.join(first)} or {last}" if first else last


def counted(number: int, thing: str) -> str:
    """A number of things, such as "1 epoch" or "2,000 images"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def started_by_famkd() -> bool:
    """Whether famkd started this process as one of several that train together."""
    return os.environ.get("ROLE_NAME") == ROLE


def is_first_process() -> bool:
    """Whether this is the first of the processes that train together, also after they have left their group."""
    ranks = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")  # set by torchrun, by SLURM and by users
    return all(os.environ.get(name, "0") == "0" for name in ranks)


@contextlib.contextmanager
def quiet_on_closed_pipe() -> Iterator[None]:
    """Exit quietly with 141 (SIGPIPE) when standard output or error is closed, for example by `| head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes both streams at exit, so they need a file that accepts the rest.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(141)
