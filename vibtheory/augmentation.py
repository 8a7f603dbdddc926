"""Random shifts of training images, drawn per example, on the device, without copies of the data set."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vibtheory.errors import reject

__all__ = ["Shifts"]


class Shifts:
    """Batches of images moved by up to `pixels` in each direction, the border filled with 0.

    Args:
        x: images [N, C, H, W].
        pixels: largest shift ≥ 1.

    Raises:
        InvalidInputError: `x` is not a stack of images.
    """

    def __init__(self, x: Tensor, pixels: int) -> None:
        if x.ndim != 4:
            reject("shift", f"data of shape {list(x.shape)}", "images [N, C, H, W]", "set shift to 0 for other data")
        self._pixels = pixels
        self._shape = x.shape[1:]
        padded = functional.pad(x, (pixels,) * 4)
        self._rows = padded.flatten(1)  # [N, C·(H+2p)·(W+2p)]
        self._width = padded.shape[3]
        places = torch.arange(self._rows.shape[1], device=x.device).view(padded.shape[1:])
        self._corner = places[:, : x.shape[2], : x.shape[3]].flatten()  # the window of a shift by (−p, −p)

    def batch(self, chosen: Tensor, kept: Tensor | None = None) -> Tensor:
        """Images `chosen` [B], each with its own shift: [B, C, H, W]; with `kept`, its flattened entries [B, kept]."""
        span = 2 * self._pixels + 1
        draws = torch.randint(span, (2, len(chosen)), device=chosen.device)
        offset = draws[0] * self._width + draws[1]  # [B]
        window = self._corner if kept is None else self._corner[kept]
        moved = self._rows[chosen[:, None], window + offset[:, None]]
        return moved.view(-1, *self._shape) if kept is None else moved
