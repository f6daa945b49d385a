from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lt_eval.errors import MissingExtraError, SpecError
from lt_eval.execution import ExecutionPolicy, RemoteTraceback, WorkerLost, map_tasks, threads_per_worker
from tests import execution_tasks as tasks

ROOT = Path(__file__).resolve().parents[1]
TWO = ExecutionPolicy(workers=2, threads=1)


@pytest.fixture
def threads_restored() -> Iterator[None]:
    """Give this process its threads back: a run with one worker is executed in it."""
    import torch

    from lt_eval.execution import set_threads

    environment, threads = dict(os.environ), int(torch.get_num_threads())
    yield
    set_threads(threads)
    os.environ.clear()
    os.environ.update(environment)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(folder: Path) -> None:
    """Wait for the processes whose ids lie in the folder to end."""
    end = time.monotonic() + tasks.PATIENCE_S
    for path in folder.glob("*.pid"):
        while alive(int(path.read_text())):
            assert time.monotonic() < end, f"{path} is still alive"
            time.sleep(0.02)


@pytest.mark.parametrize(("workers", "count"), [(1, 0), (1, 4), (2, 0), (2, 1), (2, 20), (3, 2)])
@pytest.mark.usefixtures("threads_restored")
def test_every_task_is_answered_once(workers: int, count: int) -> None:
    policy = ExecutionPolicy(workers=workers, threads=1)
    found = list(map_tasks(tasks.square, range(count), policy))
    assert sorted(found) == [(x, x * x) for x in range(count)]
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("threads_restored")
def test_one_worker_is_this_process() -> None:
    found = list(map_tasks(lambda task: (task, os.getpid()), [7, 8], ExecutionPolicy()))
    assert found == [(0, (7, os.getpid())), (1, (8, os.getpid()))]


def test_results_come_as_they_are_ready(tmp_path: Path) -> None:
    assert list(map_tasks(tasks.FirstWaitsForLast(tmp_path), range(2), TWO)) == [(1, 1), (0, 0)]


def test_tasks_are_taken_only_as_workers_become_free() -> None:
    class Counted(Sequence[int]):
        taken = 0

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> int:  # type: ignore[override]
            Counted.taken += 1
            return index

    results = map_tasks(tasks.square, Counted(), TWO)
    for given in range(1, 20):
        next(results)
        assert given <= Counted.taken <= given + TWO.workers
    results.close()  # type: ignore[attr-defined]


def test_a_killed_worker_costs_a_retry(tmp_path: Path) -> None:
    found = list(map_tasks(tasks.DieFirst(tmp_path), range(4), TWO))
    assert sorted(found) == [(x, x) for x in range(4)]


def test_a_task_that_kills_every_worker_is_lost_and_its_neighbours_are_not(tmp_path: Path) -> None:
    policy = ExecutionPolicy(workers=2, threads=1, retries=0)
    found = dict(map_tasks(tasks.DieOdd(tmp_path), range(6), policy))
    assert {index for index, value in found.items() if isinstance(value, WorkerLost)} == {1, 3, 5}
    assert {index: found[index] for index in (0, 2, 4)} == {0: 0, 2: 2, 4: 4}


def test_a_loss_says_how_the_worker_ended_and_how_often() -> None:
    ((_, lost),) = map_tasks(tasks.leave, [3], ExecutionPolicy(workers=2, threads=1, retries=1))
    assert isinstance(lost, WorkerLost)
    assert "exit code 3" in lost.message
    assert "2 attempts" in lost.message


def test_an_exception_reaches_the_caller_with_the_workers_traceback() -> None:
    with pytest.raises(KeyError, match="three") as caught:
        list(map_tasks(tasks.refuse_three, range(100), TWO))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in refuse_three" in str(caught.value.__cause__)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("function", "message"),
    [(tasks.raise_unportable, "Unportable: 7 and 7"), (tasks.lose_value, "lambda")],
)
def test_what_cannot_be_pickled_is_still_reported(function: object, message: str) -> None:
    with pytest.raises(Exception, match=message):
        list(map_tasks(function, [7], TWO))  # type: ignore[arg-type]


def test_closing_the_iterator_stops_busy_workers(tmp_path: Path) -> None:
    results = map_tasks(tasks.Linger(tmp_path), range(3), TWO)
    assert next(results) == (0, 0)
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    assert not any(alive(int(path.read_text())) for path in tmp_path.glob("*.pid"))


SCRIPT = """
from pathlib import Path
from lt_eval.execution import ExecutionPolicy, map_tasks
from tests import execution_tasks as tasks
{guard}list(map_tasks(tasks.Linger(Path({folder!r})), range(3), ExecutionPolicy(workers=2, threads=1)))
"""


