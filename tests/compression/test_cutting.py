"""What leaves with a closed channel through depthwise, grouped and transposed convolutions, norms and sums; what stays
is said. Shapes counted by hand."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vibtheory.compression.cut import compress
from vibtheory.compression.fixed_modules import Expand, Select
from vibtheory.errors import InvalidInputError
from vibtheory.networks.activations import TORCH_ACTIVATIONS
from vibtheory.networks.equivalence import deviation
from vibtheory.networks.gates import Gate
from vibtheory.networks.insertion import insert_gates


class Plain(nn.Module):
    """A chain, but not one to the chain's own cutting."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def gate(d: int, closed: list[int]) -> Gate:
    made = Gate(d)
    with torch.no_grad():
        made.mu.copy_(torch.linspace(0.5, 2, d))
        made.mu[closed] = 0
    return made


def small_of(net: nn.Module, *shape: int) -> tuple[dict[str, list[int]], nn.Module]:
    """Shapes of the cut weights (without kernels), once the outputs are seen to be the same."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor, 1.0, 0.3)  # type: ignore[arg-type]
    net = net.double().eval()
    x = torch.randn(2, *shape, dtype=torch.float64)
    small = compress(net, x)
    fresh = torch.randn(3, *shape, dtype=torch.float64)
    assert deviation(net, small, [(x,), (fresh,), (20 * fresh,)]) < 1e-9
    shapes = {name.removeprefix("body."): list(p.shape[:2]) for name, p in small.named_parameters() if p.ndim > 1}
    return shapes, small


def test_a_depthwise_filter_leaves_where_either_of_its_gates_is_closed() -> None:
    """Channel 1 hears nothing: a constant, which the next bias takes up; channels 2 and 3 pass nothing."""
    net = Plain(a=nn.Conv2d(3, 6, 1), r=nn.ReLU(), g=gate(6, [1]), dw=nn.Conv2d(6, 6, 3, padding=1, groups=6),
                n=nn.BatchNorm2d(6), s=nn.SiLU(), h=gate(6, [2, 3]), pw=nn.Conv2d(6, 4, 1, bias=False))  # fmt: skip
    shapes, small = small_of(net, 3, 5, 5)
    assert shapes == {"a.weight": [3, 3], "dw.weight": [3, 1], "pw.weight": [4, 3]}
    assert small.get_submodule("body.dw").groups == small.get_submodule("body.n").num_features == 3


def test_a_convolution_of_one_channel_is_not_depthwise() -> None:
    """Images with one channel, as MNIST's: groups stay 1, here where all leaves together and where makers go alone."""
    net = Plain(a=nn.Conv2d(1, 6, 3), r=nn.ReLU(), g=gate(6, [1, 4]), b=nn.Conv2d(6, 4, 3), s=nn.ReLU(),
                h=gate(4, [0]), c=nn.Conv2d(4, 2, 1))  # fmt: skip
    shapes, small = small_of(net, 1, 8, 8)
    assert shapes == {"a.weight": [4, 1], "b.weight": [3, 4], "c.weight": [2, 3]}
    assert small.get_submodule("body.a").groups == 1
    normed = Plain(a=nn.Conv2d(1, 6, 3), n=nn.GroupNorm(2, 6), s=nn.SiLU(), g=gate(6, [3, 4, 5]), b=nn.Conv2d(6, 4, 1))
    assert small_of(normed, 1, 8, 8)[0] == {"a.layer.weight": [3, 1], "b.layer.weight": [4, 3]}


def test_a_transposed_depthwise_filter_leaves_where_either_of_its_gates_is_closed() -> None:
    net = Plain(a=nn.Conv2d(3, 6, 1), r=nn.ReLU(), g=gate(6, [2, 3]), dw=nn.ConvTranspose2d(6, 6, 2, 2, groups=6),
                s=nn.ReLU(), h=gate(6, [2, 5]), pw=nn.Conv2d(6, 4, 1))  # fmt: skip
    shapes, small = small_of(net, 3, 5, 5)
    assert shapes == {"a.weight": [3, 3], "dw.weight": [3, 1], "pw.weight": [4, 3]}  # 3 is a constant: pw takes it up
    kept = small.get_submodule("body.dw")
    assert kept.groups == kept.in_channels == kept.out_channels == 3


def test_group_norm_keeps_a_group_until_all_of_it_is_closed() -> None:
    """Groups {0, 1, 2} and {3, 4, 5}: the second leaves its maker; the norm needs all of the first."""
    net = Plain(a=nn.Conv2d(3, 6, 1), n=nn.GroupNorm(2, 6), s=nn.SiLU(), g=gate(6, [2, 3, 4, 5]), b=nn.Conv2d(6, 4, 1))
    shapes, small = small_of(net, 3, 5, 5)
    assert shapes == {"a.layer.weight": [3, 3], "b.layer.weight": [4, 2]}
    assert isinstance(small.get_submodule("body.a.expand"), Expand)
    assert isinstance(small.get_submodule("body.b.select"), Select)
    assert small.cut_report.stayed == {  # type: ignore[union-attr]
        "body.a": "1 of 6 outputs stay: 'body.n' normalises its group by all of its channels"
    }


