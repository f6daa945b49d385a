"""Maps a function over clips: in this process, in worker processes, or on Ray. Same results, in completion order.

A worker that dies (out of memory, `kill -9`, a crash in native code) costs a retry of the task it held and of nothing
else: every local worker is one process with a pipe of its own, so the task that was in it is known. A task that keeps
killing its workers becomes a `WorkerLost` record and the others go on. An exception that the function raises is a bug:
it stops all workers and reaches the caller with the worker's traceback.

Results are the serial run's bit for bit where the number of threads per worker and the kind of processor are the same:
sums are split by thread, and libraries choose their kernels by processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from lt_eval.execution.answers import RemoteTraceback
from lt_eval.execution.on_ray import import_ray, map_ray
from lt_eval.execution.policy import ExecutionPolicy, WorkerLost, threads_per_worker
from lt_eval.execution.processes import Crew
from lt_eval.execution.threads import set_threads

__all__ = ["ExecutionPolicy", "RemoteTraceback", "WorkerLost", "map_tasks", "set_threads", "threads_per_worker"]

T = TypeVar("T")
R = TypeVar("R")


def map_tasks(
    function: Callable[[T], R], tasks: Sequence[T], policy: ExecutionPolicy
) -> Iterator[tuple[int, R | WorkerLost]]:
    """Yield (index of the task, result) for every task once, in completion order.

    Closing the iterator, and any exception, stops all workers at once.

    Args:
        function: a module-level function, or a frozen dataclass with `__call__`: it is pickled unless all runs here.
        tasks: small picklable records; one at a time is sent to a worker.
        policy: where to run.

    Raises:
        MissingExtraError: the executor is Ray and Ray is not installed.
        LtEvalError: worker processes die before they take a task.
        BaseException: whatever `function` raised, caused by a `RemoteTraceback` if it ran elsewhere.
    """
    if policy.executor == "ray":
        return map_ray(import_ray(), function, tasks, policy)
    if policy.workers == 1:
        return _map_here(function, tasks, policy)
    return Crew(function, tasks, policy).results()


def _map_here(function: Callable[[T], R], tasks: Sequence[T], policy: ExecutionPolicy) -> Iterator[tuple[int, R]]:
    set_threads(threads_per_worker(policy))
    for index, task in enumerate(tasks):
        yield index, function(task)
