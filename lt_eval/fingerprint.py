"""What a stored number depends on, as short strings that change with it.

A plugin may name its own with a `fingerprint` property. For one that does not, its name, its options, the file that its
class stands in and the files that its options name are hashed; modules that it imports are not.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lt_eval import __version__
from lt_eval.interfaces import HasFingerprint
from lt_eval.store import key_of

_LIBRARIES = ("av", "numpy", "opencv-python-headless", "torch")


def of_plugin(made: object, name: str, options: Mapping[str, object]) -> str:
    """Return the fingerprint of a metric or generator made from `options` under `name`.

    Raises:
        UsageError: the plugin's own fingerprint needs something that is missing, such as weights.
    """
    if isinstance(made, HasFingerprint):
        return made.fingerprint
    kind = made if inspect.isfunction(made) else type(made)
    try:
        source = inspect.getsourcefile(kind)
    except TypeError:  # made in C, or typed at a prompt
        source = None
    files = [of_file(Path(value)) for value in options.values() if isinstance(value, str) and value]
    return key_of(name, kind.__qualname__, options, of_file(Path(source)) if source else "", files)


@functools.lru_cache(maxsize=65536)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_file(path: Path | None) -> str:
    """Return a file's sha256, or "" where there is no such file."""
    if path is None:
        return ""
    try:
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns) if path.is_file() else ""
    except (OSError, ValueError):
        return ""


@functools.cache
def of_decoding() -> str:
    """Return what decoded frames and networks' numbers depend on besides files and options.

    That is our version, the code that reads clips, and the libraries that decode, resize and multiply.
    """
    code = [of_file(path) for path in sorted((Path(__file__).parent / "media").glob("*.py"))]
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return key_of(__version__, sys.version_info[:2], found, code)
