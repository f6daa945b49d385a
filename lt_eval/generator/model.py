"""The diffusion transformer: Wan2.1's with reference-image channels and OmniAvatar's audio, at once or streaming.

Letters: B batch, C latent channels, F latent frames, h w latent rows and columns, P tokens a frame, D width, L text
tokens.
Parameters are named as in the public checkpoints except that queries, keys and values are one matrix (`checkpoint`).

Sources: Wan-Video/Wan2.1 `wan/modules/model.py`, Omni-Avatar/OmniAvatar `OmniAvatar/models/wan_video_dit.py` (both
Apache-2.0), after which this was written anew; LiveTalk (arXiv 2512.23576) sections 3.1 and 4 for the causal form.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lt_eval.errors import SpecError
from lt_eval.generator.attention import (
    Attend,
    CrossAttention,
    SelfAttention,
    bidirectional,
    causal,
    streaming,
)
from lt_eval.generator.cache import KVCache
from lt_eval.generator.conditions import AudioBias, AudioPack, Conditions, CrossKV, Modulation, sinusoid
from lt_eval.generator.config import TIMESTEPS, ModelConfig, StreamConfig
from lt_eval.generator.prior import GaussianPrior

_UNBOUNDED = 1 << 30


class Block(nn.Module):
    """Self-attention, cross-attention to text, a feed-forward network; first and last are modulated by noise level."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.self_attn = SelfAttention(dim, config.heads, eps)
        self.norm3 = nn.LayerNorm(dim, eps=eps)
        self.cross_attn = CrossAttention(dim, config.heads, eps)
        self.norm2 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.ffn = nn.Sequential(nn.Linear(dim, config.ffn_dim), nn.GELU("tanh"), nn.Linear(config.ffn_dim, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def modulated_input(self, x: Tensor, projected: Tensor) -> Tensor:
        """Return what self-attention gets, [B, F P, D]."""
        shift, scale = (self.modulation[:, :2] + projected[:, :, :2]).chunk(2, dim=2)  # 2 x [B, F, 1, D]
        return torch.addcmul(shift, self.norm1(x), 1 + scale).flatten(1, 2)

    def keys_values(self, x: Tensor, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Return what self-attention would keep of tokens, each [B, F P, heads, head_dim], and compute nothing else."""
        return self.self_attn.keys_values(self.modulated_input(x, projected))

    def forward(
        self, x: Tensor, projected: Tensor, text_keys: Tensor, text_values: Tensor, layer: int, attend: Attend
    ) -> Tensor:
        """Return [B, F, P, D] for [B, F, P, D].

        Args:
            x: tokens.
            projected: noise level, [B, F or 1, 6, D].
            text_keys: [B, L, heads, head_dim].
            text_values: the same shape.
            layer: index of this block.
            attend: what a query sees.
        """
        grid = x.shape[1:3]
        _, _, gate, shift2, scale2, gate2 = (self.modulation + projected).chunk(6, dim=2)  # 6 x [B, F, 1, D]
        mixed = self.self_attn(self.modulated_input(x, projected), layer, attend)  # [B, F P, D]
        x = torch.addcmul(x, torch.unflatten(mixed, 1, grid), gate)  # [B, F, P, D]
        told = self.cross_attn(self.norm3(x).flatten(1, 2), text_keys, text_values)  # [B, F P, D]
        x = x + torch.unflatten(told, 1, grid)  # [B, F, P, D]
        thought: Tensor = self.ffn(torch.addcmul(shift2, self.norm2(x), 1 + scale2))  # [B, F, P, D]
        return torch.addcmul(x, thought, gate2)  # [B, F, P, D]


class Head(nn.Module):
    """Modulated normalisation and the projection of tokens to patches."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        rows, columns = config.patch[1:]
        self.norm = nn.LayerNorm(config.dim, eps=config.eps, elementwise_affine=False)
        self.head = nn.Linear(config.dim, rows * columns * config.latent_channels)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Return patches [B, F, P, p q C] for tokens [B, F, P, D] and noise level [B, F or 1, D]."""
        shift, scale = (self.modulation + time[:, :, None]).chunk(2, dim=2)  # 2 x [B, F, 1, D]
        patches: Tensor = self.head(torch.addcmul(shift, self.norm(x), 1 + scale))  # [B, F, P, p q C]
        return patches


class Transformer(nn.Module):
    """Predicts the velocity noise - clean of noisy latents.

    The same weights run over a whole sequence, bidirectional or block-causal (`forward`), and block by block with a
    cache (`step`, `prefill`).

    Attributes:
        recompute: whether `forward`, where gradients are wanted, keeps what enters a layer alone and computes the rest
            again on its way back: a fraction of the memory for a third more time.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.recompute = config, False
        dim, patch = config.dim, config.patch
        self.patch_embedding = nn.Conv3d(config.in_channels, dim, kernel_size=patch, stride=patch)
        self.text_embedding = nn.Sequential(nn.Linear(config.text_dim, dim), nn.GELU("tanh"), nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)
        if config.audio_hidden:
            self.audio_proj = AudioPack(config.audio_dim, config.audio_hidden)
            self.audio_cond_projs = nn.ModuleList(nn.Linear(config.audio_hidden, dim) for _ in config.audio_layers)
        self.prior = GaussianPrior(config.latent_channels, config.prior_side) if config.prior_side else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as upstream does: Xavier, small embeddings, and a head of zeros: velocity 0, or the prior's."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        for embedding in (self.text_embedding, self.time_embedding):
            for module in embedding:
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.head.head.weight)

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and activations."""
        return self.patch_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        """Of parameters and activations."""
        return self.patch_embedding.weight.device

    def new_cache(self, stream: StreamConfig, *, batch: int, height: int, width: int) -> KVCache:
        """Return an empty cache for streams of h x w latents.

        Raises:
            SpecError: the grid does not divide into patches.
        """
        rows, columns = self._grid(height, width)
        size = {"batch": batch, "height": rows, "width": columns}
        return KVCache(self.config, stream, **size, dtype=self.dtype, device=self.device)

    # What can be computed once and used by several forwards

    def modulation(self, timestep: Tensor) -> Modulation:
        """Embed noise levels [B, F or 1], timesteps 0..1000."""
        time = self.time_embedding(sinusoid(timestep, self.config.freq_dim).to(self.dtype))  # [B, F, D]
        return Modulation(time, torch.unflatten(self.time_projection(time), -1, (6, -1)), timestep.float() / TIMESTEPS)

    def cross_kv(self, text: Tensor) -> CrossKV:
        """Return every layer's keys and values of a prompt [B, L, text_dim]; a session needs them once."""
        embedded = self.text_embedding(text.to(self.dtype))  # [B, L, D]
        pairs = [block.cross_attn.keys_values(embedded) for block in self.each_block()]
        return CrossKV(torch.stack([keys for keys, _ in pairs]), torch.stack([values for _, values in pairs]))

    def audio_bias(self, audio: Tensor) -> AudioBias:
        """Return what features [B, F, audio_dim] add before each audio layer; a block needs them once."""
        packed = self.audio_proj(audio.to(self.dtype))  # [B, F, hidden]
        return AudioBias(torch.stack([linear(packed) for linear in self.audio_cond_projs]))

    def prepare(self, conditions: Conditions) -> Conditions:
        """Return the conditions with text and audio projected; what already is stays as it is."""
        text = conditions.text if isinstance(conditions.text, CrossKV) else self.cross_kv(conditions.text)
        audio = self.audio_bias(conditions.audio) if isinstance(conditions.audio, Tensor) else conditions.audio
        return Conditions(conditions.reference, text, audio)

    # Forward passes

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor | Modulation,
        conditions: Conditions,
        *,
        block_causal: bool = False,
        stream: StreamConfig | None = None,
    ) -> Tensor:
        """Return the velocity of a whole sequence, from its first latent frame on.

        Args:
            noisy: [B, C, F, h, w].
            timestep: [B, F], or [B, 1] where all frames share it, 0..1000; or embedded.
            conditions: of all F frames.
            block_causal: whether a token sees only its own block and earlier ones.
            stream: with `block_causal`, the window and rope policy of that stream; without it blocks of three frames
                see all of the past.

        Returns:
            [B, C, F, h, w], in the model's dtype.
        """
        frames, grid = noisy.shape[2], self._grid(*noisy.shape[3:])
        if block_causal:
            window = stream or StreamConfig(sink_blocks=0, rolling_blocks=_UNBOUNDED)
            attend = causal(frames, grid, self.config.head_dim, window, noisy.device)
        else:
            attend = bidirectional(torch.arange(frames, device=noisy.device), grid, self.config.head_dim)
        x, level, conditions = self._enter(noisy, timestep, conditions, first=True)
        for layer in range(self.config.layers):
            if self.recompute and torch.is_grad_enabled():
                given = (x, layer, level, conditions, attend)
                x = checkpoint(self._layer, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x = self._layer(x, layer, level, conditions, attend)
        return self._leave(x, level, grid, noisy, conditions)

    def step(
        self,
        noisy: Tensor,
        timestep: Tensor | Modulation,
        conditions: Conditions,
        cache: KVCache,
        *,
        write: bool = False,
    ) -> Tensor:
        """Return the velocity of the stream's current block.

        Args:
            noisy: [B, C, block frames, h, w].
            timestep: [B, block frames or 1], 0..1000; or embedded.
            conditions: the audio is that of this block.
            cache: of this stream. The block's keys and values go into its slot in any case.
            write: whether the block is finished: the next call is about the next block.

        Returns:
            [B, C, block frames, h, w], in the model's dtype.
        """
        x, level, conditions = self._enter(noisy, timestep, conditions, first=cache.first)
        attend = streaming(cache)
        for layer in range(self.config.layers):
            x = self._layer(x, layer, level, conditions, attend)
        if write:
            cache.advance()
        return self._leave(x, level, cache.grid, noisy, conditions)

    def prefill(self, clean: Tensor, timestep: Tensor | Modulation, conditions: Conditions, cache: KVCache) -> None:
        """Write the keys and values of a finished block and go on to the next one.

        What `step(..., write=True)` leaves in the cache, without the parts of the last layer that nothing reads.
        """
        self.fill(clean, timestep, conditions, cache)
        cache.advance()

    def fill(self, clean: Tensor, timestep: Tensor | Modulation, conditions: Conditions, cache: KVCache) -> None:
        """Do `prefill` without going on to the next block: nothing but tensor work, as `step` without `write`."""
        x, level, conditions = self._enter(clean, timestep, conditions, first=cache.first)
        attend = streaming(cache)
        last = self.config.layers - 1
        for layer in range(last):
            x = self._layer(x, layer, level, conditions, attend)
        heard = self._hear(x, last, conditions)  # [B, F, P, D]
        cache.fill(last, *self.each_block()[last].keys_values(heard, level.projected))

    def _enter(
        self, noisy: Tensor, timestep: Tensor | Modulation, conditions: Conditions, *, first: bool
    ) -> tuple[Tensor, Modulation, Conditions]:
        """Return tokens [B, F, P, D], the embedded noise level and the prepared conditions."""
        # by the class: where parameters are sharded the instance wraps its entry points, and wraps must not nest
        level = timestep if isinstance(timestep, Modulation) else Transformer.modulation(self, timestep)
        if self.prior is not None:
            noisy = self.prior.whitened(noisy, conditions.reference, level.sigma)
        noisy = noisy.to(self.dtype)
        reference = conditions.reference.to(self.dtype).expand_as(noisy)  # [B, C, F, h, w]
        mask = torch.ones_like(noisy[:, :1])  # [B, 1, F, h, w]
        if first:
            mask[:, :, 0] = 0
        patches = self._patches(torch.cat([noisy, reference, mask], dim=1))  # [B, F, P, (2C+1) p q]
        x = F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)  # [B, F, P, D]
        return x, level, Transformer.prepare(self, conditions)

    def _layer(self, x: Tensor, layer: int, level: Modulation, conditions: Conditions, attend: Attend) -> Tensor:
        text = conditions.text
        assert isinstance(text, CrossKV)
        x = self._hear(x, layer, conditions)
        out: Tensor = self.each_block()[layer](x, level.projected, text.keys[layer], text.values[layer], layer, attend)
        return out

    def _hear(self, x: Tensor, layer: int, conditions: Conditions) -> Tensor:
        """Add the audio to every token of its frame, before the layers that take it."""
        if not isinstance(conditions.audio, AudioBias) or layer not in self.config.audio_layers:
            return x
        bias = conditions.audio.biases[self.config.audio_layers.index(layer)]  # [B, F, D]
        return x + bias[:, :, None]

    def _leave(
        self, x: Tensor, level: Modulation, grid: tuple[int, int], noisy: Tensor, conditions: Conditions
    ) -> Tensor:
        """Return the velocity [B, C, F, h, w] for tokens [B, F, P, D] of noisy latents."""
        rows, columns = self.config.patch[1:]
        patches = torch.unflatten(self.head(x, level.time), 3, (rows, columns, -1))  # [B, F, P, p, q, C]
        patches = torch.unflatten(patches, 2, grid)  # [B, F, y, x, p, q, C]
        out = patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)  # [B, C, F, y p, x q]
        if self.prior is None:
            return out
        return self.prior.velocity(noisy, conditions.reference, level.sigma, out).to(out.dtype)

    def _patches(self, latents: Tensor) -> Tensor:
        """Cut [B, K, F, h, w] into tokens [B, F, P, K p q], in the order of the convolution's weights."""
        rows, columns = self.config.patch[1:]
        cut = torch.unflatten(torch.unflatten(latents, 4, (-1, columns)), 3, (-1, rows))  # [B, K, F, y, p, x, q]
        return cut.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(2, 3)  # [B, F, y x, K p q]

    def each_block(self) -> list[Block]:
        """Return the blocks in order."""
        return cast("list[Block]", list(self.blocks))

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = self.config.patch[1:]
        if height % rows or width % columns:
            raise SpecError(f"Latents of {height} x {width} do not divide into patches of {rows} x {columns}.")
        return height // rows, width // columns
