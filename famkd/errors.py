"""The one error that is the user's to mend, the hint that goes with a misspelt name, and text that only shows."""

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

# what moves a cursor, colours, renames a window, breaks a line or turns the direction of reading; halves of characters
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def inert(text: str) -> str:
    """A text on one line in which what a terminal or a page would obey is written out, as \\x1b."""
    return OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class UserError(Exception):
    """Something the user can mend: shown as one sentence, exit code 2. What it quotes is made inert."""

    def __init__(self, text: str):
        super().__init__(inert(text))


class TrainingStopped(Exception):
    """A training that a signal stopped, after it saved its state: shown as one sentence, exit code 75."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " Did you mean resnet56 or resnet50?" for the closest `names`, upper and lower case alike, or ""."""
    known = {candidate.lower(): candidate for candidate in names}
    close = [known[match] for match in get_close_matches(name.lower(), known, n=2)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


@contextlib.contextmanager
def while_read() -> Iterator[None]:
    """End without a word, by the exit code that a shell gives for it, once nobody reads the output: `| head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still held has somewhere to go
        sys.exit(141)
