"""A training step of one GPU as a CUDA graph.

A small network is a thousand short kernels a step, and a processor takes longer to start them than a GPU to finish
them. A step is therefore a function of tensors and of random numbers; its first calls run as they are, the next one is
captured, and from then on it is replayed as a whole, on the inputs and the random numbers of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lt_eval.distill.ranks import Ranks

WARM_CALLS = 1
"""Calls before a capture: kernels are loaded, and optimisers make their state, in these."""

Step = Callable[[Any, Ranks, torch.Generator], Mapping[str, Tensor]]
"""(inputs, what random numbers are drawn through, generator) to named results.

Inputs are a NamedTuple, of tensors alone where the step is captured. It draws through `Ranks.uniform` and
`Ranks.normal` alone, and waits for nothing that a GPU computes."""


@dataclass(frozen=True)
class _Noting(Ranks):
    """Draws, and notes what was drawn."""

    noted: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def uniform(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        self.noted.append(("uniform", tuple(shape)))
        return super().uniform(shape, generator)

    def normal(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        self.noted.append(("normal", tuple(shape)))
        return super().normal(shape, generator)


@dataclass(frozen=True)
class _Buffered(Ranks):
    """Gives out buffers in the order in which they were noted; they are filled before each replay."""

    buffers: list[Tensor] = field(default_factory=list)

    def uniform(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return self._next(shape)

    def normal(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return self._next(shape)

    def _next(self, shape: Sequence[int]) -> Tensor:
        found = self.buffers.pop(0)
        assert found.shape == tuple(shape)
        return found


@dataclass
class _Captured:
    """What is known of the calls of one kind."""

    calls: int = 0
    noted: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    inputs: Any = ()
    buffers: list[Tensor] = field(default_factory=list)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    graph: Any = None


class Repeated:
    """A step that is the same arithmetic at every call of one kind.

    Args:
        step: what is done; on one GPU it is captured, elsewhere called.
        ranks: of the training.
        device: of the networks.
    """

    def __init__(self, step: Step, ranks: Ranks, device: torch.device) -> None:
        self._step, self._ranks = step, ranks
        self._captures = device.type == "cuda" and ranks.mesh is None
        self._known: dict[Hashable, _Captured] = {}

    def __call__(self, inputs: Any, generator: torch.Generator, kind: Hashable = None) -> Mapping[str, Tensor]:
        """Return what the step returns.

        Args:
            inputs: of the step.
            generator: of all random numbers, on the device.
            kind: calls of one kind have tensors of the same shapes, and the same choices within the step.
        """
        if not self._captures:
            return self._step(inputs, self._ranks, generator)
        known = self._known.setdefault(kind, _Captured())
        if known.calls < WARM_CALLS:
            return self._warm(known, inputs, generator)
        if known.graph is None:
            self._capture(known, inputs, generator)
        for held, new in zip(known.inputs, inputs, strict=True):
            held.copy_(new)
        _fill(known, generator)
        known.graph.replay()
        return {name: value.clone() for name, value in known.outputs.items()}

    def _warm(self, known: _Captured, inputs: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Call the step on a stream of its own, as capturing will."""
        known.calls += 1
        drawing = _Noting(device=self._ranks.device)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            found = self._step(inputs, drawing, generator)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        known.noted = drawing.noted
        return found

    def _capture(self, known: _Captured, inputs: Any, generator: torch.Generator) -> None:
        known.inputs = inputs._make(tensor.clone() for tensor in inputs)
        known.buffers = [torch.empty(shape, device=inputs[0].device) for _, shape in known.noted]
        _fill(known, generator)
        drawing = _Buffered(device=self._ranks.device, buffers=list(known.buffers))
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            known.outputs = self._step(known.inputs, drawing, generator)
        known.graph = graph


def _fill(known: _Captured, generator: torch.Generator) -> None:
    for (law, _), buffer in zip(known.noted, known.buffers, strict=True):
        if law == "normal":
            buffer.normal_(generator=generator)
        else:
            buffer.uniform_(generator=generator)


def numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Return single values as numbers, waiting for the device once."""
    return dict(zip(values, torch.stack([value.float() for value in values.values()]).tolist(), strict=True))