def test_transposed_convolutions_are_cut_on_both_sides() -> None:
    net = Plain(a=nn.ConvTranspose2d(3, 6, 2, 2), n=nn.BatchNorm2d(6), r=nn.ReLU(), g=gate(6, [0, 5]),
                b=nn.ConvTranspose2d(6, 4, 3, padding=1), s=nn.ReLU(), h=gate(4, [1]),
                c=nn.Conv2d(4, 2, 1))  # fmt: skip
    shapes, _ = small_of(net, 3, 4, 4)
    assert shapes == {"a.weight": [3, 4], "b.weight": [4, 3], "c.weight": [2, 3]}


def test_grouped_convolutions_lose_as_many_channels_in_each_group() -> None:
    """Two groups of four: of the inputs 0, 1 and 4 are closed, one of each group leaves; of the outputs 2, 6 and 7."""
    net = Plain(a=nn.Conv2d(3, 8, 1), r=nn.ReLU(), g=gate(8, [0, 1, 4]), b=nn.Conv2d(8, 8, 3, groups=2), s=nn.ReLU(),
                h=gate(8, [2, 6, 7]), c=nn.Conv2d(8, 2, 1))  # fmt: skip
    shapes, small = small_of(net, 3, 5, 5)
    assert shapes == {"a.layer.weight": [5, 3], "b.layer.weight": [6, 3], "c.layer.weight": [2, 5]}
    assert "in groups" in small.cut_report.stayed["body.b"]  # type: ignore[union-attr, index]


def test_a_closed_group_leaves_its_bias_behind() -> None:
    """All inputs of the second group are closed: what it makes is constant, and the BatchNorm behind still needs it."""
    net = Plain(a=nn.Conv2d(3, 4, 1), r=nn.ReLU(), g=gate(4, [2, 3]), b=nn.Conv2d(4, 4, 3, padding=1, groups=2),
                t=nn.Tanh(), c=nn.Conv2d(4, 2, 3, padding=1))  # fmt: skip
    shapes, small = small_of(net, 3, 5, 5)
    assert shapes == {"a.layer.weight": [2, 3], "b.layer.weight": [2, 2], "c.weight": [2, 4]}
    assert small.get_submodule("body.b.expand").fill.shape == (3,)  # type: ignore[union-attr]


class Reordered(nn.Module):
    """Channels in an order that the model holds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g, self.b = nn.Conv2d(3, 6, 1), gate(6, [0, 5]), nn.Conv2d(6, 4, 3)
        self.h, self.c = gate(4, [1]), nn.Conv2d(4, 2, 1)
        self.register_buffer("order", torch.tensor([2, 0, 4, 5, 1, 3]))

    def forward(self, x: Tensor) -> Tensor:
        first = torch.relu(self.g(self.a(x))).index_select(1, self.order)
        return self.c(torch.relu(self.h(self.b(first))))


def test_an_order_that_the_model_holds_is_followed() -> None:
    """Once nothing left: the order itself was taken for units that move, and out of bounds."""
    shapes, _ = small_of(Reordered(), 3, 5, 5)
    assert shapes == {"a.layer.weight": [4, 3], "b.layer.weight": [3, 4], "c.weight": [2, 3]}


class Stream(nn.Module):
    """A layer that listens to a gated sum, a LayerNorm over the sum itself."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.head = nn.Linear(3, 5), nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 2)
        self.gate = gate(5, [0, 4])

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.head(self.norm(h + self.b(self.gate(h))))


def test_layer_norm_keeps_its_stream_and_says_so() -> None:
    shapes, small = small_of(Stream(), 3)
    assert shapes == {"a.weight": [5, 3], "b.layer.weight": [5, 3], "head.weight": [2, 5]}
    assert small.cut_report.stayed["a"] == "2 of 5 outputs stay: 'norm' normalises over it"  # type: ignore[union-attr, index]
    assert "'norm' normalises over it" in str(small.cut_report)


