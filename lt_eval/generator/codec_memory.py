"""The memory of a causal network over time: what one stream carries from one piece to the next.

Every causal layer needs the last few frames of its input when the next piece comes. A `Memory` holds them all, in the
order in which the layers are reached; a `Walk` hands them out during one pass and gathers the new ones. The network
itself holds nothing, so any number of streams share it, and a memory that is dropped is gone.

A pass changes no memory: it returns another one. From the second piece on all shapes stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Memory:
    """The last input frames of every causal layer; empty before the first piece."""

    tails: tuple[Tensor, ...] = ()

    @property
    def cold(self) -> bool:
        """Whether no piece has passed yet."""
        return len(self.tails) == 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(tail.numel() * tail.element_size() for tail in self.tails)


class Walk:
    """One pass through the layers: each takes what it kept last time and keeps something for the next."""

    def __init__(self, memory: Memory) -> None:
        self._past = memory.tails
        self._kept: list[Tensor] = []

    @property
    def cold(self) -> bool:
        """Whether this is the first piece."""
        return len(self._past) == 0

    def past(self) -> Tensor | None:
        """Return what the layer that is reached kept of the piece before, None at the first piece."""
        return None if self.cold else self._past[len(self._kept)]

    def keep(self, tail: Tensor) -> None:
        """Keep a layer's tail for the next piece. Every layer does so once a pass, after asking for its past.

        The tail is copied: a view would keep the whole piece alive. Its strides are always the same too, so that a
        compiled pass is compiled for the first piece and for the later ones, and not again.
        """
        self._kept.append(tail.clone(memory_format=torch.contiguous_format))

    def memory(self) -> Memory:
        """Return the memory after this pass."""
        if not self.cold and len(self._kept) != len(self._past):
            raise RuntimeError(f"{len(self._kept)} layers kept a tail where {len(self._past)} had kept one before")
        return Memory(tuple(self._kept))


def lengthen(x: Tensor, reach: int, walk: Walk, *, dim: int) -> Tensor:
    """Return a piece with the `reach` frames before it in front, zeros at the first piece, and keep its own last ones.

    Args:
        x: the piece, at least one frame.
        reach: how many frames back the layer looks.
        walk: of this pass.
        dim: the dimension of time.
    """
    past = walk.past()
    if past is None:
        shape = list(x.shape)
        shape[dim] = reach
        past = x.new_zeros(shape)
    longer = torch.cat([past, x], dim)
    walk.keep(longer.narrow(dim, longer.shape[dim] - reach, reach))
    return longer
