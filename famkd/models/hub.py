"""Networks of timm that are described on the Hugging Face hub, by `hf-hub:OWNER/NAME`."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from famkd.errors import UserError, one_line

PREFIX = "hf-hub:"


def hub_settings(name: str) -> Any:
    """timm's settings (`PretrainedCfg`) of a model on the hub: its images, classes and weights.

    Args:
        name: `hf-hub:OWNER/NAME`, or `hf-hub:OWNER/NAME@REVISION`.

    Errors: UserError where it is neither in the hub's cache nor can be downloaded, and where timm cannot read it.
    """
    from timm.models import PretrainedCfg, load_model_config_from_hf

    try:
        with without_waiting():
            settings, _, _ = load_model_config_from_hf(name.removeprefix(PREFIX))
        return PretrainedCfg(**settings)
    except Exception as error:  # the hub's client raises exceptions of its own; config.json may be of another library
        reason = one_line(error)
        raise UserError(
            f"The model {name} cannot be read from the Hugging Face hub: check its name and the network, or put it "
            f"into the hub's cache; it must be a model of timm ({reason})."
        ) from error


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """Use only the hub's cache if the hub's host name cannot be resolved: its client would retry for a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        if not getproxies():  # a proxy may resolve names that this machine cannot
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
