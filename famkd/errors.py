"""The one error that is the user's to mend, and the hint that goes with a misspelt name."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can mend: shown as one sentence, exit code 2."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " Did you mean resnet56 or resnet50?" for the closest `names`, upper and lower case alike, or ""."""
    known = {candidate.lower(): candidate for candidate in names}
    close = [known[match] for match in get_close_matches(name.lower(), known, n=2)]
    return f" Did you mean {' or '.join(close)}?" if close else ""
