"""What the tests of execution run in workers, which import this module and so not the tests themselves."""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

PATIENCE_S = 30.0


def square(x: int) -> int:
    return x * x


def refuse_three(x: int) -> int:
    if x == 3:
        raise KeyError("three")
    return x


def leave(x: int) -> NoReturn:
    os._exit(x)


class Unportable(Exception):
    """Pickles, and cannot be made again from its pickle."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_unportable(x: int) -> NoReturn:
    raise Unportable(x, x)


def lose_value(_: int) -> object:
    return lambda: None


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def wait_for(path: Path) -> None:
    """Return when the file is there."""
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)


@dataclass(frozen=True)
class DieFirst:
    folder: Path

    def __call__(self, x: int) -> int:
        """Kills its worker at the first attempt of each task."""
        mark = self.folder / str(x)
        if not mark.exists():
            mark.touch()
            die()
        return x


@dataclass(frozen=True)
class DieOdd:
    folder: Path

    def __call__(self, x: int) -> int:
        """Kills its worker at each attempt of an odd task; an even one is in flight until the first of them is dead."""
        if x % 2:
            (self.folder / "dying").touch()
            die()
        wait_for(self.folder / "dying")
        return x


@dataclass(frozen=True)
class FirstWaitsForLast:
    folder: Path

    def __call__(self, x: int) -> int:
        """Task 0 ends only after task 1."""
        if x == 0:
            wait_for(self.folder / "1")
        (self.folder / str(x)).touch()
        return x


@dataclass(frozen=True)
class Linger:
    folder: Path

    def __call__(self, x: int) -> int:
        """Task 0 ends when the others have begun, and these stay for as long as they are let. Each leaves its pid."""
        (self.folder / f"{x}.tmp").write_text(str(os.getpid()))
        (self.folder / f"{x}.tmp").rename(self.folder / f"{x}.pid")
        if x == 0:
            wait_for(self.folder / "1.pid")
        else:
            time.sleep(600)
        return x


def numerical_digest(seed: int) -> str:
    """Hash sums whose last bits depend on how they are split: products, a convolution, a long dot product."""
    np = importlib.import_module("numpy")
    torch = importlib.import_module("torch")
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((257, 300), dtype=np.float32)
    long = rng.standard_normal(200_000)
    image, kernel = (torch.from_numpy(rng.standard_normal(s, dtype=np.float32)) for s in ((2, 3, 64, 64), (8, 3, 5, 5)))
    digest = hashlib.sha256()
    for array in (a @ a.T, long @ long, np.linalg.eigvalsh(a.T @ a), torch.nn.functional.conv2d(image, kernel).numpy()):
        digest.update(array.tobytes())
    return digest.hexdigest()


def visible_gpus(_: int) -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")
