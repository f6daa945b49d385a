"""Build a virtual environment of exactly the packages of a lock file, in lt-eval's cache folder, once.

    python benchmarks/environments/build.py            # prints the environment's python as its last line
    python benchmarks/environments/build.py --lock benchmarks/environments/full.txt

The folder is named by the lock file, the hash of its packages and the version of Python: an edited lock makes another.
It counts as built only once `built.txt` is in it, which is written last; what an interrupted build left is removed. Two
builds at a time wait for each other.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from lt_eval.paths import cache_dir

LOCK = Path(__file__).with_name("full.txt")
MARKER = "built.txt"


def folder_of(lock: Path) -> Path:
    """Return where the environment of a lock file lies or would lie."""
    facts = f"{sys.version_info[:2]} {platform.system()} {platform.machine()}"
    digest = hashlib.sha256("\n".join((facts, *packages_of(lock))).encode()).hexdigest()
    return cache_dir() / "environments" / f"{lock.stem}-{digest[:12]}"


def packages_of(lock: Path) -> list[str]:
    """Return the lines of a lock file that name packages; comments may change without a new environment."""
    lines = (line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return sorted(filter(None, lines))


def python_of(folder: Path) -> Path:
    """Return an environment's interpreter."""
    return folder / "bin" / "python"


def is_built(folder: Path) -> bool:
    """Return whether an environment is whole."""
    return (folder / MARKER).is_file() and python_of(folder).exists()


def build(lock: Path = LOCK) -> Path:
    """Return the interpreter of a lock file's environment, building the environment unless it is there.

    Raises:
        subprocess.CalledProcessError: pip could not install a package.
    """
    folder = folder_of(lock)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not is_built(folder):
            _build(folder, lock)
    return python_of(folder)


def _build(folder: Path, lock: Path) -> None:
    print(f"Building {folder} (a few minutes, about 6 GB) ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    # the lock lists every package: resolving dependencies would bring a second OpenCV, which overwrites the first
    command = [str(python_of(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--requirement", str(lock)], check=True, stdout=sys.stderr)
    (folder / MARKER).write_text(lock.read_text(encoding="utf-8"), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build and print the interpreter's path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lock", type=Path, default=LOCK, help="file of exact versions")
    print(build(parser.parse_args(arguments).lock))


if __name__ == "__main__":
    main()