@pytest.mark.parametrize("kind", ["hard-coded size", "written into"])
def test_what_cannot_be_followed_keeps_its_outputs(kind: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.gate = nn.Conv2d(2, 6, 1), nn.Linear(6 * 9, 3), gate(6, [1, 2])

        def forward(self, x: Tensor) -> Tensor:
            h = self.gate(torch.relu(self.a(x)))
            if kind == "written into":
                h[:, 1] = h[:, 0] + x[:, 0]
            return self.b(h.view(len(x), 6 * 9))

    shapes, _ = small_of(Odd(), 2, 3, 3)
    assert list(shapes.values())[-1] == ([3, 54] if kind == "written into" else [3, 36])


class _Options(nn.Module):
    """With `around` the gate has no effect, with `inner` the hidden layer is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate, self.b, self.c = nn.Linear(5, 8), gate(8, [0, 2, 5]), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, around: bool = False, inner: bool = False) -> Tensor:
        h = torch.relu(self.a(x))
        h = torch.relu(self.b(h if around else self.gate(h)))
        out: Tensor = h if inner else self.c(h)
        return out


@pytest.mark.parametrize("options", [(), (False, False), (True,), (False, True)])
def test_a_cut_model_takes_the_options_of_its_example_only(options: tuple[bool, ...]) -> None:
    torch.manual_seed(0)
    net, x = _Options().eval(), torch.randn(4, 5)
    small = compress(net, (x, *options))
    fresh = 3 * torch.randn(6, 5)
    for around in (False, True):
        for inner in (False, True):
            if (around, inner) == (*options, False, False)[:2]:
                torch.testing.assert_close(small(fresh, around, inner=inner), net(fresh, around, inner))
            else:
                with pytest.raises(InvalidInputError, match=r"(around|inner): got (True|False), expected (True|False)"):
                    small(fresh, around, inner)


@pytest.mark.parametrize("kind", ["mean", "pool", "sum", "sum of even ones"])
def test_a_constant_of_one_size_only_stays_and_the_rest_leaves(kind: str) -> None:
    """Closed channels come out of two depthwise filters, the second padded, as constants that know the edges; a sum
    knows the size without them."""
    even = kind == "sum of even ones"

    class Edges(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate, self.dw = nn.Conv2d(2, 6, 1), gate(6, [1, 2]), nn.Conv2d(6, 6, 1, groups=6)
            self.padded, self.b = nn.Conv2d(6, 6, 3, padding=0 if even else 1, groups=6), nn.Linear(6, 4)
            self.last, self.c = gate(4, [0, 3]), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.padded(self.dw(self.gate(torch.relu(self.a(x)))))
            if kind == "pool":
                h = nn.functional.adaptive_avg_pool2d(h, 1).flatten(1)
            else:
                h = h.mean((2, 3)) if kind == "mean" else h.sum((2, 3))
            out: Tensor = self.c(self.last(torch.tanh(self.b(h))))
            return out

    net = Edges()
    shapes, small = small_of(net, 2, 5, 5)
    assert shapes == {"a.layer.weight": [4, 2], "dw.layer.weight": [4, 1], "padded.weight": [6, 1],
                      "b.weight": [2, 6], "c.weight": [3, 2]}  # fmt: skip
    for side in (4, 9, 16):
        x = torch.randn(3, 2, side, side, dtype=torch.float64)
        assert deviation(net, small, [(x,)]) < 1e-9


class _Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019): how much one input weighs depends on the others."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w, self.bias)


def test_gates_beside_weights_that_are_not_followed_are_named() -> None:
    """All of it stayed, and "everything behind a closed gate is gone", said the report."""
    net = Plain(a=_Standardised(3, 6, 3), r=nn.ReLU(), g=gate(6, [1, 4]), b=_Standardised(6, 4, 1))
    shapes, small = small_of(net, 3, 5, 5)
    assert shapes == {"a.weight": [6, 3], "b.weight": [4, 6]}
    assert "2 of 6 units stay: " in small.cut_report.stayed["body.g"]  # type: ignore[union-attr, index]


@pytest.mark.parametrize("activation", TORCH_ACTIVATIONS, ids=lambda kind: kind.__name__)
def test_units_are_followed_through_every_activation(activation: type[nn.Module]) -> None:
    """Nothing was cut beside a Hardswish, MobileNetV3's, which torch does not tag as working entry by entry."""
    net = Plain(a=nn.Linear(3, 6), r=activation(), g=gate(6, [1, 4]), s=activation(), b=nn.Linear(6, 2))
    shapes, _ = small_of(net, 3)
    assert shapes == {"a.weight": [4, 3], "b.weight": [2, 4]}


def test_a_linear_map_of_a_transposed_tensor_is_cut() -> None:
    """Without a bias torch makes of it a product for each example, which was not followed: patches of a ViT."""

    class Patches(Plain):
        def forward(self, x: Tensor) -> Tensor:
            h = self.body.a(self.body.p(x).flatten(2).transpose(1, 2))
            return self.body.b(self.body.g(h.relu()))

    closing = Gate(6, axis=-1)
    with torch.no_grad():
        closing.mu[[1, 4]] = 0
    net = Patches(p=nn.Conv2d(3, 5, 2, 2), a=nn.Linear(5, 6, bias=False), g=closing, b=nn.Linear(6, 2))
    shapes, _ = small_of(net, 3, 4, 4)
    assert shapes == {"p.weight": [5, 3], "a.weight": [4, 5], "b.weight": [2, 4]}


class _Spread(Plain):
    """One learned number and a map of one channel, each written before the units that it scales."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.body.g(self.body.a(x).relu())
        h = self.body.scale.weight * h
        return self.body.b(self.body.map(x).sigmoid() * h)


def test_what_is_spread_over_units_comes_before_or_behind_them() -> None:
    """With the scale written first (MetaFormer's StarReLU) its one unit was taken for all of them."""
    net = _Spread(a=nn.Conv2d(3, 6, 1), g=gate(6, [1, 4]), scale=nn.PReLU(), map=nn.Conv2d(3, 1, 1),
                  b=nn.Conv2d(6, 2, 1))  # fmt: skip
    shapes, _ = small_of(net, 3, 5, 5)
    assert shapes == {"a.weight": [4, 3], "map.weight": [1, 3], "b.weight": [2, 4]}


class _Swish(torch.autograd.Function):
    """As published for EfficientNets: a backward pass of its own, which keeps the input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.autograd.functional.vjp(nn.functional.silu, x, gradient)[1]


@pytest.mark.parametrize("kind", ["cache", "function"])
def test_empty_caches_and_functions_with_a_backward_pass_of_their_own_are_followed(kind: str) -> None:
    """Decoders put keys behind an empty vector when nothing is in their cache yet; all of such nets once stayed."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate, self.b = nn.Linear(5, 6), gate(6, [1, 4]), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            h = nn.functional.silu(torch.cat([x.new_tensor([]), h], -1)) if kind == "cache" else _Swish.apply(h)
            out: Tensor = self.b(self.gate(h))
            return out

    shapes, _ = small_of(Decoder(), 5)
    assert shapes == {"a.weight": [4, 5], "b.weight": [3, 4]}


@pytest.mark.parametrize("how", ["mm", "einsum"])
def test_weights_used_by_hand(how: str) -> None:
    """x @ w.T is followed; where a use is not, the report says that the units stayed, where it once said all gone."""

    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.v = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.randn(3, 6))
            self.gate = gate(6, [1, 4])

        def forward(self, x: Tensor) -> Tensor:
            h = x @ self.w.T if how == "mm" else torch.einsum("ni,oi->no", x, self.w)
            h = self.gate(torch.relu(h))
            return h @ self.v.T if how == "mm" else torch.einsum("ni,oi->no", h, self.v)

    shapes, small = small_of(ByHand(), 5)
    if how == "mm":
        assert shapes == {"w": [4, 5], "v": [3, 4]}
        assert not small.cut_report.stayed  # type: ignore[union-attr]
    else:
        assert shapes == {"w": [6, 5], "v": [3, 6]}
        assert str(small.cut_report).startswith("gate: 2 of 6 units stay: ")


@pytest.mark.parametrize("held", ["cache", "distribution"])
def test_objects_among_outputs_are_looked_into(held: str) -> None:
    """Such objects are equal to themselves alone, so that every copy looked changed; what they hold must stay."""

    class Cache:
        def __init__(self, keys: Tensor) -> None:
            self.keys = [keys]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.k = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Any]:
            h = torch.relu(self.a(x))
            keys = self.k(h)
            if held == "cache":
                return self.b(h), Cache(keys)
            return self.b(h), torch.distributions.Laplace(keys, 1 + keys.exp(), validate_args=False)

    torch.manual_seed(0)
    net, x = Net().double(), torch.randn(5, 4, dtype=torch.float64)
    gated = insert_gates(net, x).eval()
    gated.get_submodule("a_gate").close([0, 3])  # type: ignore[operator]
    small = compress(gated, x)
    assert small.get_submodule("a").weight.shape == (4, 4)
    assert small.get_submodule("k").weight.shape == (3, 4)
    (out, cache), (other, same) = gated(x), small(x)
    torch.testing.assert_close(other, out)
    for one in ("keys",) if held == "cache" else ("loc", "scale"):
        torch.testing.assert_close(getattr(same, one), getattr(cache, one))


def test_a_forward_pass_may_read_the_stride_of_a_layer_cut_alone() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.gate, self.norm = nn.Conv1d(3, 6, 1, stride=2), gate(6, [1, 4]), nn.GroupNorm(2, 6)
            self.b = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(self.gate(torch.relu(self.a(x))))
            out: Tensor = self.b(h.sum(2) * self.a.stride[0])
            return out

    shapes, _ = small_of(Reading(), 3, 6)
    assert shapes["a.layer.weight"] == [4, 3]
