"""Certified Lipschitz constants (ℓ2 → ℓ2) of the modules of a network in evaluation mode.

Affine pieces are merged first (Linear, Conv, BatchNorm, pooling, gates at their masked means), then the largest
singular value of the merged matrix is computed, or bounded where the matrix is too large to form. A zero-padded
convolution of any stride is a compression of the convolution on ℤ², so its norm is at most sup_ω ‖K̂(ω)‖. For fixed v,
‖K̂(ω)v‖² is a real trigonometric polynomial of degree k − 1 per axis, and on N > 2n equispaced points such a polynomial
of degree n satisfies max|p| ≤ max_grid|p| / cos(πn/N) (Ehlich & Zeller 1964; Jetter, Pfander & Zimmermann 2001): the
grid value divided by these cosines is a certificate, not an estimate. Every product of norms is an upper bound.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import scipy.linalg
import torch
from torch import Tensor, nn

from vibtheory.bridge.affine import channel_scale, is_affine, matrix_of
from vibtheory.bridge.output_loss import OutputLoss
from vibtheory.networks.forward import device_of
from vibtheory.networks.gates import Gate

__all__ = ["convolution_norm", "factored_norm", "lipschitz_constant", "pointwise", "spectral_norm", "uncertified"]

_ROUNDING = 1 + 1e-9  # far above LAPACK's backward error in the largest singular value
_FORMED = 12_000_000  # entries of a merged matrix that is formed
_SIDE = 3200  # and its smaller side
_KNOWN: dict[tuple[Any, ...], float] = {}  # norms by a kernel's contents: every layer of a network asks for the same
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
_ONE = (nn.ReLU, nn.Tanh, nn.Identity, nn.Hardtanh, nn.ReLU6, nn.Softsign, nn.LogSigmoid)


def lipschitz_constant(modules: Sequence[nn.Module], shape: Sequence[int], likelihood: OutputLoss) -> float:
    """κ with ‖rest(p) − rest(q)‖ ≤ κ‖p − q‖ for all p, q of `shape`; `modules` in float64 and evaluation mode.

    What the loss cannot see (a shift of all logits) is projected out of the last affine piece.
    `uncertified(modules)` must be empty.
    """
    modules = _flat(modules)
    constant, done = 1.0, 0
    at = torch.zeros(1, *shape, dtype=torch.float64, device=device_of(nn.Sequential(*modules)))
    with torch.no_grad():
        for affine, group in itertools.groupby(modules, is_affine):
            piece = nn.Sequential(*group)
            done += len(piece)
            if affine:
                constant *= _affine_norm(piece, at, likelihood if done == len(modules) else None)
            else:
                constant *= math.prod(pointwise(module) for module in piece)
            at = piece(at)
    return constant


def uncertified(modules: Sequence[nn.Module]) -> str:
    """Why no constant is known for some module, in words; empty where all are certified."""
    for module in _flat(modules):
        if is_affine(module):
            if isinstance(module, nn.Conv2d | nn.Conv1d) and not _periodic(module):
                return f"{type(module).__name__} with padding={module.padding}, padding_mode={module.padding_mode!r}"
            continue
        try:
            pointwise(module)
        except NotImplementedError as error:
            return str(error)
    return ""


def spectral_norm(matrix: Tensor) -> float:
    """Largest singular value of [m, n], rounded up: LAPACK on the smaller Gram matrix, times 1 + 1e-9."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    gram = (wide @ wide.T).cpu().numpy()
    last = gram.shape[0] - 1
    top = scipy.linalg.eigvalsh(gram, subset_by_index=[last, last], check_finite=False)[0]
    return math.sqrt(max(float(top), 0.0)) * _ROUNDING


def convolution_norm(weight: Tensor, groups: int = 1) -> float:
    """Upper bound of a convolution's norm; kernel [O, C/groups, kh, kw], any stride, padded as `_periodic` says."""
    kernel = weight.detach().double().cpu()
    kernel = kernel if kernel.ndim == 4 else kernel[:, :, None, :]
    key = groups, kernel.shape, hashlib.blake2b(kernel.numpy().tobytes()).digest()
    if key not in _KNOWN:
        _KNOWN[key] = _convolution_norm(kernel, groups)
    return _KNOWN[key]


def _periodic(module: nn.Conv1d | nn.Conv2d) -> bool:
    """Whether the padding is of zeros, or circular and no wider than the kernel: no entry is there more than once."""
    if module.padding_mode == "zeros" or isinstance(module.padding, str):
        return module.padding_mode in ("zeros", "circular")
    each = zip(module.padding, module.dilation, module.kernel_size, strict=True)
    return module.padding_mode == "circular" and all(2 * p <= d * (k - 1) for p, d, k in each)


