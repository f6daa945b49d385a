"""The KV cache of Anchor-Heavy Identity Sinks: the first blocks for ever, the latest few in a ring, fixed slots.

    block          0   1   2   3   4   5   6   7
    slot           0   1   2   3   4   3   4   3        3 sinks, 2 rolling blocks, the current one among them

Softmax does not mind the order of keys, so nothing ever moves: a block's keys go to its slot, over those of the block
that leaves the window. Until every slot has been used attention sees a prefix of them; from then on its shapes, and two
alternating slots, are all there is. Indices are integers counted on the host: nothing is read back from a device.

Under the rope policy "relative" the sinks' positions in the window never change either; only the ring's keys are turned
to their new positions, once a block, from unrotated copies, so that no rounding adds up.
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
        keys: [B, K, heads, head_dim], rotated.
        values: [B, K, heads, head_dim].
        positions: temporal position to which each of the K / tokens-a-frame latent frames is rotated, int64 on the
            device: its index in the stream ("absolute"), or its rank in the window ("relative").
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

    Memory is taken once: 2 x layers x B x slots x block tokens x dim elements; under "relative" the ring's keys again.

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
        self.block_tokens = stream.block_frames * height * width
        self._head_dim = model.head_dim

        def room(blocks: int) -> Tensor:
            tokens = blocks * self.block_tokens
            return torch.zeros((model.layers, batch, tokens, model.heads, model.head_dim), dtype=dtype, device=device)

        self._keys, self._values = room(stream.window_blocks), room(stream.window_blocks)
        self._ring = room(stream.ring_blocks if stream.rope == "relative" else 0)
        self._positions = torch.zeros(stream.window_blocks * stream.block_frames, dtype=torch.int64, device=device)
        self._rotation = self._rotation_at(self._positions[: stream.block_frames])
        self.block = 0
        self._place()

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, the same at every length of stream."""
        return self._keys.nbytes + self._values.nbytes + self._ring.nbytes

    def reset(self) -> None:
        """Begin a new stream in the same memory."""
        self.block = 0
        self._place()

    def rotation(self) -> Rotation:
        """Return the rotation of the current block's tokens; a copy where autograd will keep it for its way back."""
        return self._rotation.copy() if torch.is_grad_enabled() else self._rotation

    def update(self, layer: int, keys: Tensor, values: Tensor) -> Window:
        """Put the current block's keys and values into its slot and return everything that it may see.

        Every forward of a block overwrites those of the one before. Without gradients the result is a view of the
        cache, of constant shape from `StreamConfig.steady_block` on. With gradients it is a copy in which only the
        current block's part carries them, as self-rollout training needs it; the cache itself never does.

        Args:
            layer: of the transformer.
            keys: [B, block tokens, heads, head_dim], unrotated.
            values: the same shape.
        """
        turned = self.fill(layer, keys, values)
        start = self.slot * self.block_tokens
        stop, used = start + self.block_tokens, self.used_slots * self.block_tokens
        held_keys, held_values = self._keys[layer], self._values[layer]
        positions = self._positions[: self.used_slots * self.stream.block_frames]
        if torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad):
            seen_keys, seen_values = (
                torch.cat([held[:, :start], new.to(held.dtype), held[:, stop:used]], dim=1)
                for held, new in ((held_keys, turned), (held_values, values))
            )
            return Window(seen_keys, seen_values, positions)
        return Window(held_keys[:, :used], held_values[:, :used], positions)

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """Put the current block's keys, unrotated, and values into its slot; return the keys rotated."""
        turned = rotate(keys, self.rotation())
        here = slice(self.slot * self.block_tokens, (self.slot + 1) * self.block_tokens)
        self._keys[layer, :, here].copy_(turned.detach())
        self._values[layer, :, here].copy_(values.detach())
        if self.stream.rope == "relative" and self.slot >= self.stream.sink_blocks:
            start = here.start - self.stream.sink_blocks * self.block_tokens
            self._ring[layer, :, start : start + self.block_tokens].copy_(keys.detach())
        return turned

    def advance(self) -> None:
        """Go on to the next block; what the slot of the current one holds now is what later blocks see of it."""
        self.block += 1
        self._place()

    def _place(self) -> None:
        """Write positions and rotations of the current block, in place, where a captured graph reads them."""
        # plain attributes: what compiles a forward pass then guards on the slot, not on the ever growing block
        self.first = self.block == 0
        self.slot = slot_of(self.block, self.stream)
        self.used_slots = min(self.block + 1, self.stream.window_blocks)
        if self.stream.rope == "absolute":
            self._put_position(self.slot, self.block)
        else:
            for rank, block in enumerate(visible_blocks(self.block, self.stream)):
                self._put_position(slot_of(block, self.stream), rank)
            if self.block >= self.stream.steady_block:
                self._turn_ring()
        at = self.slot * self.stream.block_frames
        turn = self._rotation_at(self._positions[at : at + self.stream.block_frames])
        self._rotation.cos.copy_(turn.cos)
        self._rotation.sin.copy_(turn.sin)

    def _turn_ring(self) -> None:
        """Rotate the ring's keys to where they stand now; layer by layer, as all at once need as much memory again."""
        sinks = self.stream.sink_blocks
        turn = self._rotation_at(self._positions[sinks * self.stream.block_frames :])
        for layer in range(len(self._keys)):
            self._keys[layer, :, sinks * self.block_tokens :].copy_(rotate(self._ring[layer], turn))

    def _put_position(self, slot: int, place: int) -> None:
        frames = self.stream.block_frames
        first = torch.arange(place * frames, (place + 1) * frames, device=self._positions.device)
        self._positions[slot * frames : (slot + 1) * frames].copy_(first)

    def _rotation_at(self, positions: Tensor) -> Rotation:
        return rotation(positions, *self.grid, self._head_dim)
