"""Official network weights: one table, one folder, checksum always.

They lie in $LT_EVAL_WEIGHTS where set (machines without a network: copy them there), else in the cache (`paths`).

A file is used only when its sha256 is the published one. Where no public source states one, the first use records it in
`<file>.sha256`, provided that the file is whole and holds what torch.save writes, and later uses compare. The same
sidecar spares hashing a file again whose size and time are unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from lt_eval import fingerprint
from lt_eval.errors import MissingWeightsError, StorageFullError, WeightsError
from lt_eval.paths import weights_dir
from lt_eval.registry import suggestion
from lt_eval.weight_files import TABLE as TABLE
from lt_eval.weight_files import WeightFile as WeightFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

    Progress = Callable[[int, int | None], None]
    """Called with the bytes on disk and the bytes in all, None where the server does not say."""

_ATTEMPTS = 4
_ZIP = b"PK\x03\x04"
_WEIGHTS = {".bin", ".safetensors", ".pt", ".pth"}


def entry(name: str) -> WeightFile:
    """Return the table's line of a name.

    Raises:
        WeightsError: no file of that name is known.
    """
    known = {line.name: line for line in TABLE}
    if name not in known:
        raise WeightsError(f"No weight file is called {name!r}.{suggestion(name, known)}")
    return known[name]


def expand(name: str) -> tuple[str, ...]:
    """Return the files that a name stands for: itself, all of a folder, or what the metric of that name needs.

    Raises:
        WeightsError: nothing is called so.
    """
    if any(line.name == name for line in TABLE):
        return (name,)
    if files := tuple(line.name for line in TABLE if line.name.startswith(f"{name}/")):
        return files
    if name == "sync":
        return ("syncnet", "s3fd")  # of every other metric, one file or folder, and alternatives to it
    first = next((line.name for line in TABLE if line.used_by.split()[0].rstrip(",") == name), None)
    if first is not None:
        return expand(first.partition("/")[0])
    folders = {line.name.partition("/")[0]: line for line in TABLE}
    raise WeightsError(f"No weight file is called {name!r}.{suggestion(name, folders)}")


def path_of(name: str) -> Path:
    """Return where a file lies or would lie."""
    return weights_dir() / entry(name).file


def require(name: str, *alternatives: str) -> Path:
    """Return the checked path of a file, or of the first alternative that is here.

    Raises:
        WeightsError: none is here (the message says what to get, whence and where to put it), or the one that is here
            is not the published file.
    """
    for candidate in (name, *alternatives):
        if path_of(candidate).is_file():
            verify(candidate)
            return path_of(candidate)
    raise missing((name, *alternatives))


def require_folder(folder: str) -> Path:
    """Return the path of a network of several files after checking each.

    Raises:
        WeightsError: files are missing (the message says which, whence and where to put them), or one is not the
            published one.
    """
    lines = [entry(name) for name in expand(folder)]
    place = weights_dir() / folder
    if any(not path_of(line.name).is_file() for line in lines):
        raise missing((folder,))
    known = {Path(line.file).name for line in lines}
    if other := sorted(file.name for file in place.iterdir() if file.suffix in _WEIGHTS and file.name not in known):
        raise WeightsError(
            f"{place} also holds {', '.join(other)}, which no published checksum vouches for. Move it elsewhere; a "
            "metric takes a folder of your own by its option weights_file."
        )
    for line in lines:
        verify(line.name)
    return place


def missing(*wanted: tuple[str, ...]) -> MissingWeightsError:
    """Return what to tell of weights that are not here: each with its size, licence and source, and the ways to go on.

    Args:
        wanted: of each, the name of a file or of a folder of them, then of files that serve as well.
    """
    names = " ".join(name for name, *_ in wanted)
    absent = "".join(_absent(*one) for one in wanted)
    return MissingWeightsError(
        wanted,
        f"Official weights are missing in {weights_dir()}:{absent}\n"
        f"Get them:     lt-eval weights fetch {names}\n"
        "No network:   copy each from its address to its file; LT_EVAL_WEIGHTS names another folder.\n"
        "Without them: --weights builtin uses small networks of the package; their columns are named apart.",
    )


def _absent(name: str, *alternatives: str) -> str:
    lines = [entry(part) for part in expand(name)]
    absent = [line for line in lines if not path_of(line.name).is_file()]
    known = sum(line.size or 0 for line in absent)
    file, source = lines[0].file, lines[0].urls[0]
    if len(lines) > 1:
        file = f"{name}/: {', '.join(Path(line.file).name for line in absent)}"
        source = f"{source.rpartition('/')[0]}/"
    file += "".join(f"  (or {entry(other).file}, {other})" for other in alternatives)
    return f"\n  {name:<13} {_size_text(known or None)}, {lines[0].licence}\n      {file}\n      {source}"


def present(name: str, *alternatives: str) -> WeightFile:
    """Return the table's line of the first of these files that is here, else of the first; checks nothing."""
    return next((entry(other) for other in (name, *alternatives) if path_of(other).is_file()), entry(name))


