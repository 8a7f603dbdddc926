"""Training examples in batches: shifted (drawn per epoch) or cropped and flipped (drawn per batch) on the device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import check_choice, reject
from vibtheory.networks.forward import copy_of
from vibtheory.networks.streams import random_state_kept
from vibtheory.training.recipe import AUGMENTATIONS, Recipe

__all__ = ["Batches", "Examples", "as_bytes", "batches_of", "check_dataset", "needs_two"]

_PADDING = 4  # pixels on each side, the custom for CIFAR


def check_dataset(data: object) -> None:
    """Raise InvalidInputError unless `data` is a `Dataset` as `from_arrays` makes them; a field is named "data.…".

    A DataLoader is none: it has no test set and no likelihood. One made directly may hold anything.
    """
    remedy = "make it with vibtheory.datasets.from_arrays, which checks and converts"
    if not isinstance(data, Dataset):
        reject("data", f"a {type(data).__name__}", "a Dataset of vibtheory.datasets",
               "make one: vibtheory.datasets.from_arrays(x_train, y_train, x_test, y_test)")  # fmt: skip
    check_choice("data.likelihood", data.likelihood, ("multinomial", "gaussian"))
    tensors = {}
    for name in ("x_train", "y_train", "x_test", "y_test"):
        try:
            tensors[name] = torch.from_numpy(getattr(data, name))  # the same memory
        except (TypeError, ValueError) as error:
            reject(f"data.{name}", str(error).splitlines()[0], "a numpy array that torch can share", remedy)
    real = {"x_train", "x_test"} | ({"y_train", "y_test"} if data.likelihood == "gaussian" else set())
    for name, values in tensors.items():
        fits = values.is_floating_point() if name in real else values.dtype in (torch.int64, torch.uint8)
        least = 2 if name.startswith("x") else 1
        if not fits or values.ndim < least or not values.numel():
            expected = f"{'float32' if name in real else 'int64'}, {least}+ axes, not empty"
            reject(f"data.{name}", f"{values.dtype} of shape {list(values.shape)}", expected, remedy)
        if name in real and not all(bool(bound.isfinite()) for bound in values.aminmax()):
            reject(f"data.{name}", "NaN or infinite entries", "finite ones", "clean or rescale it")
    for split in ("train", "test"):
        rows, labels = len(tensors[f"x_{split}"]), len(tensors[f"y_{split}"])
        if rows != labels:
            reject(f"data.y_{split}", f"{labels} labels", f"{rows}, one per row of x_{split}", remedy)
    for kind in "xy":
        train, test = tensors[f"{kind}_train"].shape[1:], tensors[f"{kind}_test"].shape[1:]
        if train != test:
            reject(f"data.{kind}_test", f"entries of shape {list(test)}", f"{list(train)} as in {kind}_train", remedy)


class Examples:
    """The training inputs as the net takes them in each step: moved as the recipe says, without closed ones.

    Args:
        x: inputs [N, ...].
        recipe: its `shift` and `augment`.
        device: where the net is.

    Attributes:
        moved: moved batch by batch, where the recipe has `shift` or `augment`; else None.
        given: x as a tensor [N, ...]; on the device unless `moved` holds them there.

    Raises:
        InvalidInputError: `x` is no stack of images and the recipe changes them.
    """

    def __init__(self, x: NDArray[np.float32], recipe: Recipe, device: torch.device) -> None:
        changes = recipe.shift or recipe.augment is not None
        self.moved = Batches(x, recipe.augment or "none", device, shift=recipe.shift) if changes else None
        self.given = torch.from_numpy(x) if self.moved else torch.from_numpy(x).to(device)
        self._now = self.given
        # This epoch's shifts, always in the same memory: a captured step reads them there.
        self._shifts = torch.zeros(3, len(x), dtype=torch.int64, device=device) if recipe.shift else None

    def __len__(self) -> int:
        return len(self.given)

    def leave_out_all_but(self, kept: Tensor | None) -> None:
        """From now on take only the flattened inputs `kept` (indices), or all as they are (None)."""
        if self.moved:
            self.moved.leave_out_all_but(kept)
        else:
            self._now = self.given if kept is None else self.given.flatten(1).index_select(1, kept)

    def begin_epoch(self) -> None:
        """Draw this epoch's shifts: how far down and right, which is what is not cut off above and left."""
        if self.moved and self._shifts is not None:
            self._shifts.copy_(self.moved.draw(len(self)))
            self._shifts[:2] = self.moved.most - self._shifts[:2]

    def take(self, batch: Tensor, mine: slice = slice(None)) -> Tensor:
        """Inputs [n, ...] of the part `mine` of a batch of indices; crops and flips are drawn for the whole batch."""
        if self.moved is None:
            return self._now.index_select(0, batch[mine])
        drawn = self.moved.draw(len(batch)) if self._shifts is None else self._shifts[:, batch]
        return self.moved.take(batch[mine], drawn[:, mine])


