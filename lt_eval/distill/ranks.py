"""Training by several processes: torchrun starts them, FSDP2 keeps a part of every parameter in each.

    torchrun --nproc-per-node 8 -m lt_eval distill all --recipe FILE --out FOLDER

Every step is that of one process: all draw the same batch and the same noise, each takes its part of the clips, and
gradients are averaged, so that the number of processes changes rounding alone. The first process measures and writes
files; what it measured is told to the others, so that all decide alike. Files hold whole tensors: a run may be
continued by another number of processes. All of them see the same folders.

Without torchrun, or with one process, nothing here does anything: `ALONE`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from lt_eval.errors import LtEvalError, SpecError
from lt_eval.generator.networks import resolve_device

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from lt_eval.distill.denoiser import Denoiser
    from lt_eval.distill.material import Batch

T = TypeVar("T")

CPU = torch.device("cpu")

PATIENCE = timedelta(days=7)
"""How long a process waits for another: the first may train a codec meanwhile. torchrun ends all when one dies."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, and which of them this one is.

    Attributes:
        rank: of this process, from 0.
        world: how many there are.
        device: of this process.
        mesh: of them all; None where there is one.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = CPU
    mesh: DeviceMesh | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that measures and writes."""
        return self.rank == 0

    def part(self, size: int) -> range:
        """Return which of a step's `size` clips are this process's.

        Raises:
            SpecError: they cannot be split evenly.
        """
        check_divides("a batch", size, self.world)
        own = size // self.world
        return range(self.rank * own, (self.rank + 1) * own)

    def share(self, batch: Batch) -> Batch:
        """Return this process's part of the clips of a step."""
        return batch if self.world == 1 else batch.part(self.part(len(batch.prompts)))

    def own(self, everyones: Tensor) -> Tensor:
        """Return this process's part of a tensor [B, ...] of all clips of a step."""
        mine = self.part(len(everyones))
        return everyones[mine.start : mine.stop]

    def uniform(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return uniform numbers of this process's clips, [B, ...] float32 on the generator's device.

        The generator, the same in every process, draws those of all clips.
        """
        whole = (self.world * shape[0], *shape[1:])
        return self.own(torch.rand(whole, generator=generator, device=generator.device))

    def normal(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return standard normal numbers, as `uniform` does."""
        whole = (self.world * shape[0], *shape[1:])
        return self.own(torch.randn(whole, generator=generator, device=generator.device))

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the means of numbers over the processes; all name the same."""
        if self.world == 1:
            return dict(values)
        import torch.distributed as dist

        told = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(told)
        return dict(zip(values, (told / self.world).tolist(), strict=True))

    def deviation(self, values: Tensor) -> float:
        """Return the standard deviation of all elements of all processes' parts, which are of one size."""
        if self.world == 1:
            return float(values.std())
        moments = self.mean({"first": float(values.double().mean()), "second": float(values.double().square().mean())})
        count = self.world * values.numel()
        return float(max(0.0, (moments["second"] - moments["first"] ** 2) * count / (count - 1)) ** 0.5)

    def first_only(self, do: Callable[..., T], *given: Any) -> T:
        """Have the first process do something while the others wait; return in all what came out, a plain object.

        Raises:
            LtEvalError: in the other processes, when the first one failed.
        """
        if self.world == 1:
            return do(*given)
        import torch.distributed as dist

        told: list[Any] = [None, "it was interrupted"]
        try:
            if self.first:
                told = [do(*given), ""]
        except Exception as cause:
            told[1] = str(cause)
            raise
        finally:
            dist.broadcast_object_list(told, src=0, device=CPU)
        if told[1]:
            raise LtEvalError(f"The first process failed, so process {self.rank} stops: {told[1]}")
        found: T = told[0]
        return found

    def gathered(self, part: Tensor, dim: int) -> Tensor:
        """Return the parts of all processes, of one shape, one after the other along a dimension, on the CPU."""
        if self.world == 1:
            return part.cpu()
        import torch.distributed as dist

        mine = part.cpu().contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(parts, mine)
        return torch.cat(parts, dim=dim)


ALONE = Ranks()


def check_divides(what: str, size: int, world: int) -> None:
    """Refuse a batch that processes cannot share evenly.

    Raises:
        SpecError: `size` is no multiple of `world`.
    """
    if size % world:
        near = sorted({max(world, size // world * world), (size // world + 1) * world})
        raise SpecError(
            f"{what} is {size} and {world} processes share it; it must be a multiple of their number. Set it to "
            f"{' or '.join(map(str, near))}, or start another number of processes."
        )


@contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """Join the processes that torchrun started, or be alone where it started none or one.

    Args:
        device: auto, cpu or cuda; of several processes each takes the GPU of its local rank.

    Raises:
        SpecError: the device cannot be used, or the processes outnumber the GPUs of this machine.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(device=resolve_device(device))
        return
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    mine = _device_of(int(os.environ.get("LOCAL_RANK", "0")), device)
    backend = "cpu:gloo,cuda:nccl" if mine.type == "cuda" else "gloo"
    # about results that are views, which would lose their gradients if they were written into; none here is
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    dist.init_process_group(backend, timeout=PATIENCE, device_id=mine if mine.type == "cuda" else None)
    together = False
    try:
        yield Ranks(dist.get_rank(), world, mine, init_device_mesh(mine.type, (world,)))
        dist.barrier()  # one that leaves while another still talks to it takes that one down
        together = True
    finally:
        if together or mine.type == "cpu":  # GPUs would wait for what a process that failed never sends
            dist.destroy_process_group()


def _device_of(local_rank: int, device: str) -> torch.device:
    """Return the device of a process; a GPU is made the current one before anything touches another."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return CPU
    if device not in ("auto", "cuda"):
        raise SpecError(f"device is {device!r}; several processes take cpu or cuda, each its own GPU.")
    if local_rank >= torch.cuda.device_count():
        raise SpecError(
            f"this machine has {torch.cuda.device_count()} GPUs and process {local_rank} (from 0) found none left. "
            "Start as many processes as GPUs, or give --device cpu."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


# Sharded models and their tensors ------------------------------------------------------------------------------------


def sharded(model: Denoiser, ranks: Ranks) -> Denoiser:
    """Return a model of which every process keeps a part of each parameter, on its device; alone, the model itself.

    Layers are units: their parameters are together only while they are computed. So are the cross-attentions within,
    whose keys and values are projected ahead of the layers.

    Args:
        model: weights are those of the first process; others may give one without (`Denoiser.empty`).
        ranks: who shares it.
    """
    if ranks.mesh is None:
        return model
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    found = model.skeleton()
    entries: list[tuple[Any, tuple[str, ...]]] = []
    for block in found.transformer.each_block():
        entries += [(block.cross_attn, ("keys_values",)), (block, ("keys_values",))]
    entries.append((found.transformer, ("step", "fill", "modulation", "prepare")))
    if found.prompts is not None:
        entries.append((found.prompts, ()))
    for module, methods in entries:
        # whole parameters left from a pass without gradients would outlive the next update
        fully_shard(module, mesh=ranks.mesh, reshard_after_forward=True)
        for method in methods:
            register_fsdp_forward_method(module, method)
    found.to_empty(device=ranks.device)
    weights = model.state_dict() if ranks.first else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(found, weights, options=options)
    return found


def is_sharded(tensor: Any) -> bool:
    """Return whether a tensor is one of which this process holds a part."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Any) -> Tensor:
    """Return this process's part of a tensor, sharing its memory."""
    part: Tensor = tensor.to_local() if is_sharded(tensor) else tensor
    return part


def whole(tensor: Any) -> Tensor:
    """Return all of a tensor. Where it is sharded every process must ask, and all but the first get its shape alone."""
    if not is_sharded(tensor):
        same: Tensor = tensor
        return same
    full: Tensor = tensor.full_tensor()
    return full if tensor.device_mesh.get_rank() == 0 else full.to("meta")


def cut_as(full: Tensor, like: Any) -> Tensor:
    """Return this process's part of a tensor that all have, cut as another one is; where that is not, all of it."""
    if not is_sharded(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    cut = distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cut.clone()  # of its own memory, not a piece of a file's


def whole_tree(tree: Any) -> Any:
    """Return nested dicts and lists with whole tensors, the once sharded ones on the CPU; all processes must ask."""
    if isinstance(tree, Tensor):
        return whole(tree) if not is_sharded(tree) else _on_cpu(whole(tree))
    if isinstance(tree, dict):
        return {key: whole_tree(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [whole_tree(value) for value in tree]
    return tree


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.cpu()
