"""Random shifts and crops against numpy slices, and their distribution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from vibtheory.errors import InvalidInputError
from vibtheory.training.examples import Batches, Examples, as_bytes
from vibtheory.training.recipe import Recipe


def _moved(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """`image` [C, H, W] moved by (dy, dx) by plain loops."""
    out = np.zeros_like(image)
    _, height, width = image.shape
    for i in range(height):
        for j in range(width):
            if 0 <= i - dy < height and 0 <= j - dx < width:
                out[:, i, j] = image[:, i - dy, j - dx]
    return out


CPU = torch.device("cpu")


def _shifted(x: np.ndarray, pixels: int) -> Iterator[torch.Tensor]:
    """All images of `x`, each moved as drawn, again and again."""
    batches = Batches(x, "none", CPU, shift=pixels)
    while True:
        yield batches.take(torch.arange(len(x)), batches.draw(len(x)))


@pytest.mark.parametrize("pixels", [1, 2])
def test_every_image_is_moved_by_one_of_the_shifts_uniformly(pixels: int) -> None:
    rng, n = np.random.default_rng(0), 3000
    images = (rng.uniform(0.1, 2.5, size=(1, 2, 5, 4)) * np.ones((n, 1, 1, 1))).astype(np.float32)
    torch.manual_seed(1)
    drawn = next(_shifted(images, pixels)).numpy()
    places = range(-pixels, pixels + 1)
    table = {(dy, dx): _moved(images[0], dy, dx) for dy in places for dx in places}
    counts = {shift: int((drawn == image).all(axis=(1, 2, 3)).sum()) for shift, image in table.items()}
    assert sum(counts.values()) == n
    expected = n / len(table)
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < len(table) - 1 + 4 * np.sqrt(2 * (len(table) - 1))


def test_each_image_keeps_its_place_in_the_data_set() -> None:
    """Constant images of different values: whatever the shift, the largest entry is the image's own."""
    torch.manual_seed(2)
    x = (np.arange(1, 41, dtype=np.float32) * np.float32(0.3)).reshape(40, 1, 1, 1) * np.ones((1, 1, 6, 6), np.float32)
    assert torch.equal(next(_shifted(x, 2)).amax(dim=(1, 2, 3)), torch.from_numpy(x[:, 0, 0, 0]))


def test_same_seed_same_shifts_and_new_ones_each_time() -> None:
    shifts = _shifted(np.random.default_rng(7).random((30, 1, 5, 5), dtype=np.float32), 1)
    torch.manual_seed(3)
    first, second = next(shifts), next(shifts)
    torch.manual_seed(3)
    assert torch.equal(next(shifts), first)
    assert not torch.equal(first, second)


def test_images_only() -> None:
    with pytest.raises(InvalidInputError, match="set shift to 0"):
        Batches(np.zeros((30, 25), np.float32), "none", CPU, shift=1)
    with pytest.raises(InvalidInputError, match=r"^shift: got 5, expected less than the images' 5 pixels"):
        Batches(np.zeros((30, 1, 6, 5), np.float32), "none", CPU, shift=5)


def _bytes(n: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, size=(n, 3, height, width)).astype(np.uint8)


@pytest.mark.parametrize("scaled", [True, False], ids=["bytes", "floats"])
def test_batches_against_numpy(scaled: bool) -> None:
    """Pad, cut and flip by hand at the drawn places; bytes come back divided by 255, floats as they were."""
    raw = _bytes(9, 5, 6)
    x = raw.astype(np.float32) / np.float32(255) if scaled else raw.astype(np.float32) * np.float32(0.37)
    batches = Batches(x, "crop+flip", CPU)
    indices = torch.tensor([4, 0, 8, 4, 7])
    torch.manual_seed(4)
    drawn = batches.draw(5)
    out = batches.take(indices, drawn)
    assert out.is_contiguous(memory_format=torch.channels_last)
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)))
    for k, (index, (top, left, flip)) in enumerate(zip(indices.tolist(), drawn.T.tolist(), strict=True)):
        cut = padded[index, :, top : top + 5, left : left + 6]
        np.testing.assert_array_equal(out[k].numpy(), cut[:, :, ::-1] if flip else cut)


