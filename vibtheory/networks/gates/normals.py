"""Torch's own stream of normal numbers, drawn on a CPU in less than half of the time.

torch.randn takes its uniform numbers from the Mersenne twister one by one; here the twister's 624 words are made and
tempered as vectors. The rest is what torch does with them on x86 (`normal_fill_AVX2`: Box and Muller's transform on
pairs of eights, with Cephes' logarithm, sine and cosine), operation for operation: the numbers, and the generator's
state afterwards, are the same to the last bit. Where they are not (another processor, another torch), which is looked
at once, torch's are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["standard_normal"]

_WORTH_COMPILING = 100_000_000  # numbers drawn by torch before numba is loaded: either costs half a second
_CHUNK = 1024  # uniform numbers at a time; a multiple of 64, so that every loop is one of full vectors
_LEFT, _NEXT, _WORDS = slice(8, 12), slice(16, 24), slice(24, 5016)  # of the bytes of torch's generator state
_drawn = 0

_Fill = Callable[[NDArray[np.uint64], int, NDArray[np.float32]], int]
f, i, u = np.float32, np.int32, np.uint32  # numba widens what is not named: a vector of 8 would become one of 4
_LOG = tuple(map(f, (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)))  # fmt: skip
_LN2_LOW, _LN2_HIGH, _ROOT_HALF = f(-2.12194440e-4), f(0.693359375), f(0.707106781186547524)
_COS = tuple(map(f, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)))
_SIN = tuple(map(f, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)))
_PI_4 = tuple(map(f, (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)))  # -π/4 in three parts
_4_PI, _2_PI, _UNIT = f(1.27323954473516), f(6.283185307179586), f(2.0**-24)


def standard_normal(n: int, d: int, like: Tensor) -> Tensor:
    """torch.randn(n, d) with the type and the device of `like`: the same numbers, from the default generator."""
    global _drawn
    if (
        like.device.type == "cpu" and like.dtype == torch.float32 and n * d >= _CHUNK
        and not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(like)
    ):  # fmt: skip
        _drawn += n * d
        if _drawn > _WORTH_COMPILING and (fill := _compiled()) is not None:
            return _draw(fill, torch.default_generator, torch.empty(n, d))
    return torch.randn(n, d, device=like.device, dtype=like.dtype)


def _draw(fill: _Fill, generator: torch.Generator, out: Tensor) -> Tensor:
    state = generator.get_state()
    plain = state.numpy()
    left, place, words = plain[_LEFT].view(np.int32), plain[_NEXT].view(np.uint64), plain[_WORDS].view(np.uint64)
    used = fill(words, 624 if left[0] == 1 else int(place[0]), out.view(-1).numpy())
    place[0], left[0] = used, 625 - used
    generator.set_state(state)
    return out


@cache
def _compiled() -> _Fill | None:
    """The compiled `_fill`, kept on disk; None where its numbers are not torch's, or numba is not there."""
    try:
        import numba
    except ImportError:
        return None
    fill: _Fill = numba.njit(cache=True, fastmath={"contract"}, error_model="numpy")(_fill)
    ours, theirs = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    drawn = _draw(fill, ours, torch.empty(5 * _CHUNK + 100))
    same = torch.equal(drawn, torch.randn(len(drawn), generator=theirs))
    return fill if same and torch.equal(ours.get_state(), theirs.get_state()) else None


