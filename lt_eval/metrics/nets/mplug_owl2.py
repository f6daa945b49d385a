"""mPLUG-Owl2 (arXiv 2311.04257), the network of Q-Align: what of it scoring a picture needs.

    pixels [N, 3, 448, 448] -> ViT-L/14, 1025 tokens -> abstractor, 64 queries -> 64 + 1 tokens of the language model
    text before | picture tokens | text after -> LLaMA-2-7B -> hidden state of the last token -> a few rows of the head

Keys and values, and both norms of a layer, have one set of weights for text and one for picture tokens. Text before the
picture is the same for every picture, so its keys and values are computed once (`prefix`); in the last layer only the
last token is computed. Layout: the state dict of q-future/one-align, sizes from its config.json.

Shapes: N pictures, T tokens, D width of the language model, H heads, S picture tokens (queries + 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_eval.metrics.nets.mplug_owl2_vision import Abstractor, VisionTower, join_heads, split_heads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.metrics.nets.mplug_owl2_config import OwlConfig


class RMSNorm(nn.Module):
    """Root mean square norm, the mean in float32 whatever the weights are."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape and dtype."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Multiway(nn.Module):
    """One module for text tokens and one for picture tokens."""

    def __init__(self, text: nn.Module, picture: nn.Module) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([text, picture])

    def forward(self, x: Tensor, pictures: int) -> Tensor:
        """Return [N, T, ...]; the first `pictures` tokens are the picture's, the others text."""
        text, picture = self.multiway
        if pictures == 0:
            only: Tensor = text(x)
            return only
        return torch.cat((picture(x[:, :pictures]), text(x[:, pictures:])), dim=1)


class KeysValues(NamedTuple):
    """Of one layer, each [N, H, T, D / H]."""

    keys: Tensor
    values: Tensor


class Places(NamedTuple):
    """Where tokens stand: rotation of each, [T, D / H], and what each may look at, bool [T, T of past and present]."""

    cos: Tensor
    sin: Tensor
    visible: Tensor


class LanguageAttention(nn.Module):
    """Causal attention with rotary positions (arXiv 2104.09864), keys and values by kind of token."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = Multiway(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
        self.v_proj = Multiway(nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, pictures: int, places: Places, past: KeysValues | None, wanted: int
    ) -> tuple[Tensor, KeysValues]:
        """Return what the last `wanted` tokens found, [N, wanted, D], and the keys and values of all tokens of `x`."""
        keys = _rotate(split_heads(self.k_proj(x, pictures), self.heads), places.cos, places.sin)
        own = KeysValues(keys, split_heads(self.v_proj(x, pictures), self.heads))
        query = split_heads(self.q_proj(x[:, -wanted:]), self.heads)
        query = _rotate(query, places.cos[-wanted:], places.sin[-wanted:])
        seen = own if past is None else KeysValues(*map(_after, past, own))
        found = F.scaled_dot_product_attention(query, seen.keys, seen.values, attn_mask=places.visible[-wanted:])
        attended: Tensor = self.o_proj(join_heads(found))
        return attended, own


class LanguageMLP(nn.Module):
    """Gated MLP."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, T, D]."""
        mapped: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return mapped


class LanguageLayer(nn.Module):
    """One layer of the language model."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = LanguageAttention(config)
        self.mlp = LanguageMLP(config)
        self.input_layernorm = Multiway(RMSNorm(width, eps), RMSNorm(width, eps))
        self.post_attention_layernorm = Multiway(RMSNorm(width, eps), RMSNorm(width, eps))

    def forward(
        self, x: Tensor, pictures: int, places: Places, past: KeysValues | None = None, wanted: int | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Return the last `wanted` tokens (None: all), [N, wanted, D], and this layer's keys and values."""
        wanted = wanted or x.shape[1]
        found, own = self.self_attn(self.input_layernorm(x, pictures), pictures, places, past, wanted)
        pictures = max(0, pictures - (x.shape[1] - wanted))
        x = x[:, -wanted:] + found
        return x + self.mlp(self.post_attention_layernorm(x, pictures)), own


class OwlModel(nn.Module):
    """Everything but the head."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([LanguageLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.vision_model = VisionTower(config.vision)
        self.visual_abstractor = Abstractor(config.abstractor, config.hidden_size)


class MplugOwl2(nn.Module):
    """The network. Weights are uninitialised until they are loaded (`nets/one_align.py`)."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.config = config
        self.model = OwlModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def picture_tokens(self, pixels: Tensor) -> Tensor:
        """Return [N, S, D] of CLIP-normalised pixels [N, 3, side, side]."""
        tokens: Tensor = self.model.visual_abstractor(self.model.vision_model(pixels))
        return tokens

    def prefix(self, ids: Sequence[int]) -> list[KeysValues]:
        """Return each layer's keys and values of text with which every sequence begins, N = 1."""
        x = self._embed(ids)
        places = self._places(0, x.shape[1], x)
        kept = []
        for layer in self.model.layers:
            x, own = layer(x, 0, places)
            kept.append(own)
        return kept

    def logits(self, prefix: Sequence[KeysValues], tokens: Tensor, ids: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Return float32 [N, len(rows)]: rows of the head for the token that follows prefix, picture and text.

        Args:
            prefix: what `prefix` returned of the text before the picture.
            tokens: the picture's, [N, S, D].
            ids: the text after the picture, at least one token.
            rows: token ids.
        """
        x = torch.cat((tokens, self._embed(ids).expand(len(tokens), -1, -1)), dim=1)
        places = self._places(prefix[0].keys.shape[2], x.shape[1], x)
        last = len(self.model.layers) - 1
        for index, layer in enumerate(self.model.layers):
            x, _ = layer(x, tokens.shape[1], places, prefix[index], 1 if index == last else None)
        hidden = self.model.norm(x[:, -1])
        found: Tensor = hidden.float() @ self.lm_head.weight[list(rows)].float().T
        return found

    def _embed(self, ids: Sequence[int]) -> Tensor:
        weight = self.model.embed_tokens.weight
        embedded: Tensor = self.model.embed_tokens(torch.tensor([list(ids)], device=weight.device))
        return embedded

    def _places(self, start: int, count: int, like: Tensor) -> Places:
        """Return the places of `count` tokens after `start` others; angles in float32: float16 has too few digits."""
        width = self.config.hidden_size // self.config.num_attention_heads
        steps = torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width
        at = torch.arange(start, start + count, device=like.device, dtype=torch.float32)
        angles = torch.outer(at, self.config.rope_theta**-steps).repeat(1, 2)
        seen = torch.arange(start + count, device=like.device)
        return Places(angles.cos().to(like.dtype), angles.sin().to(like.dtype), seen <= seen[start:, None])


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of [N, H, T, width] by its token's angle."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _after(past: Tensor, present: Tensor) -> Tensor:
    """Join along the tokens; the past is that of one sequence and holds for all."""
    return torch.cat((past.expand(len(present), -1, -1, -1), present), dim=2)
