"""Self-attention in its three forms (bidirectional, block-causal, streaming) and cross-attention to text.

The module only projects; a function `Attend` decides what a query sees. So the same weights are teacher and student.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_eval.generator.cache import KVCache, visible_blocks
from lt_eval.generator.config import StreamConfig
from lt_eval.generator.rope import rotate, rotation

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries, keys, values), each unrotated [B, N, heads, head_dim] -> [B, N, heads, head_dim]."""


class RMSNorm(nn.RMSNorm):
    """The norm in the precision of its input: with bfloat16 products and float32 weights it is one kernel, not six."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised input, of its dtype."""
        assert self.weight is not None
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Projections of self-attention; queries and keys are normalised over the whole width.

    One matrix for queries, keys and values: at 3072 tokens of width 1536 each of three products would fill 132 cores of
    a GPU once and a tenth, leaving them idle nearly half of the time.
    """

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.norm_q = RMSNorm(dim, eps=eps)
        self.norm_k = RMSNorm(dim, eps=eps)
        self.o = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each [B, N, heads, head_dim]."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # 3 x [B, N, D]
        split = (self.heads, -1)
        return (
            torch.unflatten(self.norm_q(q), 2, split),
            torch.unflatten(self.norm_k(k), 2, split),
            torch.unflatten(v, 2, split),
        )

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values alone, for the last layer of a pass that only fills the cache."""
        weight, bias = self.qkv.weight, self.qkv.bias
        dim = weight.shape[1]
        k, v = F.linear(x, weight[dim:], bias[dim:]).chunk(2, dim=-1)  # 2 x [B, N, D]
        return torch.unflatten(self.norm_k(k), 2, (self.heads, -1)), torch.unflatten(v, 2, (self.heads, -1))

    def forward(self, x: Tensor, layer: int, attend: Attend) -> Tensor:
        """Return [B, N, D] for [B, N, D]."""
        out: Tensor = self.o(attend(layer, *self.project(x)).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Attention to the prompt's tokens, padding included (as upstream trained it)."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.norm_q = RMSNorm(dim, eps=eps)
        self.norm_k = RMSNorm(dim, eps=eps)
        self.o = nn.Linear(dim, dim)

    def keys_values(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each [B, L, heads, head_dim], of embedded text [B, L, D]."""
        k, v = self.kv(text).chunk(2, dim=-1)  # 2 x [B, L, D]
        return torch.unflatten(self.norm_k(k), 2, (self.heads, -1)), torch.unflatten(v, 2, (self.heads, -1))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return [B, N, D] for [B, N, D]."""
        queries = torch.unflatten(self.norm_q(self.q(x)), 2, (self.heads, -1))  # [B, N, heads, head_dim]
        out: Tensor = self.o(attention(queries, keys, values).flatten(2))
        return out


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Scaled dot-product attention without a mask, on [B, N, heads, head_dim]."""
    out = F.scaled_dot_product_attention(queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))
    return out.transpose(1, 2)


def bidirectional(positions: Tensor, grid: tuple[int, int], head_dim: int) -> Attend:
    """Every token sees every token of the sequence."""
    turn = rotation(positions, *grid, head_dim)

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return attention(rotate(queries, turn), rotate(keys, turn), values)

    return attend


def causal(frames: int, grid: tuple[int, int], head_dim: int, stream: StreamConfig, device: torch.device) -> Attend:
    """Every token sees its own block and those before it that `stream` keeps: what streaming computes, in one pass.

    No mask is built: each block's queries meet exactly the keys that they may see.
    """
    size = stream.block_frames
    tokens = size * grid[0] * grid[1]
    windows = [visible_blocks(block, stream) for block in range(-(-frames // size))]
    turn = rotation(torch.arange(frames, device=device), *grid, head_dim)

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        total = queries.shape[1]
        if stream.rope == "absolute":
            queries, keys = rotate(queries, turn), rotate(keys, turn)
        out = []
        for window in windows:
            parts = [slice(other * tokens, min((other + 1) * tokens, total)) for other in window]
            seen_keys = torch.cat([keys[:, part] for part in parts], dim=1)
            seen_values = torch.cat([values[:, part] for part in parts], dim=1)
            mine = queries[:, parts[-1]]
            if stream.rope == "relative":
                count = seen_keys.shape[1]
                last = count - mine.shape[1]
                seen_keys = rotate(seen_keys, turn.part(0, count))
                mine = rotate(mine, turn.part(last, count))
            out.append(attention(mine, seen_keys, seen_values))
        return torch.cat(out, dim=1)

    return attend


def streaming(cache: KVCache) -> Attend:
    """Tokens of the current block see the cache, into which their own keys and values go first."""
    turn = cache.rotation()

    def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        window = cache.update(layer, keys, values)
        return attention(rotate(queries, turn), window.keys, window.values)

    return attend
