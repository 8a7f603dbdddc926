"""Random shifts against numpy slices, and their distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vibtheory.augmentation import Shifts
from vibtheory.errors import InvalidInputError


def _moved(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """`image` [C, H, W] moved by (dy, dx) by plain loops."""
    out = np.zeros_like(image)
    _, height, width = image.shape
    for i in range(height):
        for j in range(width):
            if 0 <= i - dy < height and 0 <= j - dx < width:
                out[:, i, j] = image[:, i - dy, j - dx]
    return out


@pytest.mark.parametrize("pixels", [1, 2])
def test_every_image_is_moved_by_one_of_the_shifts_uniformly(pixels: int) -> None:
    rng, n = np.random.default_rng(0), 3000
    images = (rng.uniform(0.1, 2.5, size=(1, 2, 5, 4)) * np.ones((n, 1, 1, 1))).astype(np.float32)
    torch.manual_seed(1)
    x = torch.from_numpy(images)
    drawn = Shifts(x, pixels).draw().numpy()
    places = range(-pixels, pixels + 1)
    table = {(dy, dx): _moved(images[0], dy, dx) for dy in places for dx in places}
    counts = {shift: int((drawn == image).all(axis=(1, 2, 3)).sum()) for shift, image in table.items()}
    assert sum(counts.values()) == n
    expected = n / len(table)
    chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi2 < len(table) - 1 + 4 * np.sqrt(2 * (len(table) - 1))
    assert np.array_equal(x.numpy(), images)  # the data set itself stays


def test_each_image_keeps_its_place_in_the_data_set() -> None:
    """Constant images of different values: whatever the shift, the largest entry is the image's own."""
    torch.manual_seed(2)
    x = torch.arange(1.0, 41.0).view(40, 1, 1, 1).expand(40, 1, 6, 6) * 0.3
    assert torch.equal(Shifts(x, 2).draw().amax(dim=(1, 2, 3)), x[:, 0, 0, 0])


def test_same_seed_same_shifts_and_new_ones_each_time() -> None:
    shifts = Shifts(torch.rand(30, 1, 5, 5), 1)
    torch.manual_seed(3)
    first, second = shifts.draw(), shifts.draw()
    torch.manual_seed(3)
    assert torch.equal(shifts.draw(), first)
    assert not torch.equal(first, second)


def test_images_only() -> None:
    with pytest.raises(InvalidInputError, match="set shift to 0"):
        Shifts(torch.rand(30, 25), 1)