@pytest.mark.parametrize("changes", [{"augment": "crop+flip"}, {"augment": "flip"}, {"shift": 2}, {}], ids=str)
def test_what_is_left_out_is_all_that_is_left_out(changes: dict[str, object]) -> None:
    """Some entries of images with colours, whichever way they are moved, are those of the whole images."""
    kept = torch.tensor([0, 3, 31, 47, 48, 89])
    whole, some = (Examples(_bytes(7, 5, 6) / np.float32(255), Recipe(gamma=1e-3, **changes), CPU) for _ in range(2))
    some.leave_out_all_but(kept)
    for seed in range(3):
        batch = torch.tensor([4, 0, 6, 4])
        taken = []
        for examples in (whole, some):
            torch.manual_seed(seed)
            examples.begin_epoch()
            taken.append(examples.take(batch, slice(1, 4)))
        assert torch.equal(taken[1], taken[0].flatten(1)[:, kept])
    some.leave_out_all_but(None)
    torch.manual_seed(2)
    some.begin_epoch()
    assert torch.equal(some.take(batch, slice(1, 4)), taken[0])


def test_a_captured_step_sees_each_epochs_shifts() -> None:
    """A CUDA graph reads the memory that it was recorded with; so does a trace, on any device."""
    examples = Examples(_bytes(40, 5, 6) / np.float32(255), Recipe(gamma=1e-3, shift=2), CPU)
    batch = torch.arange(40)
    torch.manual_seed(8)
    examples.begin_epoch()
    first = examples.take(batch)
    replayed = make_fx(lambda indices: examples.take(indices))(batch)
    assert torch.equal(replayed(batch), first)
    examples.begin_epoch()
    assert torch.equal(replayed(batch), examples.take(batch))
    assert not torch.equal(replayed(batch), first)


def test_draws_are_uniform() -> None:
    batches = Batches(_bytes(2, 4, 4).astype(np.float32), "crop+flip", CPU)
    torch.manual_seed(6)
    n = 40000
    top, left, flip = batches.draw(n).numpy()
    counts = np.bincount(top * 9 + left, minlength=81)
    chi2 = float(((counts - n / 81) ** 2 / (n / 81)).sum())
    assert chi2 < 80 + 4 * np.sqrt(160)
    assert abs(flip.mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
    assert set(np.unique(flip)) == {0, 1}


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_weaker_augmentations(augment: str) -> None:
    x = _bytes(6, 4, 5).astype(np.float32) / np.float32(255)
    batches = Batches(x, augment, CPU)
    drawn = batches.draw(6)
    assert drawn[:2].max() == 0
    if augment == "none":
        assert drawn.max() == 0
    drawn[2] = torch.tensor([0, 1, 0, 0, 1, 0]) if augment == "flip" else 0
    out = batches.take(torch.arange(6), drawn).numpy()
    for k in range(6):
        np.testing.assert_array_equal(out[k], x[k][:, :, ::-1] if drawn[2, k] else x[k])


def test_what_counts_as_bytes() -> None:
    raw = _bytes(1500, 2, 2)  # more than one part
    x = raw.astype(np.float32) / np.float32(255)
    coded = as_bytes(x)
    assert coded is not None
    np.testing.assert_array_equal(coded, raw)
    almost = x.copy()
    almost[1400, 0, 0, 0] = 0.1234567
    assert as_bytes(almost) is None
    assert as_bytes(x * 2) is None
    assert as_bytes(x - 1) is None


def test_batches_of_images_only() -> None:
    with pytest.raises(InvalidInputError, match="leave augment out"):
        Batches(np.zeros((3, 7), np.float32), "flip", CPU)
    with pytest.raises(InvalidInputError, match=r"augment.*crop\+flip"):
        Batches(np.zeros((3, 1, 2, 2), np.float32), "rotate", CPU)