def start_script(folder: Path, guard: str = "if __name__ == '__main__':\n    ") -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(folder=str(folder), guard=guard))
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("to", ["the process", "its group"])
def test_ctrl_c_stops_everything_and_leaves_one_traceback(tmp_path: Path, to: str) -> None:
    with start_script(tmp_path) as process:
        tasks.wait_for(tmp_path / "1.pid")
        (os.killpg if to == "its group" else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=tasks.PATIENCE_S)
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    wait_until_gone(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_workers_leave_with_a_killed_parent(tmp_path: Path) -> None:
    with start_script(tmp_path) as process:
        tasks.wait_for(tmp_path / "1.pid")
        process.kill()
        wait_until_gone(tmp_path)


def test_workers_that_cannot_start_are_reported(tmp_path: Path) -> None:
    with start_script(tmp_path, guard="") as process:
        _, errors = process.communicate(timeout=tasks.PATIENCE_S)
    assert process.returncode != 0
    assert "3 times running" in errors
    assert "if __name__ == '__main__':" in errors


def test_threads_are_shared_out() -> None:
    everything = threads_per_worker(ExecutionPolicy())
    assert everything >= 1
    assert threads_per_worker(ExecutionPolicy(workers=everything)) == 1
    assert threads_per_worker(ExecutionPolicy(workers=1000)) == 1
    assert threads_per_worker(ExecutionPolicy(workers=1000, threads=7)) == 7


READ_THREADS = """
import sys
from lt_eval.execution import set_threads
assert not {"torch", "numpy", "cv2"} & set(sys.modules)
for moment in sys.argv[1]:
    if moment == "i":
        import cv2, numpy, scipy.linalg, torch
    else:
        set_threads(1)
import ctypes
from pathlib import Path
print(torch.get_num_threads(), cv2.getNumThreads())
for library in Path(numpy.__file__).parents[1].glob("*.libs/*scipy_openblas*"):
    loaded = ctypes.CDLL(str(library))
    for name in ("scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads"):
        if hasattr(loaded, name):
            print(getattr(loaded, name)())
"""


@pytest.mark.parametrize("order", ["si", "is"], ids=["set before import", "set after import"])
def test_threads_hold_whenever_libraries_are_imported(order: str) -> None:
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    found = subprocess.run(
        [sys.executable, "-c", READ_THREADS, order], env=free, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(found.stdout.split()) == {"1"}


@pytest.mark.usefixtures("threads_restored")
def test_workers_find_the_bits_of_the_serial_run() -> None:
    serial = sorted(map_tasks(tasks.numerical_digest, range(4), ExecutionPolicy(threads=1)))
    assert sorted(map_tasks(tasks.numerical_digest, range(4), TWO)) == serial
    assert len({digest for _, digest in serial}) == 4


def test_missing_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"--executor ray needs .*pip install 'lt-eval\[ray\]'"):
        map_tasks(tasks.square, [1], ExecutionPolicy(executor="ray"))


# On Ray. Its start takes seconds, so most tests share one, which also shows that a Ray of the caller's stays up.

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (extra `ray`)")
ON_RAY = ExecutionPolicy(executor="ray", workers=2, threads=1)


@pytest.fixture(scope="module")
def ray_running() -> Iterator[None]:
    from lt_eval.execution.on_ray import import_ray

    ray = import_ray()
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")


@needs_ray
@pytest.mark.usefixtures("ray_running", "threads_restored")
def test_ray_finds_the_bits_of_the_serial_run() -> None:
    serial = sorted(map_tasks(tasks.numerical_digest, range(4), ExecutionPolicy(threads=1)))
    assert sorted(map_tasks(tasks.numerical_digest, range(4), ON_RAY)) == serial


@needs_ray
@pytest.mark.usefixtures("ray_running")
def test_a_killed_ray_worker_costs_a_retry(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = list(map_tasks(tasks.DieFirst(tmp_path), range(3), ON_RAY))
    assert sorted(found) == [(x, x) for x in range(3)]
    assert capfd.readouterr() == ("", "")


@needs_ray
@pytest.mark.usefixtures("ray_running")
def test_a_task_that_kills_every_ray_worker_is_lost(tmp_path: Path) -> None:
    policy = ExecutionPolicy(executor="ray", workers=2, threads=1, retries=0)
    found = dict(map_tasks(tasks.DieOdd(tmp_path), range(3), policy))
    assert isinstance(found.pop(1), WorkerLost)
    assert found == {0: 0, 2: 2}


@needs_ray
@pytest.mark.usefixtures("ray_running")
def test_an_exception_on_ray_reaches_the_caller_as_itself() -> None:
    with pytest.raises(KeyError, match="three") as caught:
        list(map_tasks(tasks.refuse_three, range(5), ON_RAY))
    assert "in refuse_three" in str(caught.value.__cause__)


@needs_ray
@pytest.mark.usefixtures("ray_running")
def test_closing_the_iterator_stops_ray_tasks(tmp_path: Path) -> None:
    results = map_tasks(tasks.Linger(tmp_path), range(3), ON_RAY)
    assert next(results) == (0, 0)
    results.close()  # type: ignore[attr-defined]
    (tmp_path / "0.pid").unlink()  # a worker that has done its task is Ray's to keep
    wait_until_gone(tmp_path)


@needs_ray
@pytest.mark.usefixtures("ray_running")
def test_ray_shares_gpus_out_when_asked() -> None:
    asked = ExecutionPolicy(executor="ray", workers=2, threads=1, gpu=True)
    assert {found for _, found in map_tasks(tasks.visible_gpus, range(2), asked)} <= {"0", "1"}


@needs_ray
@pytest.mark.usefixtures("ray_running")
def test_more_threads_than_any_ray_node_has_are_refused_instead_of_waited_for() -> None:
    with pytest.raises(SpecError, match="999 cores"):
        list(map_tasks(tasks.square, [1], ExecutionPolicy(executor="ray", threads=999)))


RAY_SCRIPT = """
import sys
from pathlib import Path
from lt_eval.execution import ExecutionPolicy, map_tasks
from tests import execution_tasks as tasks
found = list(map_tasks(tasks.DieFirst(Path(sys.argv[1])), range(3), ExecutionPolicy("ray", workers=2, threads=1)))
assert sorted(found) == [(0, 0), (1, 1), (2, 2)]
import ray
assert not ray.is_initialized()
"""


@needs_ray
def test_a_ray_started_for_the_run_ends_with_it_and_keeps_quiet(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RAY_SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
