"""Read the filters of a checkpoint of the released FAM-KD code.

Such a file holds planes (C_in, C_out, S, S) of all frequencies under `atfs.N`, N counted from the deepest stage.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from famkd.errors import UserError
from famkd.layers.fourier import FourierFilter
from famkd.layers.highpass import highpass_gain
from famkd.layers.released import fold_full_plane
from famkd.models.pickled import read_torch
from famkd.models.weight_files import is_plain
from famviz.filter import Filter

CUTOFF = 0.1  # of the released code
WEIGHTS = re.compile(r"(?:.*\.)?atfs\.(\d+)\.conv2\.0\.weights1")


def released_filters(path: Path) -> list[Filter]:
    """The filters of a checkpoint, shallow to deep; UserError if it holds none."""
    state = _read(path)
    keys = {int(found[1]): key for key in state if (found := WEIGHTS.fullmatch(key))}
    if not keys:
        raise UserError(
            f"{path} holds no frequency attention: none of its {len(state)} keys is atfs.N.conv2.0.weights1."
        )
    deepest_first = sorted(keys)
    filters = [_filter(keys[n], state, max(keys) - n) for n in reversed(deepest_first)]
    of_several_frequencies = [each for each in filters if each.size != (1, 1)]
    return of_several_frequencies or filters


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint, wherever in the file it is."""
    try:
        found = read_torch(path)
    except Exception as error:  # whatever the zip, pickle or storage reader raises
        raise UserError(f"{path} is damaged or no checkpoint, or reading it would run code that it holds.") from error
    for key in ("state_dict", "model", "net"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no state dict.")
    return {str(key).removeprefix("module."): value for key, value in found.items() if is_plain(value)}


def _filter(key: str, state: dict[str, Tensor], index: int) -> Filter:
    stored = state[key]
    if not stored.is_complex():
        stored = torch.view_as_complex(stored.float().contiguous())
    stored = stored.to(torch.cfloat).transpose(0, 1)  # the released order is (in, out, H, W)
    size = (stored.shape[2], stored.shape[3])
    gain = highpass_gain("official", size, CUTOFF)
    base = key.removesuffix("weights1")
    local = state.get(f"{base}w0.weight")
    rates = [f"{base}rate1", f"{base}rate2"]
    return Filter(
        index,
        base.removesuffix("."),
        _response(stored, gain).numpy(),
        size,
        gain.numpy(),
        gamma=tuple(float(state[name]) for name in rates if name in state),
        local=None if local is None else local[:, :, 0, 0].float().numpy(),
        raw=np.fft.fftshift(stored.numpy(), axes=(-2, -1)),
        options={"filter": "dense", "highpass": "official", "cutoff": CUTOFF},  # how it started is unknown
    )


def _response(stored: Tensor, gain: Tensor) -> Tensor:
    """The half spectrum that acts, (C_out, C_in, H, W // 2 + 1), of a full plane."""
    c_out, c_in, height, width = stored.shape
    with torch.device("meta"):  # which draws no random number
        module = FourierFilter(c_in, c_out, (height, width), highpass="official")
    half = torch.view_as_real(fold_full_plane(stored, "official", CUTOFF))
    weight = half.permute(2, 3, 1, 4, 0).contiguous()
    module.load_state_dict({"weight": weight, "gain": gain}, assign=True)
    return module.response()
