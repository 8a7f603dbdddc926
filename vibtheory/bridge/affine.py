"""Affine maps inside a network in evaluation mode, and the Gram matrices of gates that feed them (T5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from vibtheory.compression.fixed_modules import Select
from vibtheory.networks.forward import device_of
from vibtheory.networks.gates import Gate

__all__ = ["MEMORY", "AffineMap", "channel_contributions", "channel_scale", "entries", "is_affine", "matrix_of"]

MEMORY = 1 << 28  # bytes that intermediate results may take, unless asked otherwise

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.AvgPool1d, nn.AvgPool2d,
           nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d,
           Gate, Select)  # fmt: skip
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class AffineMap:
    """p = V(f⊙z) + v₀ with V formed: rows that cannot reach the loss are left out.

    Attributes:
        v [m, D]: the rows of V that are listened to. offset [M]: v₀, all rows.
        listened: boolean, of the shape of p (M entries, m of them True).
    """

    v: Tensor
    offset: Tensor
    listened: Tensor

    def after(self, f: Tensor, z: Tensor) -> Tensor:
        """p for every pair of z [s, d] and example of f [n, d, ...]: [s·n, *shape of p]; v₀ where not listened to."""
        flat = f.reshape(len(f), -1)
        columns = z.repeat_interleave(flat.shape[1] // z.shape[1], 1)  # [s, D]
        used = (columns != 0).any(0)
        v, flat, columns = self.v[:, used], flat[:, used], columns[:, used]
        if len(flat) > len(v):
            p = torch.matmul(flat, (v * columns[:, None]).transpose(1, 2))  # (V·diag z)f: no copy of f per z
        else:
            p = (flat * columns[:, None]) @ v.T  # [s, n, m]
        rows = self.listened.reshape(-1)
        if bool(rows.all()):
            p = p + self.offset
        else:
            p = self.offset.repeat(*p.shape[:2], 1).index_add_(2, rows.nonzero()[:, 0], p)
        return p.reshape(-1, *self.listened.shape)


def is_affine(module: nn.Module) -> bool:
    """Whether `module` is an affine map in `eval()`: BatchNorm with recorded statistics and other gates included."""
    if isinstance(module, _NORMS):
        return module.running_mean is not None
    if type(module) is nn.Sequential:
        return all(is_affine(child) for child in module)
    return isinstance(module, _AFFINE)


def entries(module: nn.Module, x: Tensor) -> int:
    """Numbers in the results of all operations in a forward pass on x [1, ...]: above what it or autograd holds."""
    with torch.no_grad(), _Counter() as counter:
        module(x)
    return int(x.numel() + counter.total)


class _Counter(TorchFunctionMode):
    """Entries of what torch's functions return inside a `with` block; of a vmapped one, for one example."""

    def __init__(self) -> None:
        super().__init__()
        self.total: int = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += sum(v.numel() for v in pytree.tree_leaves(result) if isinstance(v, Tensor))
        return result


def matrix_of(affine: nn.Module, shape: Sequence[int], memory: int = MEMORY) -> tuple[Tensor, Tensor]:
    """V [m, D] and v₀ [m] with affine(x) = Vx + v₀ for x of `shape` (D entries), float64; `affine` in float64, eval.

    By pushing unit vectors through, forward or, where m < D, backward, as many at a time as take `memory` bytes: exact
    up to float64 rounding for every affine module.
    """
    device = device_of(affine)
    zero = torch.zeros(1, *shape, dtype=torch.float64, device=device)
    with torch.no_grad():
        offset = affine(zero).reshape(-1)
    size, rows = zero.numel(), offset.numel()
    backward = 0 < rows < size
    count = rows if backward else size
    chunk = max(1, memory // (16 * (entries(affine, zero) + size + rows)))
    v = torch.empty(rows, size, dtype=torch.float64, device=device)
    for start in range(0, count, chunk):
        units = torch.zeros(min(chunk, count - start), count, dtype=torch.float64, device=device)
        units.diagonal(start)[:] = 1
        if backward:
            x = zero.expand(len(units), *shape).clone().requires_grad_(True)
            with torch.enable_grad():
                picked = (affine(x).reshape(len(units), -1) * units).sum()  # a scalar: torch imports no sympy for it
            v[start : start + chunk] = torch.autograd.grad(picked, x)[0].reshape(len(units), -1)
        else:
            with torch.no_grad():
                v[:, start : start + chunk] = (affine(units.reshape(-1, *shape)).reshape(len(units), -1) - offset).T
    return v, offset


def channel_scale(module: nn.Module) -> Tensor | None:
    """[C]: what the linear part of `module` multiplies each channel by; None where it does something else."""
    if isinstance(module, Gate) and module.axis == 1:
        return module.mean().double()
    if isinstance(module, _NORMS):
        assert module.running_var is not None
        weight = 1.0 if module.weight is None else module.weight
        return weight / torch.sqrt(module.running_var + module.eps)
    return None


def channel_contributions(affine: nn.Sequential, f: Tensor) -> Tensor:
    """v [n, C, m]: what each channel of f [n, C, ...] adds to affine(f); affine(f⊙z) = Σ_j z_j v_j + affine(0)."""
    n, channels = f.shape[:2]
    modules = list(affine)
    while modules and (scale := channel_scale(modules[0])) is not None:
        f = f * scale.reshape(-1, *(1,) * (f.ndim - 2))
        modules.pop(0)
    first = modules[0] if modules else None
    own: Callable[[Tensor], Tensor] | None = getattr(first, "by_channel", None)  # of a part of a graph
    if own is not None:
        return own(f).reshape(n, channels, -1)
    alone = convolved_by_channel(first, f)
    if alone is None:
        alone = one_channel_each(f)
    else:
        modules.pop(0)
    rest = nn.Sequential(*modules)
    v: Tensor = rest(alone) - rest(torch.zeros_like(alone[:1]))
    return v.reshape(n, channels, -1)


def one_channel_each(f: Tensor) -> Tensor:
    """[n·C, C, ...]: f [n, C, ...] with one channel left at a time."""
    n, channels = f.shape[:2]
    mask = torch.eye(channels, dtype=f.dtype, device=f.device).reshape(1, channels, channels, *(1,) * (f.ndim - 2))
    return (f[:, None] * mask).reshape(n * channels, *f.shape[1:])


def convolved_by_channel(module: nn.Module | None, f: Tensor, scale: Tensor | float = 1.0) -> Tensor | None:
    """[n·C, O, ...]: `module`(f) without its bias, from each channel of f [n, C, H, W] alone; None where unknown.

    Times `scale` [O]. One product with every channel's own share, at the cost of the ordinary convolution.
    """
    if not isinstance(module, nn.Conv2d) or module.groups != 1 or module.padding_mode != "zeros":
        return None
    weight = module.weight * torch.as_tensor(scale).reshape(-1, 1, 1, 1)
    weight = weight.transpose(0, 1).reshape(-1, 1, *module.weight.shape[2:])  # [C·O, 1, k, k]
    alone = functional.conv2d(f, weight, None, module.stride, module.padding, module.dilation, groups=f.shape[1])
    return alone.reshape(len(f) * f.shape[1], -1, *alone.shape[2:])
