from __future__ import annotations

import errno
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lt_eval.errors import StorageFullError, StoreError, UsageError
from lt_eval.report import read_run, write_html
from lt_eval.report.clips import safe_name
from tests.report.fixtures import CLIPS, NASTY, VALUES, write_run


class Page(HTMLParser):
    """What the tests look at: tags with their attributes, text, cells by row."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def page_of(folder: Path, out: Path, **more: Any) -> tuple[Page, str]:
    content = write_html([read_run(folder)], out, **more).read_text(encoding="utf-8")
    return Page(content), content


def data_of(content: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', content, re.DOTALL)
    assert found
    data: list[dict[str, Any]] = json.loads(found.group(1))
    return data


def test_nothing_outside_the_folder_is_asked_for(run_folder: Path, tmp_path: Path) -> None:
    page, content = page_of(run_folder, tmp_path / "out")
    for _, attributes in page.tags:
        for name in ("src", "href"):
            link = attributes.get(name)
            assert link is None or link.startswith("#")
    assert "http://" not in content and "https://" not in content and "url(" not in content
    for clip in data_of(content)[0]["clips"]:
        for path in [clip["reference"], *(method["video"] for method in clip["methods"])]:
            assert path is None or (tmp_path / "out" / path).is_file()


def test_the_folder_is_complete_without_the_run(run_folder: Path, tmp_path: Path) -> None:
    _, content = page_of(run_folder, tmp_path / "out")
    shutil.rmtree(run_folder)
    shutil.rmtree(tmp_path / "run-media")
    clip = data_of(content)[0]["clips"][2]
    assert clip["id"] == CLIPS[2]
    assert (tmp_path / "out" / clip["reference"]).read_bytes() == f"ground-truth {CLIPS[2]}".encode()
    videos = [method["video"] for method in clip["methods"]]
    assert videos[1] == f"clips/ours/{CLIPS[2]}.mp4"
    assert [(tmp_path / "out" / v).read_bytes().decode() for v in videos] == [f"{m} {CLIPS[2]}" for m in VALUES]


def test_names_from_users_stay_text(run_folder: Path, tmp_path: Path) -> None:
    page, content = page_of(run_folder, tmp_path / "out")
    assert not page.of("i") or all(not attributes for attributes in page.of("i"))
    assert NASTY in page.text
    assert "<i>$x" not in content and "<75>" not in content and "<fast>" not in content
    assert data_of(content)[0]["methods"][2] == NASTY


def test_cells_are_sorted_as_numbers(run_folder: Path, tmp_path: Path) -> None:
    page, _ = page_of(run_folder, tmp_path / "out", with_paper="all")
    values = [attributes["data-value"] for attributes in page.of("td") if "data-value" in attributes]
    assert "13.684" in values and "" in values
    assert all(value == "" or float(value or "") is not None for value in values)
    assert all(attributes["aria-sort"] == "none" for attributes in page.of("th") if "aria-sort" in attributes)


def test_failures_are_listed_with_their_reasons(run_folder: Path, tmp_path: Path) -> None:
    page, content = page_of(run_folder, tmp_path / "out")
    for clip in CLIPS:
        assert f"{clip}: no face in <75> frames & no hope" in page.text
    assert "no_face" in page.text
    worst = [clip["methods"][3] for clip in data_of(content)[0]["clips"]]
    assert all(method["failures"][0][:2] == ["sync", "no_face"] for method in worst)
    assert worst[0]["video"] is None and worst[0]["file"].endswith(f"{CLIPS[0]}.mp4") and worst[1]["video"]


def test_a_clip_that_fails_for_several_metrics_counts_once(run_folder: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (run_folder / "rows.jsonl").read_text().splitlines()]
    failed = next(row for row in rows if row["method"] == "worst" and row["metric"] == "sync")
    for row in rows:
        if (row["method"], row["sample"], row["metric"]) == ("worst", failed["sample"], "fid"):
            row |= {name: failed[name] for name in ("failure", "values") if name in failed} | {"features": None}
    (run_folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, content = page_of(run_folder, tmp_path / "out")
    assert f"<code>no_face</code> {len(CLIPS)}." in content


def test_values_and_pulls_stand_by_their_clip(run_folder: Path, tmp_path: Path) -> None:
    (view,) = data_of(page_of(run_folder, tmp_path / "out")[1])
    labels = [column["label"] for column in view["columns"]]
    assert [column["pull"] for column in view["columns"]] == [label.startswith("FID") for label in labels]
    for i, clip in enumerate(view["clips"]):
        ours = dict(zip(labels, clip["methods"][1]["values"], strict=True))
        assert ours["Sync-C"] == 4.0 + i
        assert ours["FID"] == pytest.approx(13.684 + 0.1 * i)


def test_facts_rows_and_plots_are_there(run_folder: Path, tmp_path: Path) -> None:
    page, _ = page_of(run_folder, tmp_path / "out")
    media = "25 fps, 256 px square (crop), frame 0 counted"
    for fact in ("HDTF, version v1", "7", media, "a <fast> one", "lt-eval 0.1"):
        assert fact in page.text
    assert "Ground Truth" in page.text and "[9.77, 11.94]" in page.text and "7/8" in page.text
    dots = [attributes for attributes in page.of("circle") if attributes["data-clip"] == CLIPS[0]]
    assert len(dots) == sum(value is not None for values in VALUES.values() for value in values.values())
    assert not any("earlier setting" in text for text in page.text)


def test_the_same_run_gives_the_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    first = page_of(run_folder, tmp_path / "one")[1]
    assert first == page_of(run_folder, tmp_path / "two")[1]
    assert first == page_of(run_folder, tmp_path / "one")[1]


def test_a_clip_that_changed_is_replaced_and_none_is_left_half_done(run_folder: Path, tmp_path: Path) -> None:
    page_of(run_folder, tmp_path / "out")
    source = tmp_path / "run-media" / "method1" / f"{CLIPS[0]}.mp4"
    source.unlink()
    source.write_bytes(b"made again")
    page_of(run_folder, tmp_path / "out")
    assert (tmp_path / "out" / "clips" / "ours" / f"{CLIPS[0]}.mp4").read_bytes() == b"made again"
    assert not [path for path in (tmp_path / "out").rglob(".*")]


def test_clips_are_copied_where_no_link_can_be_made(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    linked = page_of(run_folder, tmp_path / "linked")[1]
    monkeypatch.setattr("os.link", refuse)
    assert page_of(run_folder, tmp_path / "copied")[1] == linked
    for path in (tmp_path / "linked").rglob("*.mp4"):
        copy = tmp_path / "copied" / path.relative_to(tmp_path / "linked")
        assert copy.read_bytes() == path.read_bytes() and copy.stat().st_nlink == 1


def test_a_full_disk_leaves_no_page(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.link", full)
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(StorageFullError, match="disk is full"):
        write_html([read_run(run_folder)], tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_several_runs_share_a_page_and_no_file(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name, name)) for name in ("one", "two")]
    views = data_of(write_html(runs, tmp_path / "out").read_text(encoding="utf-8"))
    assert [view["dataset"] for view in views] == ["one", "two"]
    paths = [m["video"] for view in views for clip in view["clips"] for m in clip["methods"] if m["video"]]
    assert len(set(paths)) == len(paths)


def test_unlike_names_never_share_a_file_and_never_leave_the_folder() -> None:
    assert safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert safe_name("..") == "_"
    assert safe_name("a b/ü?") == "a_b_"


def test_other_peoples_files_are_not_written_over(run_folder: Path, tmp_path: Path) -> None:
    run = read_run(run_folder)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="not written by lt-eval"):
        write_html([run], tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == "mine"
    with pytest.raises(UsageError, match="one of its own"):
        write_html([run], run_folder)
    with pytest.raises(StoreError, match="is a file"):
        write_html([run], tmp_path / "site" / "index.html")
    with pytest.raises(UsageError, match="at least one"):
        write_html([], tmp_path / "out")


def test_an_unusable_run_folder_says_what_to_do(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such run folder"):
        read_run(tmp_path / "nothing")
    (run_folder / "summary.json").unlink()
    with pytest.raises(StoreError, match=r"summary\.json; run its command again"):
        read_run(run_folder)
