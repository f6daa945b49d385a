"""The KV cache of Anchor-Heavy Identity Sinks: the first blocks for ever, the latest few in a ring, fixed slots.

    block          0   1   2   3   4   5   6   7
    slot           0   1   2   3   4   3   4   3        3 sinks, 2 rolling blocks, the current one among them

Softmax does not mind the order of keys, so nothing ever moves: a block's keys go to its slot, over those of the block
that leaves the window. Until every slot has been used attention sees a prefix of them; from then on its shapes, and two
alternating slots, are all there is. Indices are integers counted on the host: nothing is read back from a device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lt_eval.generator.config import ModelConfig, StreamConfig
from lt_eval.generator.rope import Rotation, rotate, rotation


class Window(NamedTuple):
    """What the queries of the current block may see in one layer.

    Attributes:
        keys: [B, K, heads, head_dim]; rotated already under the policy "absolute", unrotated under "relative".
        values: [B, K, heads, head_dim].
        positions: temporal position of each of the K / tokens-a-frame latent frames, int64 on the device.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor


def slot_of(block: int, stream: StreamConfig) -> int:
    """Return the slot of a block: its own number in the sinks, else one of the ring."""
    if block < stream.sink_blocks:
        return block
    return stream.sink_blocks + (block - stream.sink_blocks) % stream.ring_blocks


def visible_blocks(block: int, stream: StreamConfig) -> tuple[int, ...]:
    """Return the blocks that a block attends to, in temporal order, itself last."""
    latest = range(max(stream.sink_blocks, block + 1 - stream.ring_blocks), block + 1)
    sinks = range(min(stream.sink_blocks, block + 1))
    return (*sinks, *latest)


class KVCache:
    """Keys and values of one stream, or of a batch of streams in step.

    Memory is taken once: 2 x layers x B x slots x block tokens x dim elements.

    Args:
        model: shape of the transformer.
        stream: blocks, window and rope policy.
        batch: streams.
        height: rows of tokens of a latent frame (latent rows / patch rows).
        width: columns of tokens.
        dtype: of keys and values: that of the model.
        device: of the model.

    Attributes:
        block: index of the block that is being denoised.
        first: whether it is the first of the stream.
        slot: where its keys and values go.
        used_slots: how many slots hold a block, this one included; they are the first ones.
        query_rotation: of the tokens of the current block; also of its keys.
        key_rotation: of all slots, under the policy "relative".
    """

    def __init__(
        self,
        model: ModelConfig,
        stream: StreamConfig,
        *,
        batch: int,
        height: int,
        width: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.stream = stream
        self.grid = (height, width)
        self.head_dim = model.head_dim
        self.block_tokens = stream.block_frames * height * width
        slots = stream.window_blocks
        shape = (2, model.layers, batch, slots * self.block_tokens, model.heads, model.head_dim)
        self._store = torch.zeros(shape, dtype=dtype, device=device)
        self._positions = torch.zeros(slots * stream.block_frames, dtype=torch.int64, device=device)
        self.block = 0
        self.query_rotation = self._rotation(self._positions[: stream.block_frames])
        self.key_rotation = self._rotation(self._positions)
        self._place()

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, the same at every length of stream."""
        return self._store.nbytes

    def reset(self) -> None:
        """Begin a new stream in the same memory."""
        self.block = 0
        self._place()

    def update(self, layer: int, keys: Tensor, values: Tensor) -> Window:
        """Put the current block's keys and values into its slot and return everything that it may see.

        Every forward of a block overwrites those of the one before. Without gradients the result is a view of the
        cache, of constant shape from `StreamConfig.steady_block` on. With gradients it is a copy in which only the
        current block's part carries them, as self-rollout training needs it; the cache itself never does.

        Args:
            layer: of the transformer.
            keys: [B, block tokens, heads, head_dim].
            values: the same shape.
        """
        start = self.slot * self.block_tokens
        stop, used = start + self.block_tokens, self.used_slots * self.block_tokens
        held_keys, held_values = self._store[0, layer], self._store[1, layer]
        self._put(layer, keys, values)
        positions = self._positions[: self.used_slots * self.stream.block_frames]
        if torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad):
            seen_keys, seen_values = (
                torch.cat([held[:, :start], new.to(held.dtype), held[:, stop:used]], dim=1)
                for held, new in ((held_keys, keys), (held_values, values))
            )
            return Window(seen_keys, seen_values, positions)
        return Window(held_keys[:, :used], held_values[:, :used], positions)

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Put the keys, unrotated, and the values of a finished block into its slot; nothing is to be read."""
        self._put(layer, rotate(keys, self.query_rotation) if self.stream.rope == "absolute" else keys, values)

    def advance(self) -> None:
        """Go on to the next block; what the slot of the current one holds now is what later blocks see of it."""
        self.block += 1
        self._place()

    def _put(self, layer: int, keys: Tensor, values: Tensor) -> None:
        start = self.slot * self.block_tokens
        self._store[0, layer, :, start : start + self.block_tokens].copy_(keys.detach())
        self._store[1, layer, :, start : start + self.block_tokens].copy_(values.detach())

    def _place(self) -> None:
        """Write positions and rotations of the current block, in place, where a captured graph reads them."""
        # plain attributes: what compiles a forward pass then guards on the slot, not on the ever growing block
        self.first = self.block == 0
        self.slot = slot_of(self.block, self.stream)
        self.used_slots = min(self.block + 1, self.stream.window_blocks)
        frames = self.stream.block_frames
        at = self.slot * frames
        if self.stream.rope == "absolute":
            first = self.block * frames
            self._positions[at : at + frames].copy_(torch.arange(first, first + frames, device=self._positions.device))
        else:
            for rank, block in enumerate(visible_blocks(self.block, self.stream)):
                slot = slot_of(block, self.stream) * frames
                here = torch.arange(rank * frames, (rank + 1) * frames, device=self._positions.device)
                self._positions[slot : slot + frames].copy_(here)
            _copy(self.key_rotation, self._rotation(self._positions))
        _copy(self.query_rotation, self._rotation(self._positions[at : at + frames]))

    def _rotation(self, positions: Tensor) -> Rotation:
        return rotation(positions, *self.grid, self.head_dim)


def _copy(target: Rotation, source: Rotation) -> None:
    target.cos.copy_(source.cos)
    target.sin.copy_(source.sin)