class Batches:
    """Batches of training images, gathered, cropped or shifted, flipped and scaled on the device.

    The images stay on the device as bytes, padded and channels last, so that a pixel's colours are neighbours: one
    gather per batch does it all together, and its result is a channels-last tensor without another copy.

    Args:
        x: images [N, C, H, W]; kept as bytes where every entry is a byte divided by 255, as float32 otherwise.
        augment: "none", "flip" (half of the images, left to right) or "crop+flip" (padded by 4 zeros on each side, cut
            at one of the 81 places, uniformly; then flipped).
        device: where the images are kept.
        shift: with "none", each image moves by up to so many pixels each way, uniformly, and the border is 0.

    Attributes:
        most: rows, and columns, that are cut off at most.

    Raises:
        InvalidInputError: `x` is not a stack of images, an unknown `augment`, or one shift would leave nothing of them.
    """

    def __init__(self, x: NDArray[np.float32], augment: str, device: torch.device, shift: int = 0) -> None:
        if x.ndim != 4:
            name, remedy = ("shift", "set shift to 0") if shift else ("augment", "leave augment out")
            reject(name, f"data of shape {list(x.shape)}", "images [N, C, H, W]", f"{remedy} for such data")
        check_choice("augment", augment, AUGMENTATIONS)
        if shift >= min(x.shape[2:]):
            reject("shift", shift, f"less than the images' {min(x.shape[2:])} pixels", "shift by a pixel or two")
        pad = _PADDING if augment == "crop+flip" else shift
        self.most = 2 * pad
        self._flip = augment != "none"
        self._device = device
        self._shape = x.shape[1:]
        coded = as_bytes(x)
        self._scale = 255.0 if coded is not None else None
        padded = np.pad((x if coded is None else coded).transpose(0, 2, 3, 1), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        self._pixels = torch.from_numpy(padded.reshape(-1, x.shape[1])).to(device)  # [N·H'·W', C]
        self.leave_out_all_but(None)

    def leave_out_all_but(self, kept: Tensor | None) -> None:
        """From now on take only the entries `kept` (indices into the flattened C·H·W), or whole images (None)."""
        channels, height, width = self._shape
        self._kept, wide = kept, width + self.most
        # where an entry, and its mirror image, lie from the corner of its image; whole pixels, or entries of them
        row, column = (torch.arange(n, device=self._device) for n in (height, width))
        places = [row[:, None] * wide + across for across in (column, width - 1 - column)]
        if kept is not None:
            channel = torch.arange(channels, device=self._device)[:, None, None]
            places = [(place * channels + channel).flatten()[kept] for place in places]
        self._places, self._mirrored = (place.flatten() for place in places)

    def draw(self, n: int) -> Tensor:
        """Random numbers [3, n] for n images: rows and columns cut off above and left, and whether to flip."""
        places = torch.randint(self.most + 1, (2, n), device=self._device)
        flips = torch.randint(2, (1, n), device=self._device) if self._flip else torch.zeros_like(places[:1])
        return torch.cat([places, flips])

    def take(self, indices: Tensor, drawn: Tensor) -> Tensor:
        """float32 images [n, C, H, W] in channels-last memory, or what is kept of them [n, J], changed as `drawn` says.

        Args:
            indices: which images, int64 [n].
            drawn: from `draw`, [3, n]; a column for each.
        """
        top, left, flip = drawn
        channels, height, width = self._shape
        corner = (indices * (height + self.most) + top) * (width + self.most) + left
        places = torch.where(flip[:, None] > 0, self._mirrored, self._places) if self._flip else self._places
        if self._kept is None:
            found = self._pixels.index_select(0, (corner[:, None] + places).flatten())
            images = found.view(len(indices), height, width, channels).permute(0, 3, 1, 2)
        else:
            found = self._pixels.view(-1).index_select(0, (corner[:, None] * channels + places).flatten())
            images = found.view(len(indices), -1)
        return images.float() if self._scale is None else images.float().div_(self._scale)


def as_bytes(x: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    """The bytes b with x = b / 255 exactly in float32, as `datasets.load` makes them; None if there are none."""
    if x.size and (float(x.min()) < 0 or float(x.max()) > 1):
        return None
    coded = np.empty(x.shape, dtype=np.uint8)
    for start in range(0, len(x), 1000):  # in parts: a whole copy of CIFAR's floats would cost 600 MB
        part = x[start : start + 1000]
        coded[start : start + 1000] = np.rint(part * np.float32(255))
        if not np.array_equal(coded[start : start + 1000].astype(np.float32) / np.float32(255), part):
            return None
    return coded


def needs_two(net: nn.Module, one: Tensor, examples: int, batch_size: int) -> bool:
    """Whether a batch of a single example would come up that `net` cannot be trained on, because of a BatchNorm.

    `batches_of` then leaves none over.

    Args:
        net: unchanged. one: an example [1, ...]. examples, batch_size: of the data set and the recipe.

    Raises:
        InvalidInputError: every batch is a single example.
    """
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())
    if not norms or (examples % batch_size != 1 and batch_size > 1):
        return False
    trial = copy_of(net).train()
    try:
        with torch.no_grad(), random_state_kept(one.device):
            trial(one)
    except ValueError:
        if min(batch_size, examples) == 1:
            reject("batch_size", f"{batch_size} for {examples} examples", "batches of two examples or more",
                   "choose a larger one: a BatchNorm cannot be trained on a single example")  # fmt: skip
        return True
    return False


def batches_of(order: Tensor, size: int, pairs: bool) -> list[Tensor]:
    """`order` [N] in batches of `size`, the last one shorter; with `pairs` a single one joins the batch before."""
    batches = list(torch.split(order, size))
    if pairs and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
