"""Where and how wide to run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Literal

from lt_eval.errors import SpecError


@dataclass(frozen=True)
class ExecutionPolicy:
    """Where and how wide a run is executed.

    Attributes:
        executor: worker processes on this machine, or Ray (extra).
        workers: tasks at a time; 1 with "local" is this process itself.
        threads: numerical threads per worker; None shares the cores of this machine out.
        ray_address: a running cluster; None starts Ray on this machine for the run.
        retries: how often a task is tried again after its worker died.
        gpu: Ray only: reserve a share of a GPU for each worker; without it Ray hides GPUs from them.
    """

    executor: Literal["local", "ray"] = "local"
    workers: int = 1
    threads: int | None = None
    ray_address: str | None = None
    retries: int = 2
    gpu: bool = False

    def __post_init__(self) -> None:
        if self.executor not in ("local", "ray"):
            raise SpecError(f"There is no executor {self.executor!r}. Known: local, ray.")
        for name, value, least in (
            ("workers", self.workers, 1),
            ("threads", self.threads, 1),
            ("retries", self.retries, 0),
        ):
            if value is not None and value < least:
                raise SpecError(f"{name} is {value}; it must be at least {least}.")
        if self.ray_address is not None and self.executor != "ray":
            raise SpecError(f"A Ray address ({self.ray_address}) needs the executor ray; it is {self.executor}.")


@dataclass(frozen=True)
class WorkerLost:
    """Stands where a result would: the worker died at every attempt. `message` is complete for a reader."""

    message: str


def threads_per_worker(policy: ExecutionPolicy) -> int:
    """Return the policy's thread count, or this machine's usable cores shared out among its workers."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return policy.threads or max(1, cores // policy.workers)


def lost(attempts: int, ending: str) -> WorkerLost:
    """Return the record of a task that `attempts` workers died of, the last one with `ending`."""
    return WorkerLost(
        f"The worker process died ({ending}) at each of {attempts} attempts. SIGKILL is mostly the system running out "
        "of memory: use fewer workers or smaller clips; other signals are a crash in native code."
    )
