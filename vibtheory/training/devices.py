"""Where a network runs: "auto", "cpu", "cuda", "cuda:1", …."""

from __future__ import annotations

import torch

from vibtheory.errors import reject

__all__ = ["choose_device"]


def choose_device(name: str) -> torch.device:
    """ "auto" takes CUDA where it is present.

    Raises:
        InvalidInputError: neither auto, cpu nor cuda, or a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        reject("device", repr(name), "auto, cpu or cuda", "use auto")
    if device.type not in ("cpu", "cuda"):
        reject("device", repr(name), "auto, cpu or cuda", "use auto")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        reject("device", repr(name), "a device that is present", f"use auto or cpu; {found} CUDA devices were found")
    return device
