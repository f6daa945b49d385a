"""One loop for every stage: steps, held-out measurements, checkpoints, and a log that shows no kill.

Nothing random outlives a step: step n draws from a generator seeded by (seed, stage, n). A checkpoint is therefore
weights, optimiser states and counters, and a run that was killed and continued ends with the same bytes as one that
was not.

    FOLDER/
        state.pt        the newest checkpoint, replaced atomically
        log.jsonl       one line a logged step, one a held-out measurement; cut back to the checkpoint on resume
        done.json       written last: how the stage ended
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from lt_eval.distill.ranks import ALONE, Ranks, cut_as, is_sharded, local, whole, whole_tree
from lt_eval.errors import StoreError
from lt_eval.store import atomic_write, read_json, write_json

Log = Mapping[str, float]


class Stateful(Protocol):
    """What a checkpoint keeps: modules, optimisers, averages."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take back what `state_dict` gave."""
        ...


@dataclass(frozen=True)
class OptimiserOptions:
    """AdamW as Table 4 of the paper states it, with a linear warm-up.

    Attributes:
        learning_rate: after the warm-up.
        beta1, beta2, eps, weight_decay: of AdamW.
        clip_norm: gradients are scaled down to this norm; 0 leaves them.
        warmup_steps: steps over which the rate rises from 0.
        decay_to: share of the rate that is left at the last step, along a cosine; 1 keeps it constant.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 10.0
    warmup_steps: int = 0
    decay_to: float = 1.0

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of step `step`, counted from 0, of `steps`."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        wave = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps - 1))))
        return self.learning_rate * warm * (self.decay_to + (1 - self.decay_to) * wave)


@dataclass(frozen=True)
class LoopOptions:
    """How long a stage runs and what it keeps.

    Attributes:
        steps: at most.
        log_every: steps between two lines of the log.
        checkpoint_every: steps between two checkpoints; what came after the newest is done again after a kill.
        evaluate_every: steps between two held-out measurements; 0 makes none but the last.
        patience: held-out measurements without an improvement after which the stage has converged; 0 runs all steps.
        tolerance: smallest share by which a measurement must beat the best one to count as an improvement.
    """

    steps: int
    log_every: int = 10
    checkpoint_every: int = 100
    evaluate_every: int = 100
    patience: int = 0
    tolerance: float = 0.005


class Optimiser:
    """AdamW over the parameters that want gradients, with its rate and clipping."""

    def __init__(self, parameters: Iterable[nn.Parameter], options: OptimiserOptions, steps: int) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._options, self._steps = options, steps
        on_gpu = all(parameter.is_cuda for parameter in self._parameters)
        self._in_graphs = on_gpu and not any(is_sharded(parameter) for parameter in self._parameters)
        self._rate: float | torch.Tensor = options.learning_rate
        if self._in_graphs:
            self._rate = torch.tensor(self._rate, device=self._parameters[0].device)
        self._how = {"fused": on_gpu, "capturable": self._in_graphs}
        self._adam = torch.optim.AdamW(
            self._parameters,
            **self._how,
            lr=self._rate,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
            weight_decay=options.weight_decay,
        )

    def begin(self, step: int) -> None:
        """Set the rate of step `step`."""
        rate = self._options.rate(step, self._steps)
        if isinstance(self._rate, torch.Tensor):
            self._rate.fill_(rate)
        for group in self._adam.param_groups:
            group["lr"] = self._rate if isinstance(self._rate, torch.Tensor) else rate

    def follow(self, loss: torch.Tensor) -> torch.Tensor:
        """Follow the gradient of `loss` once, at the rate that was set; return the gradient's norm before clipping.

        A norm that is not finite changes nothing and is returned as it is, so that the log shows it. On one GPU nothing
        is waited for.
        """
        self._adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        limit = self._options.clip_norm or math.inf
        norm: Any = torch.nn.utils.clip_grad_norm_(self._parameters, limit)
        norm = norm.full_tensor() if is_sharded(norm) else norm
        if self._in_graphs:  # the fused update is left out where this is 1, as gradient scalers have it
            self._adam.grad_scale, self._adam.found_inf = None, (~norm.isfinite()).float()  # type: ignore[attr-defined]
            self._adam.step()
        elif math.isfinite(float(norm)):
            self._adam.step()
        found: torch.Tensor = norm
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the moments."""
        return self._adam.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Take the moments back, whole ones also where the parameters are sharded."""
        moments = {
            index: {
                name: cut_as(value, self._parameters[index]) if value.shape == self._parameters[index].shape else value
                for name, value in kept.items()
            }
            for index, kept in state_dict["state"].items()
        }
        groups = [group | self._how for group in state_dict["param_groups"]]
        self._adam.load_state_dict({"state": moments, "param_groups": groups})


class Average:
    """Exponential moving average of a module's parameters in float32, begun at a stated update."""

    def __init__(self, module: nn.Module, decay: float, start: int) -> None:
        self._module, self._decay, self._start = module, decay, start
        self._updates = 0
        self._shadow: dict[str, torch.Tensor] = {}
        self._followed: list[tuple[torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def update(self) -> None:
        """Count one update of the module and follow it; the first that counts is copied."""
        self._updates += 1
        if self._updates < self._start:
            return
        if not self._shadow:
            self._shadow = {name: value.detach().float().clone() for name, value in self._module.named_parameters()}
        elif not self._followed:
            named = dict(self._module.named_parameters())
            self._followed = [(local(kept), local(named[name].detach())) for name, kept in self._shadow.items()]
        if self._followed:
            kept, now = ([pair[side] for pair in self._followed] for side in (0, 1))
            torch._foreach_lerp_(kept, [value.float() for value in now], 1 - self._decay)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return copies of the averaged parameters, or of the module's own before the average has begun.

        Buffers are its own. Of a sharded module every process must ask, and the first gets whole tensors.
        """
        own = self._module.state_dict()
        shown = {name: self._shadow.get(name, value).detach() for name, value in own.items()}
        return {name: whole(value).to(own[name].dtype, copy=True) for name, value in shown.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the average and how many updates it has seen."""
        return {"updates": self._updates, "shadow": self._shadow}

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Take both back."""
        own = dict(self._module.named_parameters())
        self._updates, self._followed = state_dict["updates"], []
        self._shadow = {
            name: cut_as(value.to(own[name].device), own[name]) for name, value in state_dict["shadow"].items()
        }


def generator_of(seed: int, stage: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of all that is random in one step. What it draws depends on the kind of device."""
    digest = hashlib.sha256(f"{seed}/{stage}/{step}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") % 2**63)


def converged(history: Sequence[float], patience: int, tolerance: float) -> bool:
    """Return whether the last `patience` values all failed to beat the best one before them by a share `tolerance`.

    Args:
        history: a held-out loss over time; lower is better.
        patience: 0 never converges.
        tolerance: 0.005 is half a percent.
    """
    if patience <= 0 or len(history) <= patience:
        return False
    before, since = min(history[:-patience]), min(history[-patience:])
    return since > before - tolerance * abs(before)


@dataclass
class Progressed:
    """Where a stage stands.

    Attributes:
        step: how many steps are done.
        held_out: (step, value) of the measurement that decides about convergence.
        seconds: time in steps and measurements, over all sessions.
        reason: why it ended: "steps" or "converged"; empty while it runs.
    """

    step: int = 0
    held_out: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    reason: str = ""


def train(
    folder: Path,
    options: LoopOptions,
    state: Mapping[str, Stateful],
    step: Callable[[int], Log],
    *,
    evaluate: Callable[[int], Log] | None = None,
    criterion: str = "loss",
    better: Callable[[int], None] | None = None,
    before: bool = False,
    identity: str = "",
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    ranks: Ranks = ALONE,
) -> Progressed:
    """Run a stage to its end, or continue it.

    Args:
        folder: of this stage alone.
        options: of the loop.
        state: everything that `step` changes, by name.
        step: does step n, counted from 0, and returns what is logged of it.
        evaluate: measures after n steps, without changing anything; returns the same in every process.
        criterion: key of `evaluate`'s result that is held out for convergence; lower is better.
        better: called after n steps when the criterion was the lowest so far, to keep those weights.
        before: whether `evaluate` is also asked before the first step.
        identity: hash of the recipe; a folder of another is not continued.
        progress: told (done, in all, what is new).
        ranks: the processes that train together. What is logged is their mean; the first writes.

    Raises:
        StoreError: the folder belongs to another recipe, is damaged, or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = _resume(folder, state, identity, ranks)
    log = _LogFile(folder / "log.jsonl", now.step, writes=ranks.first)
    values: Log = {}

    def hold_out() -> None:
        assert evaluate is not None
        measured = evaluate(now.step)
        log.write({"step": now.step, "held_out": dict(measured)})
        lowest = min((value for _, value in now.held_out), default=math.inf)
        now.held_out.append((now.step, measured[criterion]))
        if better is not None and measured[criterion] < lowest:
            better(now.step)

    if before and evaluate is not None and now.step == 0:
        mark = time.perf_counter()
        hold_out()
        now.seconds += time.perf_counter() - mark
    while not now.reason:
        mark = time.perf_counter()
        if now.step < options.steps:
            values = ranks.mean(step(now.step))
            now.step += 1
            if now.step % options.log_every == 0 or now.step == 1:
                log.write({"step": now.step, **values})
        last = now.step >= options.steps
        if evaluate is not None and (last or _due(now.step, options.evaluate_every)):
            hold_out()
            if converged([value for _, value in now.held_out], options.patience, options.tolerance):
                now.reason = "converged"
        now.reason = now.reason or ("steps" if last else "")
        now.seconds += time.perf_counter() - mark
        if now.reason or now.step % options.checkpoint_every == 0:
            log.sync()
            _save(folder / "state.pt", state, now, identity, ranks)
        what = ", ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:3])
        progress(now.step, options.steps, what)
    if ranks.first:
        write_json(folder / "done.json", {"steps": now.step, "reason": now.reason, "seconds": round(now.seconds, 1)})
    return now


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _save(path: Path, state: Mapping[str, Stateful], now: Progressed, identity: str, ranks: Ranks) -> None:
    parts = {name: whole_tree(part.state_dict()) for name, part in state.items()}
    if not ranks.first:
        return
    with atomic_write(path, "wb") as file:
        torch.save({"identity": identity, "now": vars(now), "state": parts}, file)


def _resume(folder: Path, state: Mapping[str, Stateful], identity: str, ranks: Ranks) -> Progressed:
    path = folder / "state.pt"
    if not path.is_file():
        return Progressed()
    try:
        # of a mapped file a process reads only what it keeps
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=ranks.world > 1)
    except Exception as cause:
        raise StoreError(
            f"{path}: not a checkpoint of this program ({cause}). Delete the folder to start again."
        ) from cause
    if saved["identity"] != identity:
        raise StoreError(
            f"{folder}: holds a stage of another recipe, or one that came from other weights or conditions. Choose "
            "another --out, or delete that folder to start again."
        )
    for name, part in state.items():
        kept = saved["state"][name]
        if isinstance(part, nn.Module):
            own = part.state_dict()
            kept = {key: cut_as(value, own[key]) for key, value in kept.items()}
        part.load_state_dict(kept)
    now = Progressed(**saved["now"])
    now.held_out = [(int(at), float(value)) for at, value in now.held_out]
    return now


class _LogFile:
    """Lines of JSON; lines of steps after the checkpoint are taken out when a run continues."""

    def __init__(self, path: Path, step: int, *, writes: bool = True) -> None:
        self._path, self._writes = path, writes
        if not writes:
            return
        kept = [line for line in _lines(path) if line["step"] <= step] if step else []
        with atomic_write(path) as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; readers see it at once."""
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def sync(self) -> None:
        """Make what was written last beyond a power cut, before a checkpoint says that it is there."""
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read a log, leaving out a torn last line."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return found


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a stage's log.

    Raises:
        StoreError: the stage has none.
    """
    path = folder / "log.jsonl"
    if not path.is_file():
        raise StoreError(f"{folder}: holds no log of a training stage.")
    return _lines(path)


def outcome(folder: Path) -> dict[str, Any] | None:
    """Return how a stage ended, or None where it has not."""
    path = folder / "done.json"
    return read_json(path) if path.is_file() else None


def why_it_ended(reason: str) -> str:
    """Return the reason of `done.json` in words."""
    return "its held-out loss had converged" if reason == "converged" else "its steps were done"
