"""How many threads a worker gets, and what stands for a lost one."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from lt_eval.spec import ExecutionPolicy

__all__ = ["ExecutionPolicy", "WorkerLost", "lost", "threads_per_worker"]


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
