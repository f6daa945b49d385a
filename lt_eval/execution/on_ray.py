"""Ray: on a cluster, or started on this machine for the run."""

from __future__ import annotations

import itertools
import logging
import math
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lt_eval.errors import MissingExtraError, SpecError
from lt_eval.execution.answers import answer, result
from lt_eval.execution.policy import ExecutionPolicy, lost, threads_per_worker
from lt_eval.execution.threads import set_threads


def import_ray() -> Any:
    """Return the module; raises MissingExtraError."""
    # Ray reports dead workers on stdout, where our data goes; it reads both variables when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as cause:
        raise MissingExtraError("--executor ray", "ray", str(cause)) from cause
    return ray


def map_ray(ray: Any, function: Callable[[Any], Any], tasks: Sequence[Any], policy: ExecutionPolicy) -> Iterator[Any]:
    """Yield (index, result or WorkerLost) in completion order. Ray is shut down at the end if it was started here."""
    threads, started = threads_per_worker(policy), not ray.is_initialized()
    if started:
        _start_ray(ray, policy, threads)
    running: dict[Any, int] = {}
    try:
        remote = ray.remote(_answer_on_ray).options(max_retries=policy.retries, **_ray_resources(ray, policy, threads))
        pickled, waiting = ray.put(pickle.dumps(function)), iter(range(len(tasks)))

        def employ() -> None:
            for index in itertools.islice(waiting, policy.workers - len(running)):
                running[remote.remote(pickled, threads, pickle.dumps(tasks[index]))] = index

        employ()
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            index = running.pop(done)
            employ()
            yield index, _ray_result(ray, done, policy)
    finally:
        for unfinished in running:
            ray.cancel(unfinished, force=True)
        if started:
            ray.shutdown()


def _start_ray(ray: Any, policy: ExecutionPolicy, threads: int) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    os.environ.setdefault("RAY_task_oom_retries", str(policy.retries))  # Ray's own default is for ever
    if policy.ray_address is None:
        ray.init(address="local", num_cpus=policy.workers * threads, include_dashboard=False, **quiet)
        return
    try:
        ray.init(address=policy.ray_address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as cause:
        raise SpecError(f"No Ray cluster answers at {policy.ray_address!r}: {cause}") from cause


def _ray_resources(ray: Any, policy: ExecutionPolicy, threads: int) -> dict[str, float]:
    """Return what one worker reserves; Ray would wait for ever for a node that is large enough."""
    largest = max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if threads > largest:
        raise SpecError(
            f"No Ray node has {threads} cores for a worker; the largest has {largest:g}. Set fewer threads."
        )
    gpus = ray.cluster_resources().get("GPU", 0.0)
    if not policy.gpu or not gpus:
        return {"num_cpus": threads, "num_gpus": 0}
    return {"num_cpus": threads, "num_gpus": 1 / math.ceil(policy.workers / gpus)}


def _answer_on_ray(function: bytes, threads: int, task: bytes) -> bytes:
    set_threads(threads)
    return answer(function, task)


def _ray_result(ray: Any, reference: Any, policy: ExecutionPolicy) -> Any:
    try:
        message: bytes = ray.get(reference)
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.ObjectLostError,
    ) as error:
        return lost(policy.retries + 1, type(error).__name__)
    return result(message)
