"""A run folder loses nothing that was finished, and is written by one process at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval.errors import RunBusyError, StorageFullError, StoreError
from lt_eval.records import Cell, Column, Failure, MethodInfo, Row, Summary
from lt_eval.store import FeatureFiles, RunStore, atomic_write, key_of, read_rows, read_summary


def row(key: str, **more: Any) -> Row:
    return Row("demo", "ours", "a", 0, "fid", key, **more)


def test_rows_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = [row("1", values={"x": 1.5}), row("2", failure=Failure("no_face", "none, \u2028 seen"))]
    with RunStore(tmp_path) as store:
        store.append(kept, {})
        assert store.rows() == {"1": kept[0], "2": kept[1]}
    assert read_rows(tmp_path) == kept


def test_a_torn_last_line_is_cut_and_the_rest_kept(tmp_path: Path) -> None:
    """Whatever byte a killed process stopped at, the lines before survive and new rows can follow."""
    with RunStore(tmp_path) as store:
        store.append([row("1"), row("2")], {})
    data = (tmp_path / "rows.jsonl").read_bytes()
    first = data.index(b"\n") + 1
    for length in range(len(data) + 1):
        (tmp_path / "rows.jsonl").write_bytes(data[:length])
        whole = (length >= first) + (length == len(data))
        assert len(read_rows(tmp_path)) == whole
        with RunStore(tmp_path) as store:
            store.append([row("3")], {})
            assert len(store.rows()) == whole + 1


def test_features_are_there_before_the_row_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two, the row is simply not there."""
    order: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        order.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with RunStore(tmp_path) as store:
        store.append([row("1", features="1")], {"1": np.ones((2, 3), np.float32)})
    assert ".1.npy." in order[0] and order[1].endswith("rows.jsonl")


def test_a_row_without_its_features_counts_as_not_done(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        store.append([row("1", features="1")], {"1": np.ones((2, 3), np.float32)})
        store.features_path("1").unlink()
        assert store.rows() == {}


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path), pytest.raises(RunBusyError, match="another lt-eval process"), RunStore(tmp_path):
        pass


def test_the_lock_ends_with_the_run(tmp_path: Path) -> None:
    with RunStore(tmp_path):
        pass
    with RunStore(tmp_path):
        pass


def test_an_error_before_anything_was_kept_leaves_no_folder(tmp_path: Path) -> None:
    class Refused(Exception):
        pass

    def refused_after(folder: Path, rows: list[Row]) -> bool:
        with pytest.raises(Refused), RunStore(folder) as store:
            store.append(rows, {})
            raise Refused
        return folder.exists()

    (tmp_path / "there").mkdir()
    assert not refused_after(tmp_path / "new", [])
    assert refused_after(tmp_path / "there", [])
    with pytest.raises(Refused), RunStore(tmp_path / "gone"):
        shutil.rmtree(tmp_path / "gone")
        raise Refused
    assert refused_after(tmp_path / "kept", [row("1")]) and read_rows(tmp_path / "kept") == [row("1")]


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")

    def fill() -> None:
        with atomic_write(path) as file:
            file.write("new")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageFullError, match="disk is full"):
        fill()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_row_that_meets_a_full_disk_is_an_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "rows.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageFullError, match="disk is full"), RunStore(tmp_path) as store:
        store.append([row("1")], {})


def test_features_that_meet_a_full_disk_are_an_error(tmp_path: Path) -> None:
    """The disk is filled for real where this can be done: numpy reports a short write without its cause."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(StorageFullError, match="disk is full"), RunStore(tmp_path / "run") as store:
            store.append([row("1", features="1")], {"1": np.ones((100, 1000), np.float32)})
        assert read_rows(tmp_path / "run") == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"cannot be written .*There is a file where a folder is needed"),
        RunStore(tmp_path / "file" / "run"),
    ):
        pass


def test_a_line_of_another_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"what": 1}\n')
    with pytest.raises(StoreError, match=r"rows\.jsonl, line 1"):
        read_rows(tmp_path)


def test_not_a_number_is_never_stored(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store, pytest.raises(ValueError, match="JSON"):
        store.append([row("1", values={"x": float("nan")})], {})


def test_feature_files_are_a_sequence_read_one_at_a_time(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], np.full((2, 2), number, np.float32))
    files = FeatureFiles(tuple(paths))
    assert len(files) == 3
    assert [array[0, 0] for array in files] == [0, 1, 2]
    assert [array[0, 0] for array in files[1:]] == [1, 2]


def test_a_summary_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    summary = Summary(
        "demo",
        (MethodInfo("ours", "1.3B"),),
        {"FID": Column("lower")},
        (Cell("demo", "ours", "FID", 1.0, 0.5, 1.5, 8, 8, "", "lower"),),
        floors={"FID": 0.25},
        contributions={"ours": {"FID": {"a": 1.0}}},
        footnotes=("as read",),
    )
    with RunStore(tmp_path) as store:
        store.write_summary(summary)
    assert read_summary(tmp_path) == summary


@pytest.mark.parametrize(("files", "hint"), [((), "not a run folder"), (("manifest.json",), "run its command again")])
def test_a_run_without_a_summary_says_what_to_do(tmp_path: Path, files: tuple[str, ...], hint: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(StoreError, match=hint):
        read_summary(tmp_path)
    with pytest.raises(StoreError, match="no such run folder"):
        read_summary(tmp_path / "none")


def test_keys_differ_exactly_when_their_parts_do() -> None:
    assert key_of("a", 1, {"x": 1, "y": 2}) == key_of("a", 1, {"y": 2, "x": 1})
    keys = {key_of(*parts) for parts in [("a", 1), ("a", 2), ("a", "1"), ("a1",), ("a", [1])]}
    assert len(keys) == 5
    assert json.loads(json.dumps(key_of("a"))) == key_of("a")