def digest_of(path: Path) -> str:
    """Return the sha256 of a file of the table by its path, as `verify` found it."""
    return verify(next(line.name for line in TABLE if path_of(line.name) == path))


def _size_text(size: int | None) -> str:
    if size is None:
        return "size unknown"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"


# Checksums ------------------------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded(path: Path) -> tuple[str, str]:
    """Return the recorded (sha256, stamp of the file it was taken of), empty where nothing is recorded."""
    try:
        words = _sidecar(path).read_text().split()
    except OSError:
        return "", ""
    return (words[0], words[1]) if len(words) == 2 and len(words[0]) == 64 else ("", "")


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _record(path: Path, digest: str) -> None:
    partial = _sidecar(path).with_suffix(f".{os.getpid()}.part")
    try:
        partial.write_text(f"{digest} {_stamp(path)}\n")
        partial.replace(_sidecar(path))
    except OSError:  # a folder shared read-only: hashed once a process
        partial.unlink(missing_ok=True)


def verify(name: str, *, rehash: bool = False) -> str:
    """Return the sha256 of a file after comparing it with the published or the recorded one.

    Args:
        name: of the table.
        rehash: read the whole file even where its size and time are those of the last check.

    Raises:
        WeightsError: the file is absent, or not the published or recorded one; or neither is known and it holds no
            weights.
    """
    line, path = entry(name), path_of(name)
    if not path.is_file():
        require(name)
    recorded, stamp = _recorded(path)
    expected = line.sha256 or recorded
    if not rehash and expected and recorded == expected and stamp == _stamp(path):
        return recorded
    found = sha256_of(path) if rehash else fingerprint.of_file(path)
    if expected and found != expected:
        origin = "the published file" if line.sha256 else f"the file first used here (recorded in {_sidecar(path)})"
        remedy = f"Delete it and run: lt-eval weights fetch {name}."
        if not line.sha256:
            remedy += f" If you replaced it on purpose, delete {_sidecar(path).name} too."
        raise WeightsError(f"{path} is not {origin}: its sha256 is {found}, expected {expected}. {remedy}")
    if not expected and (doubt := _doubt(path)):
        raise WeightsError(f"{path} is {doubt}. Delete it and run: lt-eval weights fetch {name}.")
    _record(path, found)
    return found


def _doubt(path: Path) -> str:
    """Return why a file cannot be what its name says, empty where it can: for files of no known checksum.

    That is an object in JSON, a sentencepiece model, or else what torch.save writes. A zip archive is read to its end,
    so a part of one, or of two, shows. Of a pickle, the layout before torch 1.6, and of a sentencepiece model only the
    beginning is looked at.
    """
    with path.open("rb") as file:
        head = file.read(4)
    kind = path.name.removesuffix(".part").rpartition(".")[2]
    if kind == "json":
        try:
            return "" if isinstance(json.loads(path.read_bytes()), dict) else "JSON, but no object"
        except ValueError as cause:
            return f"no JSON ({cause})"
    if kind == "model" and "tokenizer" in path.name:
        return "" if head[:1] == b"\x0a" else "no sentencepiece model"
    if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        return ""
    if head != _ZIP:
        return "neither a zip archive of PyTorch nor a pickle"
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                return f"a zip archive of which {damaged} is damaged"
            if not any(name.split("/")[-1] == "data.pkl" for name in archive.namelist()):
                return "a zip archive with no data.pkl, so not of PyTorch"
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as cause:
        return f"no whole zip archive ({cause})"
    return ""


# Download -------------------------------------------------------------------------------------------------------------


def fetch(name: str, progress: Progress | None = None, *, client: httpx.Client | None = None) -> Path:
    """Bring a file into the folder unless it is there, and return its path.

    A broken download stays as `<file>.part` and goes on where it stopped, unless the checksum is not known: then it is
    dropped. The final name appears only with the right checksum. Proxies are taken from the environment (HTTPS_PROXY,
    NO_PROXY).

    Args:
        name: of the table.
        progress: told the bytes so far.
        client: for tests; None makes one.

    Raises:
        WeightsError: no server could be reached, or what came is not the published file.
        StorageFullError: the disk is full.
    """
    import httpx

    line, path = entry(name), path_of(name)
    if path.is_file():
        verify(name)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    findings = []
    with client or httpx.Client(follow_redirects=True, timeout=httpx.Timeout(30.0)) as session:
        for url in line.urls:
            try:
                _download(session, url, path, line, progress)
            except (httpx.HTTPError, _NotTheFile) as finding:
                findings.append(f"{url}: {finding or type(finding).__name__}")
            else:
                return path
    raise WeightsError(
        f"{line.file} ({_size_text(line.size)}) could not be fetched. {'; '.join(findings)}. If this machine has no "
        f"network, fetch {line.urls[0]} elsewhere and copy it to {path}; a proxy is taken from HTTPS_PROXY."
    )


