"""Maps a function over clips: in this process, in worker processes, or on Ray. Same results, in completion order.

A worker that dies (out of memory, `kill -9`, a crash in native code) costs a retry of the task it held and of nothing
else: every local worker is one process with a pipe of its own, so the task that was in it is known. A task that keeps
killing its workers becomes a `WorkerLost` record and the others go on. An exception that the function raises is a bug:
it stops all workers and reaches the caller with the worker's traceback.

Results are the serial run's bit for bit where the number of threads per worker and the kind of processor are the same:
sums are split by thread, and libraries choose their kernels by processor.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import logging
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lt_eval.errors import LtEvalError, MissingExtraError, SpecError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

T = TypeVar("T")
R = TypeVar("R")

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
"""What numpy, scipy, torch and OpenCV read once, when they are imported."""

OPENBLAS_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)

STOP_SECONDS = 5.0
"""How long an idle worker may take to leave before it is killed."""


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


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: the traceback there, as text."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


def threads_per_worker(policy: ExecutionPolicy) -> int:
    """Return the policy's thread count, or this machine's usable cores shared out among its workers."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return policy.threads or max(1, cores // policy.workers)


def set_threads(threads: int) -> None:
    """Limit this process to `threads` numerical threads, in libraries loaded already and in those loaded later.

    Imports nothing: libraries that come later (torch, numpy, cv2) read the environment; those that are here and no
    longer look there are told.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(threads)
    for package in ("numpy", "scipy"):
        if package in sys.modules:
            _limit_openblas(package, threads)


def _limit_openblas(package: str, threads: int) -> None:
    """Tell the OpenBLAS inside a wheel's own library folder, which has no Python function for it."""
    home = Path(str(sys.modules[package].__file__)).parent
    for library in (*home.parent.glob(f"{package}.libs/*openblas*"), *home.glob(".dylibs/*openblas*")):
        with contextlib.suppress(OSError):
            loaded = ctypes.CDLL(str(library))
            for setter in OPENBLAS_SETTERS:
                if hasattr(loaded, setter):
                    getattr(loaded, setter)(ctypes.c_int(threads))


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
        return _map_ray(_import_ray(), function, tasks, policy)
    if policy.workers == 1:
        return _map_here(function, tasks, policy)
    return _Crew(function, tasks, policy).results()


def _map_here(function: Callable[[T], R], tasks: Sequence[T], policy: ExecutionPolicy) -> Iterator[tuple[int, R]]:
    set_threads(threads_per_worker(policy))
    for index, task in enumerate(tasks):
        yield index, function(task)


# What a worker answers: pickled (result, None) or (exception, its traceback as text).


def _answer(call: Callable[[], object]) -> bytes:
    try:
        return pickle.dumps((call(), None))
    except BaseException as error:
        return pickle.dumps((_portable(error), traceback.format_exc()))


