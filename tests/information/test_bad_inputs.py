"""One table of bad inputs for channels and estimators: each is refused at the edge, in a sentence with a remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vibtheory.errors import InvalidInputError
from vibtheory.information import GatedChannel, binning, estimate, infonce, ksg, ksg_samples, leave_one_out

F = np.array([[0.0, 20.0, 0.03], [5.0, 0.0, 0.01], [2.0, 0.0, -0.02], [0.0, 3.0, 0.5], [0.0, 0.0, 0.0]])
CHANNEL = GatedChannel(F, [1.5, -0.2, 40.0], [0.3, 2.0, 11.0])
H = CHANNEL.sample(0)
ONES = np.ones((5, 1))

BAD = {
    "one axis": (lambda: GatedChannel(np.ones(3), 1, 1), "f: got shape"),
    "no rows": (lambda: GatedChannel(np.ones((0, 3)), 1, 1), "f: got no rows"),
    "NaN": (lambda: GatedChannel([[np.nan, 1.0]], 1, 1), "f: got 1 of 2"),
    "complex": (lambda: GatedChannel(F * 1j, 1, 1), "f: got ndarray"),
    "text": (lambda: GatedChannel([["a"]], 1, 1), "f: got list"),
    "means of another width": (lambda: GatedChannel(F, [1, 2], 1), "mu: got shape"),
    "deviations of two axes": (lambda: GatedChannel(F, 1, [[1, 2, 3]]), "sigma: got shape"),
    "negative deviation": (lambda: GatedChannel(F, 1, [1, -0.1, 1]), "sigma: got smallest entry -0.1"),
    "negative noise": (lambda: GatedChannel(F, 1, 1, -0.1), "tau: got -0.1"),
    "two noises": (lambda: GatedChannel(F, 1, 1, [0.1, 0.2]), "tau: got shape"),
    "no noise": (lambda: GatedChannel(F, 1, [1, 0, 1]), "sigma: got 1 open gates"),
    "no noise, regular": (lambda: GatedChannel.regular(F, 0.0), "tau > 0"),
    "points of another width": (lambda: CHANNEL.log_density(H[:, :2]), "h: got shape"),
    "patterns of other points": (lambda: CHANNEL.log_density(H, [0, 1]), "pattern: got shape"),
    "rows of other points": (lambda: CHANNEL.log_density_ratio(H, [0, 1]), "rows: got"),
    "rows that are no integers": (lambda: CHANNEL.log_density_ratio(H, np.arange(5) * 1.0), "rows: got float64"),
    "rows that are none": (lambda: CHANNEL.log_density_ratio(H, np.arange(5) + 1), "rows: got"),
    "rows with other zeros": (lambda: CHANNEL.log_density_ratio(H, [1, 1, 2, 3, 4]), "another zero pattern"),
    "a seed that is text": (lambda: CHANNEL.sample("a"), "seed: got 'a'"),
    "no seed": (lambda: infonce(CHANNEL, None), "seed: got None"),
    "negative seed": (lambda: leave_one_out(CHANNEL, -1), "seed: got -1"),
    "half a seed": (lambda: ksg(CHANNEL, seed=0.5), "seed: got 0.5"),
    "seed True": (lambda: binning(CHANNEL, seed=True), "seed: got True"),
    "no draws": (lambda: infonce(CHANNEL, draws=0), "draws: got 0"),
    "one row left out": (lambda: leave_one_out(GatedChannel([[1.0]], 1.0, 1.0)), "at least two rows"),
    "one bin": (lambda: binning(CHANNEL, bins=1), "bins: got 1"),
    "half a bin": (lambda: binning(CHANNEL, bins=2.5), "bins: got 2.5"),
    "half a neighbour": (lambda: ksg(CHANNEL, k=2.5), "k: got 2.5"),
    "no neighbour": (lambda: ksg_samples(ONES, ONES, 0), "k: got 0"),
    "all rows neighbours": (lambda: ksg_samples(ONES, ONES, 5), "k: got 5"),
    "pairs that are none": (lambda: ksg_samples(ONES, ONES[1:]), "y: got 4 rows"),
    "x of one axis": (lambda: ksg_samples(ONES[:, 0], ONES), "x: got shape"),
    "y of one axis": (lambda: ksg_samples(ONES, ONES[:, 0]), "y: got shape"),
    "correction above 1": (lambda: ksg_samples(ONES, ONES, 3, alpha=1.5), "alpha: got 1.5"),
    "correction of 0": (lambda: ksg_samples(ONES, ONES, 3, alpha=0), "alpha: got smallest entry 0"),
    "too few neighbours to correct": (lambda: ksg_samples(F, ONES, 4, alpha=0.2), "k: got 4, expected more than the 4"),
    "unknown method": (lambda: estimate(CHANNEL, "magic"), "method: got 'magic'"),
    "no channel": (lambda: estimate(np.ones((3, 2))), "channel: got ndarray"),
    "another method's option": (lambda: estimate(CHANNEL, "infonce", bins=3), "bins: got an option of 'infonce'"),
    "an option where there is none": (lambda: estimate(CHANNEL, "plain", seed=3), "expected no option"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_in_a_sentence(name):
    call, message = BAD[name]
    with pytest.raises(InvalidInputError, match=message) as caught:
        call()
    assert "Remedy: " in str(caught.value)


def test_tensors_are_taken_with_or_without_gradient():
    tensor = torch.tensor(F, requires_grad=True)
    np.testing.assert_array_equal(GatedChannel(tensor, 1.0, 0.5).f, F)
    assert ksg_samples(tensor, torch.tensor(F).float(), 3).method == "ksg"