class _NotTheFile(Exception):
    """What a server sent is not the file: another one may have it."""


def _download(session: httpx.Client, url: str, path: Path, line: WeightFile, progress: Progress | None) -> None:
    """Fetch one URL to `<path>.part`, check it and move it to `path`."""
    partial = path.with_name(path.name + ".part")
    expected = line.sha256 or _recorded(path)[0]
    if not expected:
        return _download_unknown(session, url, partial, path, progress)
    resumed = partial.is_file() and partial.stat().st_size > 0
    _receive(session, url, partial, progress)
    found = sha256_of(partial)
    if found != expected and resumed:
        # what an earlier attempt left may be of another file: once more from the beginning
        partial.unlink()
        _receive(session, url, partial, progress)
        found = sha256_of(partial)
    if found != expected:
        size = partial.stat().st_size
        partial.unlink()
        origin = "the published one" if line.sha256 else f"that of the file first used here ({_sidecar(path)})"
        raise _NotTheFile(f"sent {size} bytes of sha256 {found}, {origin} is {expected}; nothing was kept")
    partial.replace(path)
    _record(path, found)


def _download_unknown(session: httpx.Client, url: str, partial: Path, path: Path, progress: Progress | None) -> None:
    """Fetch a file of no known checksum, from its first byte: an old part cannot be told from one of another file."""
    partial.unlink(missing_ok=True)
    try:
        length_known = _receive(session, url, partial, progress)
        if doubt := _doubt(partial):
            raise _NotTheFile(f"sent {partial.stat().st_size} bytes, {doubt}; nothing was kept")
        if not length_known and not zipfile.is_zipfile(partial):
            raise _NotTheFile("did not say how long the file is, and a pickle does not show it; nothing was kept")
        digest = sha256_of(partial)
        partial.replace(path)
        _record(path, digest)
    finally:
        partial.unlink(missing_ok=True)


def _receive(session: httpx.Client, url: str, partial: Path, progress: Progress | None) -> bool:
    """Append to `partial` until the server has sent all; a cut is taken up again a few times.

    Returns:
        Whether the server said how long the file is, so that it is known to be whole.
    """
    import httpx

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _receive_once(session, url, partial, progress)
        except httpx.TransportError as cut:
            unreachable = isinstance(cut, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol)
            if unreachable or attempt == _ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _receive_once(session: httpx.Client, url: str, partial: Path, progress: Progress | None) -> bool:
    import httpx

    have = partial.stat().st_size if partial.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.stream("GET", url, headers=headers) as answer:
        if answer.status_code == 416:
            if answer.headers.get("content-range", "") == f"bytes */{have}":
                return True  # the file was complete
            partial.unlink()  # left over from another file
            raise httpx.ReadError(f"has no byte {have}")
        answer.raise_for_status()
        if "text/html" in answer.headers.get("content-type", ""):
            raise _NotTheFile("sent a web page instead of the file")
        if not answer.headers.get("content-range", "").startswith(f"bytes {have}-"):
            have = 0  # the server starts from the beginning, and so does the file
        total = _total(answer.headers, have)
        try:
            with partial.open("r+b" if have else "wb") as file:
                file.seek(have)
                for block in answer.iter_bytes():  # as it comes: what a cut finds in a buffer is lost
                    file.write(block)
                    have += len(block)
                    if progress:
                        progress(have, total)
        except OSError as cause:
            raise StorageFullError(
                f"{partial} cannot be written: {cause}. Free space or set LT_EVAL_WEIGHTS."
            ) from cause
    if total is not None and have != total:
        raise httpx.ReadError(f"sent {have} of {total} bytes")
    return total is not None


def _total(headers: Mapping[str, str], have: int) -> int | None:
    """Return how long a file is by the headers of an answer that begins at byte `have`, None where they do not say."""
    if headers.get("content-encoding", "identity") != "identity":
        return None  # what is said is the length of what was packed
    of_range, of_rest = headers.get("content-range", "").rpartition("/")[2], headers.get("content-length", "")
    if of_range.isdecimal():
        return int(of_range)
    return have + int(of_rest) if of_rest.isdecimal() else None