def _portable(error: BaseException) -> BaseException:
    """Return the exception if it survives pickling, which many with arguments of their own do not."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if type(copy) is type(error) else RuntimeError(f"{type(error).__name__}: {error}")


@functools.lru_cache(maxsize=1)
def _load(function: bytes) -> Callable[[object], object]:
    loaded: Callable[[object], object] = pickle.loads(function)
    return loaded


def _call(function: bytes, task: bytes) -> object:
    return _load(function)(pickle.loads(task))


def _result(answer: bytes) -> Any:
    value, trace = pickle.loads(answer)
    if trace is not None:
        raise value from RemoteTraceback(trace)
    return value


# Worker processes on this machine.


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection[Any, Any]
    ready: bool = False
    index: int | None = None

    @property
    def idle(self) -> bool:
        return self.ready and self.index is None

    def give(self, index: int, task: object) -> None:
        self.index, message = index, pickle.dumps(task)
        with contextlib.suppress(OSError):  # it has just died: noticed, and the task retried, at the next wait
            self.pipe.send_bytes(message)

    def read(self) -> bytes | None:
        """Return its answer, or None if it is dead."""
        try:
            return self.pipe.recv_bytes() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None

    def dismiss(self) -> None:
        if not self.idle:
            self.process.kill()
        self.pipe.close()  # to an idle worker, end of input is the sign to leave

    def bury(self) -> str:
        """Wait for its end, let go of it, and say how it ended."""
        self.process.join(STOP_SECONDS)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        self.process.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(pipe: connection.Connection[Any, Any], threads: int, function: bytes) -> None:
    """Run in the worker. The function comes pickled, so that nothing numerical is imported before `set_threads`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    set_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        pipe.send_bytes(_answer(lambda: _load(function) is None))
        while True:
            task = pipe.recv_bytes()
            pipe.send_bytes(_answer(functools.partial(_call, function, task)))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Crew:
    """Worker processes, and which task each of them holds."""

    def __init__(self, function: Callable[[Any], Any], tasks: Sequence[Any], policy: ExecutionPolicy) -> None:
        self.function, self.tasks, self.policy = pickle.dumps(function), tasks, policy
        self.threads = threads_per_worker(policy)
        self.waiting, self.left = deque(range(len(tasks))), len(tasks)
        self.deaths, self.stillborn = [0] * len(tasks), 0
        self.workers: list[_Worker] = []

    def results(self) -> Iterator[tuple[int, Any]]:
        try:
            while self.left:
                self._employ()
                for worker in self._stirring():
                    outcome = self._hear(worker)
                    self._employ()  # before the caller takes its time over the result
                    if outcome is not None:
                        self.left -= 1
                        yield outcome
        finally:
            for worker in self.workers:
                worker.dismiss()
            for worker in self.workers:
                worker.bury()

    def _employ(self) -> None:
        for worker in self.workers:
            if worker.idle and self.waiting:
                index = self.waiting.popleft()
                worker.give(index, self.tasks[index])
        starting = sum(not worker.ready for worker in self.workers)
        for _ in range(min(self.policy.workers - len(self.workers), len(self.waiting) - starting)):
            self.workers.append(self._start())

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a fork would copy held locks and CUDA state
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.threads, self.function), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _stirring(self) -> list[_Worker]:
        owner: dict[Any, _Worker] = {}
        for worker in self.workers:
            owner |= {worker.pipe: worker, worker.process.sentinel: worker}
        return list(dict.fromkeys(owner[event] for event in connection.wait(list(owner))))

    def _hear(self, worker: _Worker) -> tuple[int, Any] | None:
        answer, index = worker.read(), worker.index
        if answer is None:
            return self._mourn(worker)
        worker.index, worker.ready, self.stillborn = None, True, 0
        result = _result(answer)
        return None if index is None else (index, result)

    def _mourn(self, worker: _Worker) -> tuple[int, WorkerLost] | None:
        self.workers.remove(worker)
        worker.pipe.close()
        ending, index = worker.bury(), worker.index
        if not worker.ready:
            self.stillborn += 1
            if self.stillborn > self.policy.retries:
                raise LtEvalError(
                    f"A worker process ended ({ending}) before it took a task, {self.stillborn} times running. "
                    "In a script of your own, call lt_eval under `if __name__ == '__main__':`; else run with 1 worker "
                    "to see what is wrong."
                )
        if index is None:
            return None
        self.deaths[index] += 1
        if self.deaths[index] > self.policy.retries:
            return index, _lost(self.deaths[index], ending)
        self.waiting.append(index)  # at the end: if memory ran out, the others are done with theirs by then
        return None


def _lost(attempts: int, ending: str) -> WorkerLost:
    return WorkerLost(
        f"The worker process died ({ending}) at each of {attempts} attempts. SIGKILL is mostly the system running out "
        "of memory: use fewer workers or smaller clips; other signals are a crash in native code."
    )


# Ray.


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as cause:
        raise MissingExtraError("--executor ray", "ray", str(cause)) from cause
    return ray


def _map_ray(ray: Any, function: Callable[[Any], Any], tasks: Sequence[Any], policy: ExecutionPolicy) -> Iterator[Any]:
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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it asks on the terminal
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
    return _answer(functools.partial(_call, function, task))


def _ray_result(ray: Any, reference: Any, policy: ExecutionPolicy) -> Any:
    try:
        answer = ray.get(reference)
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.ObjectLostError,
    ) as error:
        return _lost(policy.retries + 1, type(error).__name__)
    return _result(answer)
