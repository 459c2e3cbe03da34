"""Explorers in Python, and what they would send to their page."""

import json
from typing import Any


def noting(explorer: Any) -> Any:
    """The explorer itself, which appends what it sends to `sent`."""
    explorer.sent = []
    explorer.send = lambda content, buffers=None: explorer.sent.append((content, buffers))
    return explorer


def ask(explorer: Any, **question: Any) -> tuple[dict, list]:
    """The answer as the page gets it: JSON and bytes."""
    explorer._handle_custom_msg(question, [])
    content, buffers = explorer.sent.pop()
    json.dumps(content, allow_nan=False)
    return content, buffers
