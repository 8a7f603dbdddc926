"""`nn.MultiheadAttention` written out, so that a gate can stand behind its heads and closed heads can be cut out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SplitAttention", "can_be_split", "split_attention"]


class SplitAttention(nn.MultiheadAttention):
    """The function, parameters and arguments of the `nn.MultiheadAttention` that it was (`split_attention`).

    Attributes:
        gate: None, or what the heads' outputs [N, heads, T, head_dim] pass through.
        heads: int64 [num_heads], which of the original's heads these are.
    """

    gate: nn.Module | None
    heads: Tensor

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`; a mask per head [N·H, T, S] has the original's number of heads H."""
        batched = query.ndim == 3
        inputs = [query, key, value] if batched else [x.unsqueeze(0) for x in (query, key, value)]
        if batched and not self.batch_first:
            inputs = [x.transpose(0, 1) for x in inputs]
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).reshape(*x.shape[:2], -1, self.head_dim).transpose(1, 2)
            for x, weight, bias in zip(inputs, self._projections(), biases, strict=True)
        )
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            h = weights @ v
        else:
            h = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal and mask is None)
        h = h if self.gate is None else self.gate(h)
        h = self.out_proj(h.permute(2, 0, 1, 3).flatten(2))  # [T, N, embed]: in memory as the original leaves it
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
        if not batched:
            return h[:, 0], None if weights is None else weights[0]
        return h.transpose(0, 1) if self.batch_first else h, weights

    def _projections(self) -> tuple[Tensor, ...]:
        if self.in_proj_weight is not None:
            return self.in_proj_weight.chunk(3)
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def _mask(self, mask: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
        """Both masks as one that is added to the scores [N, heads, T, S]."""
        mask, padding = (
            x if x is None or x.is_floating_point() else torch.zeros(x.shape).to(like).masked_fill(x, -math.inf)
            for x in (mask, padding)
        )
        if mask is not None and mask.ndim == 3:
            mask = mask.reshape(like.shape[0], -1, *mask.shape[1:])[:, self.heads]
        if padding is None:
            return mask
        padding = padding.view(-1, 1, 1, padding.shape[-1])
        return padding if mask is None else mask + padding

    @torch.no_grad()
    def cut(self, scale: Tensor) -> None:
        """Keep the heads whose scale [num_heads] is not 0; the scale moves into the values' projection."""
        kept = scale.nonzero().flatten()
        sizes = (self.num_heads, self.head_dim)
        rows: list[Tensor] = []
        for k, weight in enumerate(self._projections()):
            part = weight.reshape(*sizes, -1)[kept]
            rows.append((part * scale[kept, None, None] if k == 2 else part).flatten(0, 1))
        if self.in_proj_bias is not None:
            bias = self.in_proj_bias.view(3, *sizes)[:, kept].clone()
            bias[2] *= scale[kept, None]
            self.in_proj_bias = nn.Parameter(bias.flatten())
        if self.in_proj_weight is not None:
            self.in_proj_weight = nn.Parameter(torch.cat(rows))
        else:
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = map(nn.Parameter, rows)
        self.out_proj.weight = nn.Parameter(self.out_proj.weight.reshape(-1, *sizes)[:, kept].flatten(1))
        self.out_proj.in_features = len(kept) * self.head_dim
        self.num_heads, self.heads, self.gate = len(kept), self.heads[kept], None


def can_be_split(module: nn.Module) -> bool:
    """Is this an `nn.MultiheadAttention` without extra keys?"""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


def split_attention(module: nn.Module) -> None:
    """Turn `module` (see `can_be_split`) into a SplitAttention in place: its function and its parameters stay."""
    module.__class__ = SplitAttention
    assert isinstance(module, SplitAttention)
    module.gate = None
    module.register_buffer("heads", torch.arange(module.num_heads, device=module.out_proj.weight.device), False)
    module._qkv_same_embed_dim = False  # torch's encoder layers then leave their fused path, which calls no module
