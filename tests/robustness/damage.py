"""Ways to spoil a file: bytes that are cut, flipped and replaced, and values of the wrong type, size and meaning."""

from __future__ import annotations

import copy
import io
import zipfile
from typing import Any

import numpy as np

__all__ = ["JUNK", "PAYLOAD", "damaged", "deep", "pickled_weights", "replaced"]

PAYLOAD = b"cposix\nsystem\n(S'touch payload-ran'\ntR."  # a pickle that would make this file where it is loaded
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 7, 10**9, 10**400, 1e308, -0.5, float("nan"), float("inf"), "", "x", "μ" * 3000,
    "../../etc/passwd", "\x00", "1e-3", "[" * 500, [], [1, 2, 3], [None], [10**9] * 3, ["a"], {},
    {"a": 1}, {"": None}, [[], [[]]],
)  # fmt: skip


def pickled_weights() -> bytes:
    """A torch-style zip archive whose data.pkl is the payload."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", PAYLOAD)
        archive.writestr("archive/version", "3\n")
    return content.getvalue()


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """`content` truncated, with flipped bits, blocks zeroed or replaced, doubled, emptied, or another file."""
    spoiled, n = bytearray(content), max(len(content), 1)
    place, length = int(rng.integers(n)), int(rng.integers(1, 40))
    kind = int(rng.integers(10))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:-length]
    if kind in (2, 3):
        for position in rng.integers(len(spoiled), size=1 if kind == 2 else 8):
            spoiled[position] ^= 1 << int(rng.integers(8))
        return bytes(spoiled)
    if kind == 4:
        return content[:place] + bytes(length) + content[place + length :]
    if kind == 5:
        return content[:place] + rng.bytes(length) + content[place + length :]
    if kind == 6:
        return content[:place] + rng.bytes(length) + content[place:]
    if kind == 7:
        return content + content[:place]
    if kind == 8:
        return [b"", b"\x00", b"\xff\xfe", rng.bytes(200), b"[" * 100_000][int(rng.integers(5))]
    return [PAYLOAD, pickled_weights()][int(rng.integers(2))]


def deep(depth: int = 100_000) -> str:
    """JSON and TOML alike: brackets nested past every recursion limit."""
    return "[" * depth + "]" * depth


def replaced(rng: np.random.Generator, tree: Any) -> Any:
    """A deep copy of a tree of dictionaries and lists with one node exchanged for junk, removed, or added."""
    tree = copy.deepcopy(tree)
    places = list(_places(tree))
    holder, key = places[int(rng.integers(len(places)))]
    action = int(rng.integers(6))
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder["unheard of"] = JUNK[int(rng.integers(len(JUNK)))]
    else:
        holder[key] = copy.deepcopy(JUNK[int(rng.integers(len(JUNK)))])
    return tree


def _places(tree: Any) -> Any:
    """(holder, key) of every node below the root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)