def _convolution_norm(kernel: Tensor, groups: int) -> float:
    kh, kw = kernel.shape[2:]
    fine = 16 if kernel.shape[0] * kernel.shape[1] <= 4096 else 8
    grid = [1 if k == 1 else fine * (k - 1) for k in (kh, kw)]
    slack = math.prod(1.0 if k == 1 else math.cos(math.pi * (k - 1) / n) for k, n in zip((kh, kw), grid, strict=True))
    parts = kernel.reshape(groups, -1, *kernel.shape[1:])
    parts = parts.transpose(1, 2) if parts.shape[1] > parts.shape[2] else parts
    # K̂K̂* = Σ_δ (Σ_a K_{a+δ} K_aᵀ) e^{−iωδ}: real products, formed once for all ω
    shifts = list(itertools.product(range(1 - kh, kh), range(1 - kw, kw)))
    products = torch.stack([
        torch.einsum("gochw,gpchw->gop", _shifted(parts, dy, dx), _shifted(parts, -dy, -dx)) for dy, dx in shifts
    ])  # fmt: skip
    delta = 2 * math.pi * torch.tensor(shifts, dtype=torch.float64) / torch.tensor(grid)
    top = 0.0
    for i in range(grid[0] // 2 + 1):  # the other half is the complex conjugate
        angle = i * delta[:, 0] + torch.arange(grid[1])[:, None] * delta[:, 1]
        real, imaginary = (wave @ products.flatten(1) for wave in (angle.cos(), -angle.sin()))
        top = _largest_eigenvalue(torch.complex(real, imaginary).reshape(-1, *products.shape[2:]), top)
    return math.sqrt(max(top, 0.0) / slack) * _ROUNDING


def _shifted(kernel: Tensor, dy: int, dx: int) -> Tensor:
    """The entries of a kernel [..., kh, kw] that have another one at (−dy, −dx) from them."""
    kh, kw = kernel.shape[-2:]
    return kernel[..., max(dy, 0) : kh + min(dy, 0), max(dx, 0) : kw + min(dx, 0)]


def _largest_eigenvalue(grams: Tensor, least: float) -> float:
    """The largest of `least` and the eigenvalues of Hermitian grams [B, n, n], to a share of 1e-10.

    A Cholesky factor of tI − G says that none of G's is above t, for a fraction of the work of finding them.
    """
    unit = torch.eye(grams.shape[1], dtype=grams.dtype)
    while len(grams := grams[torch.linalg.cholesky_ex(least * (1 + 1e-10) * unit - grams).info > 0]):
        largest = int(grams.abs().square().sum((1, 2)).argmax())
        least = max(least, float(torch.linalg.eigvalsh(grams[largest])[-1]))
        grams = torch.cat([grams[:largest], grams[largest + 1 :]])
    return least


def _affine_norm(piece: nn.Sequential, at: Tensor, last: OutputLoss | None) -> float:
    """The norm of `piece` on inputs like `at` [1, ...], of what the loss sees of it where it is the `last`."""
    size, out = at.numel(), piece(at).numel()
    if size * out <= _FORMED and min(size, out) <= _SIDE:
        matrix = matrix_of(piece, at.shape[1:])[0]
        return spectral_norm(last.project(matrix) if last is not None else matrix)
    return factored_norm(list(piece), at)


def factored_norm(modules: Sequence[nn.Module], at: Tensor) -> float:
    """A product of norms of affine `modules` on inputs like `at` [1, ...]; a scale after a convolution goes into it."""
    constant = 1.0
    for i, module in enumerate(modules):
        scale = channel_scale(modules[i + 1]) if i + 1 < len(modules) else None
        if isinstance(module, _CONVOLUTIONS[:2]) and scale is not None:
            # a BatchNorm or gate right after a convolution scales its output channels: fold it in, then skip it
            weight = module.weight * scale.reshape(-1, *(1,) * (module.weight.ndim - 1))
            constant *= convolution_norm(weight, module.groups)
        elif i and isinstance(modules[i - 1], _CONVOLUTIONS[:2]) and channel_scale(module) is not None:
            pass
        else:
            constant *= _single(module, at.shape[1:])
        at = module(at)
    return constant


def _single(module: nn.Module, shape: Sequence[int]) -> float:
    scale = channel_scale(module)
    if scale is not None:
        return float(scale.abs().max())
    if isinstance(module, Gate):  # of another axis
        return float(module.mean().abs().max())
    if isinstance(module, nn.Linear):
        return spectral_norm(module.weight)
    if isinstance(module, _CONVOLUTIONS):  # a transposed one is the adjoint, its kernel the same
        return convolution_norm(module.weight, module.groups)
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d):
        # pooling treats channels alike and is linear: the norm on one channel is the norm
        return spectral_norm(matrix_of(module, (1, *shape[1:]))[0])
    return 1.0  # Flatten, Unflatten, Identity, Dropout, Select


def pointwise(module: nn.Module) -> float:
    """The constant of one module that is not affine."""
    if isinstance(module, _ONE):
        return 1.0
    if isinstance(module, nn.Softplus):
        if module.threshold < 20:  # torch jumps there from softplus(x) to x, by log(1 + e^−threshold)/beta
            raise NotImplementedError(f"Softplus jumps at its threshold={module.threshold:g} (20 and more pass)")
        return 1.0
    if isinstance(module, nn.LeakyReLU):
        return max(1.0, abs(module.negative_slope))
    if isinstance(module, nn.ELU):
        return max(1.0, abs(module.alpha))
    if isinstance(module, nn.Sigmoid):
        return 0.25
    if isinstance(module, nn.GELU | nn.SiLU):
        return 1.13  # sup of the slope: 1.1290 (GELU), 1.0998 (SiLU)
    if isinstance(module, nn.MaxPool1d | nn.MaxPool2d) and not module.return_indices:
        # |max a − max b|² ≤ Σ_window |a − b|²; each input lies in at most ⌈k/s⌉ windows per axis (k if dilated)
        axes = 1 if isinstance(module, nn.MaxPool1d) else 2
        k, s, d = (_pair(v, axes) for v in (module.kernel_size, module.stride or module.kernel_size, module.dilation))
        return math.sqrt(math.prod(-(-a // b) if c == 1 else a for a, b, c in zip(k, s, d, strict=True)))
    raise NotImplementedError(f"{type(module).__name__} has no certified Lipschitz constant")


def _pair(value: object, axes: int) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, tuple) else (int(str(value)),) * axes


def _flat(modules: Sequence[nn.Module]) -> list[nn.Module]:
    out: list[nn.Module] = []
    for module in modules:
        out += _flat(list(module)) if type(module) is nn.Sequential else [module]
    return out
