from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from unittest.mock import Mock

import httpx
import pytest

from lt_eval import weights
from lt_eval.errors import StorageFullError, WeightsError
from lt_eval.paths import weights_dir
from lt_eval.weights import WeightFile, entry, fetch, path_of, require, verify

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def torch_zip() -> bytes:
    """What torch.save writes, as far as can be told without torch."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", CONTENT[:200_000])
    return file.getvalue()


ZIP = torch_zip()
PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + CONTENT
LINE = WeightFile(
    name="net",
    file="net.pth",
    urls=("https://publisher.test/net.pth",),
    sha256=DIGEST,
    size=len(CONTENT),
    licence="Apache-2.0",
    used_by="a test",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights, "TABLE", (LINE, replace(LINE, name="unpinned", file="unpinned.pth", sha256=None)))
    return tmp_path


Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(answer))


def ranged(request: httpx.Request) -> httpx.Response:
    """Answer as a server that knows ranges."""
    if wanted := request.headers.get("range"):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(CONTENT):
            return httpx.Response(416, headers={"content-range": f"bytes */{len(CONTENT)}"})
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        return httpx.Response(206, content=CONTENT[start:], headers={"content-range": span})
    return httpx.Response(200, content=CONTENT)


def whole(request: httpx.Request) -> httpx.Response:
    """Answer as a server that ignores ranges."""
    return httpx.Response(200, content=CONTENT)


class Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self.content
        raise httpx.ReadError("connection reset")


def test_fetch_writes_the_file_and_nothing_else(folder: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch("net", lambda *bytes_: seen.append(bytes_), client=client(ranged))
    assert path == folder / "net.pth"
    assert path.read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["net.pth", "net.pth.sha256"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_fetch_leaves_a_file_that_is_here_alone(folder: Path) -> None:
    (folder / "net.pth").write_bytes(CONTENT)

    def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError("the network was asked")

    assert fetch("net", client=client(refuse)).read_bytes() == CONTENT


@pytest.mark.parametrize("server", [ranged, whole])
@pytest.mark.parametrize("here", [1, 1000, len(CONTENT) - 1])
def test_a_broken_download_goes_on(folder: Path, server: Answer, here: int) -> None:
    (folder / "net.pth.part").write_bytes(CONTENT[:here])
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["range"])
        return server(request)

    assert fetch("net", client=client(answer)).read_bytes() == CONTENT
    assert asked == [f"bytes={here}-"]


def test_a_cut_is_taken_up_again_in_the_same_fetch() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("range", ""))
        if len(asked) == 1:
            return httpx.Response(200, stream=Cut(CONTENT[:5000]))
        return ranged(request)

    assert fetch("net", client=client(answer)).read_bytes() == CONTENT
    assert asked == ["", "bytes=5000-"]


def test_after_too_many_cuts_the_part_stays_for_the_next_time(folder: Path) -> None:
    def cutting(request: httpx.Request) -> httpx.Response:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        span = {"content-range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        return httpx.Response(206, stream=Cut(CONTENT[start : start + 100]), headers=span)

    with pytest.raises(WeightsError, match="connection reset"):
        fetch("net", client=client(cutting))
    assert not (folder / "net.pth").exists()
    assert (folder / "net.pth.part").read_bytes() == CONTENT[:400]
    assert fetch("net", client=client(ranged)).read_bytes() == CONTENT


def test_a_complete_part_is_only_checked(folder: Path) -> None:
    (folder / "net.pth.part").write_bytes(CONTENT)
    assert fetch("net", client=client(ranged)).read_bytes() == CONTENT


@pytest.mark.parametrize("leftover", [b"of another file", b"x" * (len(CONTENT) + 5)])
def test_a_part_of_another_file_is_replaced(folder: Path, leftover: bytes) -> None:
    (folder / "net.pth.part").write_bytes(leftover)
    assert fetch("net", client=client(ranged)).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(folder: Path) -> None:
    with pytest.raises(WeightsError) as refusal:
        fetch("net", client=client(lambda _: httpx.Response(200, content=b"changed")))
    assert DIGEST in str(refusal.value)
    assert hashlib.sha256(b"changed").hexdigest() in str(refusal.value)
    assert list(folder.iterdir()) == []


def test_a_mirror_is_asked_when_the_publisher_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored = replace(LINE, urls=("https://gone.test/net", "https://changed.test/net", "https://mirror.test/net"))
    monkeypatch.setattr(weights, "TABLE", (mirrored,))

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "gone.test":
            return httpx.Response(404)
        return httpx.Response(200, content=b"changed") if request.url.host == "changed.test" else whole(request)

    assert fetch("net", client=client(answer)).read_bytes() == CONTENT


def test_a_web_page_is_not_taken_for_weights(folder: Path) -> None:
    page = httpx.Response(200, html="<p>Confirm the download</p>")
    with pytest.raises(WeightsError, match="sent a web page"):
        fetch("unpinned", client=client(lambda _: page))
    assert list(folder.iterdir()) == []


def test_without_a_network_the_message_says_what_to_copy_where(folder: Path) -> None:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Name or service not known")

    with pytest.raises(WeightsError) as refusal:
        fetch("net", client=client(unreachable))
    for word in (
        "net.pth",
        "1.0 MB",
        LINE.urls[0],
        "Name or service not known",
        str(folder / "net.pth"),
        "HTTPS_PROXY",
    ):
        assert word in str(refusal.value)


def test_a_full_disk_is_said_as_such(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    transport = client(whole)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageFullError, match=r"net\.pth\.part.*No space left.*LT_EVAL_WEIGHTS"):
        fetch("net", client=transport)


def test_over_a_real_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []

    class Cutting(BaseHTTPRequestHandler):
        """Breaks the first connection after a third of the file."""

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            requests.append(wanted)
            start = int(wanted.removeprefix("bytes=").removesuffix("-") or 0)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            self.end_headers()
            self.wfile.write(CONTENT[start:] if start else CONTENT[: len(CONTENT) // 3])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Cutting)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/net.pth"
        monkeypatch.setattr(weights, "TABLE", (replace(LINE, urls=(url,)),))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert fetch("net").read_bytes() == CONTENT
    finally:
        server.shutdown()
        server.server_close()
    assert requests == ["", f"bytes={len(CONTENT) // 3}-"]


def test_a_damaged_file_is_refused_wherever_it_is_asked_for(folder: Path) -> None:
    (folder / "net.pth").write_bytes(CONTENT[:-1])
    for attempt in (lambda: require("net"), lambda: verify("net"), lambda: fetch("net", client=client(whole))):
        with pytest.raises(WeightsError, match=f"is not the published file.*expected {DIGEST}"):
            attempt()


def test_an_unpinned_file_is_recorded_at_first_use(folder: Path) -> None:
    path = folder / "unpinned.pth"
    path.write_bytes(ZIP)
    assert verify("unpinned") == hashlib.sha256(ZIP).hexdigest()
    path.write_bytes(PICKLE)
    with pytest.raises(WeightsError, match=r"first used here.*delete unpinned\.pth\.sha256 too"):
        require("unpinned")
    (folder / "unpinned.pth.sha256").unlink()
    assert require("unpinned") == path


def sending(content: bytes, headers: dict[str, str] | None = None) -> Answer:
    """Answer with a body in chunks, its length untold unless the headers say it."""

    class Chunks(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield content

    return lambda _: httpx.Response(200, stream=Chunks(), headers=headers)


def told(content: bytes) -> Answer:
    return sending(content, {"content-length": str(len(content))})


@pytest.mark.parametrize("server", [told(ZIP), sending(ZIP), told(PICKLE)])
def test_an_unpinned_file_that_is_complete_is_fetched_and_recorded(folder: Path, server: Answer) -> None:
    path = fetch("unpinned", client=client(server))
    assert verify("unpinned") == weights.sha256_of(path)
    assert sorted(p.name for p in folder.iterdir()) == ["unpinned.pth", "unpinned.pth.sha256"]


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (sending(ZIP[:-1000]), "zip archive"),
        (sending(ZIP[:50_000]), "zip archive"),
        (told(ZIP[:100_000] + b"?" + ZIP[100_001:]), "archive/data/0 is damaged"),
        (sending(PICKLE[:5000]), "did not say how long"),
        (sending(PICKLE[:5000], {"content-length": str(len(PICKLE))}), f"5000 of {len(PICKLE)} bytes"),
        (told(CONTENT), "neither a zip archive.*nor a pickle"),
        (told(b""), "neither a zip archive.*nor a pickle"),
        (told(b"\x80\x63"), "neither a zip archive.*nor a pickle"),
        (told(ZIP.replace(b"data.pkl", b"data.txt")), "no data.pkl"),
    ],
)
def test_an_unpinned_file_that_is_not_whole_or_no_weights_leaves_nothing(
    folder: Path, server: Answer, reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason):
        fetch("unpinned", client=client(server))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("content", [ZIP, PICKLE])
@pytest.mark.parametrize("leftover", [b"of another file", b"\x80\x02" * 300_000])
def test_an_unpinned_file_never_goes_on_from_what_an_earlier_fetch_left(
    folder: Path, content: bytes, leftover: bytes
) -> None:
    (folder / "unpinned.pth.part").write_bytes(leftover)

    def answer(request: httpx.Request) -> httpx.Response:
        assert "range" not in request.headers
        return told(content)(request)

    assert fetch("unpinned", client=client(answer)).read_bytes() == content


def test_an_unpinned_file_goes_on_after_a_cut_in_the_same_fetch() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        span = {"content-range": f"bytes {start}-{len(PICKLE) - 1}/{len(PICKLE)}"}
        if start == 0:
            return httpx.Response(200, stream=Cut(PICKLE[:400_000]))
        return httpx.Response(206, content=PICKLE[start:], headers=span)

    assert fetch("unpinned", client=client(answer)).read_bytes() == PICKLE


def test_a_response_shorter_than_its_range_is_taken_up_again() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        span = {"content-range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        short = sending(CONTENT[start : start + 600_000])(request)
        return httpx.Response(206, stream=short.stream, headers=span)

    assert fetch("net", client=client(answer)).read_bytes() == CONTENT


def test_a_packed_answer_is_not_measured_by_its_packed_length() -> None:
    packed = gzip.compress(CONTENT)
    headers = {"content-encoding": "gzip", "content-length": str(len(packed))}
    assert fetch("net", client=client(sending(packed, headers))).read_bytes() == CONTENT


def test_an_unpinned_file_is_compared_with_its_record_when_fetched_again(folder: Path) -> None:
    fetch("unpinned", client=client(told(ZIP))).unlink()
    with pytest.raises(WeightsError, match=r"first used here.*unpinned\.pth\.sha256"):
        fetch("unpinned", client=client(told(PICKLE)))
    assert [p.name for p in folder.iterdir()] == ["unpinned.pth.sha256"]
    assert fetch("unpinned", client=client(told(ZIP))).read_bytes() == ZIP


@pytest.mark.parametrize("content", [CONTENT, ZIP[:-1000], b""])
def test_a_file_copied_here_that_holds_no_weights_is_not_recorded(folder: Path, content: bytes) -> None:
    (folder / "unpinned.pth").write_bytes(content)
    for attempt in (require, verify):
        with pytest.raises(WeightsError, match=r"unpinned\.pth is .*lt-eval weights fetch unpinned"):
            attempt("unpinned")
    assert [p.name for p in folder.iterdir()] == ["unpinned.pth"]


@pytest.mark.parametrize("writable", [True, False])
def test_an_unchanged_file_is_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch, writable: bool) -> None:
    (folder / "net.pth").write_bytes(CONTENT)
    hashing = Mock(wraps=hashlib.file_digest)
    monkeypatch.setattr(hashlib, "file_digest", hashing)
    if not writable:  # as in a folder shared read-only: nothing can be recorded
        monkeypatch.setattr(weights, "_record", lambda *_: None)
    assert verify("net") == verify("net") == DIGEST
    assert hashing.call_count == 1
    assert verify("net", rehash=True) == DIGEST
    assert hashing.call_count == 2


def test_rehash_finds_what_size_and_time_hide(folder: Path) -> None:
    path = folder / "net.pth"
    path.write_bytes(CONTENT)
    verify("net")
    stamp = path.stat().st_mtime_ns
    path.write_bytes(b"\1" + CONTENT[1:])
    os.utime(path, ns=(stamp, stamp))
    with pytest.raises(WeightsError, match="is not the published file"):
        verify("net", rehash=True)


def test_a_forged_record_does_not_replace_the_published_checksum(folder: Path) -> None:
    path = folder / "net.pth"
    path.write_bytes(b"other")
    stamp = f"{path.stat().st_size}:{path.stat().st_mtime_ns}"
    (folder / "net.pth.sha256").write_text(f"{hashlib.sha256(b'other').hexdigest()} {stamp}\n")
    with pytest.raises(WeightsError, match="is not the published file"):
        verify("net")


def test_require_takes_the_alternative_that_is_here(folder: Path) -> None:
    (folder / "unpinned.pth").write_bytes(ZIP)
    assert require("net", "unpinned") == folder / "unpinned.pth"
    with pytest.raises(WeightsError) as refusal:
        require("net")
    for word in ("net.pth", "1.0 MB", "Apache-2.0", "lt-eval weights fetch net", LINE.urls[0], "--weights builtin"):
        assert word in str(refusal.value)


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(WeightsError, match="Did you mean 'unpinned'"):
        entry("unpined")


def test_the_folder_is_taken_from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_dir() == folder
    monkeypatch.delenv("LT_EVAL_WEIGHTS")
    monkeypatch.setenv("LT_EVAL_CACHE", "~/elsewhere")
    assert weights_dir() == Path.home() / "elsewhere" / "weights"
    monkeypatch.delenv("LT_EVAL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert path_of("net") == Path.home() / ".cache" / "lt-eval" / "weights" / "net.pth"


def test_the_table_is_well_formed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    names = [line.name for line in weights.TABLE]
    assert len(set(names)) == len(names) == len({line.file for line in weights.TABLE})
    for line in weights.TABLE:
        assert all(url.startswith("https://") for url in line.urls)
        assert line.sha256 is None or (len(line.sha256) == 64 and set(line.sha256) <= set("0123456789abcdef"))
        assert line.sha256 is None or line.size is not None
        assert line.licence and line.used_by
    inception = entry("inception")
    assert inception.sha256 is not None
    assert inception.file.endswith(f"-{inception.sha256[:8]}.pth")  # the name carries the first digits


FOLDER = tuple(
    replace(LINE, name=f"owl/{file}", file=f"owl/{file}", urls=(f"https://publisher.test/rev/{file}",), sha256=None)
    for file in ("config.json", "tokenizer.model", "weights.bin")
)


def folder_server(request: httpx.Request) -> httpx.Response:
    file = request.url.path.rpartition("/")[2]
    contents = {"config.json": b'{"a": 1}', "tokenizer.model": b"\x0a\x0e\x0a\x05<unk>", "weights.bin": ZIP}
    return httpx.Response(200, content=contents[file])


def test_a_network_of_several_files_lies_in_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "TABLE", FOLDER)
    with pytest.raises(
        WeightsError, match=r"(?s)owl/: config\.json, .*weights\.bin\n.*publisher\.test/rev/\n.*fetch owl\n"
    ):
        weights.require_folder("owl")
    for name in weights.expand("owl"):
        fetch(name, client=client(folder_server))
    assert weights.require_folder("owl") == folder / "owl"
    assert weights.digest_of(folder / "owl" / "weights.bin") == hashlib.sha256(ZIP).hexdigest()
    (folder / "owl" / "config.json").write_text(json.dumps({"b": 2}))
    with pytest.raises(WeightsError, match=r"config\.json is not the file first used here"):
        weights.require_folder("owl")


@pytest.mark.parametrize(
    ("file", "content", "doubt"),
    [
        ("config.json", b'{"a": 1', "no JSON"),
        ("config.json", b"[1]", "no object"),
        ("tokenizer.model", b"<html>", "no sentencepiece model"),
    ],
)
def test_small_files_of_no_known_checksum_are_looked_into(
    monkeypatch: pytest.MonkeyPatch, file: str, content: bytes, doubt: str
) -> None:
    monkeypatch.setattr(weights, "TABLE", FOLDER)
    with pytest.raises(WeightsError, match=doubt):
        fetch(f"owl/{file}", client=client(lambda _: httpx.Response(200, content=content)))


def test_a_name_stands_for_a_file_a_folder_or_what_a_metric_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert weights.expand("i3d") == ("i3d",)
    assert weights.expand("fid") == ("inception",)
    assert weights.expand("sync") == ("syncnet", "s3fd")
    assert len(weights.expand("one-align")) == 7
    assert weights.expand("qalign") == weights.expand("one-align")
    assert weights.expand("one-align/config.json") == ("one-align/config.json",)
    with pytest.raises(WeightsError, match="Did you mean 'one-align'"):
        weights.expand("onealign")


def test_import_is_free() -> None:
    program = "import sys, lt_eval.weights; assert not {'torch', 'httpx'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True)