def _fill(words: NDArray[np.uint64], place: int, out: NDArray[np.float32]) -> int:
    """Fill `out` [n ≥ 16] with normal numbers; returns the place of the twister's next word among its 624.

    words: the twister's, changed in place. Numbers come in sixteens; where n is no multiple of it, the last sixteen are
    drawn anew, as torch does.
    """
    half = _CHUNK // 2
    state, raw, uniform, result = np.empty(624, u), np.empty(16 + _CHUNK, u), np.empty(_CHUNK, f), np.empty(_CHUNK, f)
    one, other, mantissa, normal = np.empty(half, f), np.empty(half, f), np.empty(half, f), np.empty(half, f)
    one_bits, mantissa_bits = one.view(i), mantissa.view(i)
    # eights of float32 are moved as two complex numbers each: as they are, they would be moved one by one
    of_uniform, to_one, to_other = uniform.view(np.complex128), one.view(np.complex128), other.view(np.complex128)
    of_cosine, of_sine, to_result = other.view(np.complex128), normal.view(np.complex128), result.view(np.complex128)
    for k in range(624):
        state[k] = words[k]
    whole = len(out) - len(out) % 16
    start, last = 0, False
    while start < whole or (len(out) % 16 and not last):
        last = start >= whole
        n = 16 if last else min(_CHUNK, whole - start)
        done = -(len(out) % 16) if last else 0  # torch draws, and leaves, what is over
        while done < n:
            if place == 624:
                place = 0
                for k in range(227):
                    y = u(u(state[k] & u(0x80000000)) | u(state[k + 1] & u(0x7FFFFFFF)))
                    state[k] = u(state[k + 397] ^ u(u(y >> u(1)) ^ u(u(u(0) - u(y & u(1))) & u(0x9908B0DF))))
                for k in range(227, 623):
                    y = u(u(state[k] & u(0x80000000)) | u(state[k + 1] & u(0x7FFFFFFF)))
                    state[k] = u(state[k - 227] ^ u(u(y >> u(1)) ^ u(u(u(0) - u(y & u(1))) & u(0x9908B0DF))))
                y = u(u(state[623] & u(0x80000000)) | u(state[0] & u(0x7FFFFFFF)))
                state[623] = u(state[396] ^ u(u(y >> u(1)) ^ u(u(u(0) - u(y & u(1))) & u(0x9908B0DF))))
            take = min(624 - place, n - done)
            taken, left = raw[16 + done :], state[place:]
            for k in range(take):
                taken[k] = left[k]
            place += take
            done += take
        for k in range(_CHUNK):
            y = raw[16 + k]
            y = u(y ^ u(y >> u(11)))
            y = u(y ^ u(u(y << u(7)) & u(0x9D2C5680)))
            y = u(y ^ u(u(y << u(15)) & u(0xEFC60000)))
            y = u(y ^ u(y >> u(18)))
            uniform[k] = f(i(u(y & u(0xFFFFFF)))) * _UNIT
        for k in range(_CHUNK // 16):
            to_one[2 * k], to_one[2 * k + 1] = of_uniform[4 * k], of_uniform[4 * k + 1]
            to_other[2 * k], to_other[2 * k + 1] = of_uniform[4 * k + 2], of_uniform[4 * k + 3]
        for k in range(half):
            one[k] = f(1) - one[k]
        for k in range(half):  # 1 - u = m 2^e
            mantissa_bits[k] = i(i(one_bits[k] & i(0x007FFFFF)) | i(0x3F000000))
        for k in range(half):
            e, m = f(i(i(one_bits[k] >> i(23)) - i(126))), mantissa[k]
            small = m < _ROOT_HALF
            e = e - (f(1) if small else f(0))
            x = (m - f(1)) + (m if small else f(0))
            y = _LOG[0] * x + _LOG[1]
            y = y * x + _LOG[2]
            y = y * x + _LOG[3]
            y = y * x + _LOG[4]
            y = y * x + _LOG[5]
            y = y * x + _LOG[6]
            y = y * x + _LOG[7]
            y = y * x + _LOG[8]
            z = x * x
            y = y * x * z + e * _LN2_LOW - z * f(0.5)
            normal[k] = np.sqrt(f(-2) * ((x + y) + e * _LN2_HIGH))  # the radius
        for k in range(half):
            t = _2_PI * other[k]
            octant = i(i(i(t * _4_PI) + i(1)) & i(~1))
            q = f(octant)
            t = ((t + q * _PI_4[0]) + q * _PI_4[1]) + q * _PI_4[2]
            z = t * t
            c = ((_COS[0] * z + _COS[1]) * z + _COS[2]) * z * z - z * f(0.5) + f(1)
            s = ((_SIN[0] * z + _SIN[1]) * z + _SIN[2]) * z * t + t
            straight = i(octant & i(2)) == i(0)
            sine, cosine = (s, c) if straight else (c, s)
            radius = normal[k]
            other[k] = radius * cosine * f(i(1) - i(i(i(octant + i(2)) & i(4)) >> i(1)))
            normal[k] = radius * sine * f(i(1) - i(i(octant & i(4)) >> i(1)))
        for k in range(_CHUNK // 16):
            to_result[4 * k], to_result[4 * k + 1] = of_cosine[2 * k], of_cosine[2 * k + 1]
            to_result[4 * k + 2], to_result[4 * k + 3] = of_sine[2 * k], of_sine[2 * k + 1]
        target = out[len(out) - 16 if last else start :]
        for k in range(n):
            target[k] = result[k]
        start += n
    for k in range(624):
        words[k] = state[k]
    return place
