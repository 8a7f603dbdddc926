"""Random shifts of training images: drawn anew for every example in every epoch, on the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vibtheory.errors import reject

__all__ = ["Shifts"]


class Shifts:
    """Training images moved by up to `pixels` in each direction, the border filled with 0.

    Args:
        x: images [N, C, H, W].
        pixels: largest shift ≥ 1.

    Raises:
        InvalidInputError: `x` is not a stack of images.
    """

    def __init__(self, x: Tensor, pixels: int) -> None:
        if x.ndim != 4:
            reject("shift", f"data of shape {list(x.shape)}", "images [N, C, H, W]", "set shift to 0 for other data")
        self._x = x
        self._pixels = pixels

    def draw(self) -> Tensor:
        """All images [N, C, H, W], each with its own shift, uniform on the (2·pixels + 1)² of them."""
        span = 2 * self._pixels + 1
        down, right = torch.randint(span, (2, len(self._x)), device=self._x.device) - self._pixels
        moved = self._x.clone()
        for dy in range(-self._pixels, self._pixels + 1):
            for dx in range(-self._pixels, self._pixels + 1):
                if dy or dx:
                    # one copy per shift: far cheaper than an index per pixel
                    mine = ((down == dy) & (right == dx)).nonzero().flatten()
                    # padding by a negative number crops: this moves the image by (dy, dx)
                    moved[mine] = functional.pad(self._x[mine], (dx, -dx, dy, -dy))
        return moved
