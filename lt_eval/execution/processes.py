"""Worker processes on this machine, each with a pipe of its own, so that a dead one costs only its own task."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from lt_eval.errors import LtEvalError
from lt_eval.execution.answers import answer, result
from lt_eval.execution.policy import ExecutionPolicy, WorkerLost, lost, threads_per_worker
from lt_eval.execution.threads import set_threads

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

STOP_SECONDS = 5.0
"""How long an idle worker may take to leave before it is killed."""


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
        pipe.send_bytes(answer(function, None))
        while True:
            pipe.send_bytes(answer(function, pipe.recv_bytes()))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Crew:
    """Worker processes, and which task each of them holds."""

    def __init__(self, function: Callable[[Any], Any], tasks: Sequence[Any], policy: ExecutionPolicy) -> None:
        self.function, self.tasks, self.policy = pickle.dumps(function), tasks, policy
        self.threads = threads_per_worker(policy)
        self.waiting, self.left = deque(range(len(tasks))), len(tasks)
        self.deaths, self.stillborn = [0] * len(tasks), 0
        self.workers: list[_Worker] = []

    def results(self) -> Iterator[tuple[int, Any]]:
        """Yield (index, result or WorkerLost) in completion order; leaving the loop stops all workers."""
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
        message, index = worker.read(), worker.index
        if message is None:
            return self._mourn(worker)
        worker.index, worker.ready, self.stillborn = None, True, 0
        value = result(message)
        return None if index is None else (index, value)

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
            return index, lost(self.deaths[index], ending)
        self.waiting.append(index)  # at the end: if memory ran out, the others are done with theirs by then
        return None
