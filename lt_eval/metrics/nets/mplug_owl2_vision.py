"""The eyes of mPLUG-Owl2 (arXiv 2311.04257): CLIP's ViT-L/14 and the abstractor that condenses its tokens.

Shapes: N pictures, T tokens, S picture tokens for the language model of width D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.metrics.nets.mplug_owl2_config import AbstractorConfig, VisionConfig


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, T, width] to [N, heads, T, width / heads]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """[N, heads, T, width] to [N, T, heads * width]."""
    return x.transpose(1, 2).flatten(2)


class VisionEmbeddings(nn.Module):
    """Patches and a class token with learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.position_embedding = nn.Parameter(torch.empty(1, config.grid**2 + 1, width))
        self.pre_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [N, 1 + patches, width]."""
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.cls_token.expand(len(pixels), -1, -1), patches), dim=1)
        normed: Tensor = self.pre_layernorm(tokens + self.position_embedding)
        return normed


class VisionAttention(nn.Module):
    """Self-attention of which query, key and value lie head by head in one matrix."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, T, width]."""
        count, tokens, width = x.shape
        mixed = self.query_key_value(x).view(count, tokens, self.heads, 3, width // self.heads)
        query, key, value = mixed.permute(3, 0, 2, 1, 4)
        attended: Tensor = self.dense(join_heads(F.scaled_dot_product_attention(query, key, value)))
        return attended


class VisionMLP(nn.Module):
    """Two layers with QuickGELU between."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, T, width]."""
        x = self.fc1(x)
        mapped: Tensor = self.fc2(x * torch.sigmoid(1.702 * x))
        return mapped


class VisionLayer(nn.Module):
    """Attention and MLP, norms before."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = VisionAttention(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, T, width]."""
        x = x + self.self_attn(self.input_layernorm(x))
        added: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return added


class Layers(nn.Module):
    """A list of layers under the name that the checkpoint gives it."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class VisionTower(nn.Module):
    """Pixels [N, 3, side, side], CLIP-normalised, to [N, 1 + patches, width]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = Layers([VisionLayer(config) for _ in range(config.num_hidden_layers)])
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return all tokens, the class token first."""
        x = self.embeddings(pixels)
        for layer in self.encoder.layers:
            x = layer(x)
        normed: Tensor = self.post_layernorm(x)
        return normed


class AbstractorAttention(nn.Module):
    """Queries look at themselves and at the picture, each with positions of a fixed table."""

    q_pos_embed: Tensor
    k_pos_embed: Tensor

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(config.encoder_hidden_size, width)
        self.value = nn.Linear(config.encoder_hidden_size, width)
        self.register_buffer("q_pos_embed", torch.empty(config.num_learnable_queries, width))
        self.register_buffer("k_pos_embed", torch.empty(config.grid_size**2 + 1, width))

    def forward(self, queries: Tensor, everything: Tensor) -> Tensor:
        """Return [N, queries, width] of queries and of queries followed by the picture's tokens."""
        positions = torch.cat((self.q_pos_embed, self.k_pos_embed))
        query = split_heads(self.query(queries + self.q_pos_embed), self.heads)
        key = split_heads(self.key(everything + positions), self.heads)
        value = split_heads(self.value(everything), self.heads)
        return join_heads(F.scaled_dot_product_attention(query, key, value))


class AbstractorMLP(nn.Module):
    """Gated MLP with a norm inside."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.ffn_ln = nn.LayerNorm(config.intermediate_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, queries, width]."""
        mapped: Tensor = self.w2(self.ffn_ln(F.silu(self.w1(x)) * self.w3(x)))
        return mapped


class AbstractorOutput(nn.Module):
    """What follows the attention."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.mlp = AbstractorMLP(config)

    def forward(self, found: Tensor, queries: Tensor) -> Tensor:
        """Return [N, queries, width]."""
        x = queries + self.out_proj(found)
        added: Tensor = x + self.mlp(self.norm2(x))
        return added


class AbstractorBlock(nn.Module):
    """One layer. The residual carries the normed queries, not the queries: so the weights were trained."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.attention = AbstractorAttention(config)
        self.output = AbstractorOutput(config)
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.normk = nn.LayerNorm(config.hidden_size)

    def forward(self, queries: Tensor, picture: Tensor) -> Tensor:
        """Return [N, queries, width]."""
        queries = self.norm1(queries)
        everything = torch.cat((queries, self.normk(picture)), dim=1)
        done: Tensor = self.output(self.attention(queries, everything), queries)
        return done


class AbstractorLayer(nn.Module):
    """A block under the name that the checkpoint gives it."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.crossattention = AbstractorBlock(config)

    def forward(self, queries: Tensor, picture: Tensor) -> Tensor:
        """Return [N, queries, width]."""
        done: Tensor = self.crossattention(queries, picture)
        return done


class Abstractor(nn.Module):
    """Tokens of the vision tower to S tokens of the language model, the last one a learned end mark."""

    def __init__(self, config: AbstractorConfig, language_width: int) -> None:
        super().__init__()
        self.encoder = Layers([AbstractorLayer(config) for _ in range(config.num_hidden_layers)])
        self.visual_fc = nn.Linear(config.hidden_size, language_width)
        self.query_embeds = nn.Parameter(torch.empty(1, config.num_learnable_queries, config.hidden_size))
        self.vit_eos = nn.Parameter(torch.empty(1, 1, language_width))

    def forward(self, picture: Tensor) -> Tensor:
        """Return [N, S, D]."""
        count = len(picture)
        queries: Tensor = self.query_embeds.expand(count, -1, -1)
        for layer in self.encoder.layers:
            queries = layer(queries, picture)
        return torch.cat((self.visual_fc(queries), self.vit_eos.expand(count, -1, -1)), dim=1)
