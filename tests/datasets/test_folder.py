"""Folders of clips, and a method's clips matched by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lt_eval.datasets.folder import Folder, match_clips, read_prompts
from lt_eval.errors import DatasetError


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def test_ids_are_sorted_paths_without_extension(tmp_path: Path) -> None:
    """The order of a data set may not depend on the file system, and subfolders are part of the id."""
    fill(tmp_path, "b.mp4", "a.MOV", "guests/c.1.webm", ".hidden.mp4", ".cache/d.mp4", "notes.txt")
    folder = Folder(str(tmp_path))
    assert [folder[i].id for i in range(len(folder))] == ["a", "b", "guests/c.1"]
    assert folder[0].turns[0].reference == tmp_path / "a.MOV"
    assert folder[0].turns[0].speech is None


def test_companions_are_found_by_id(tmp_path: Path) -> None:
    """Speech, portrait and prompt go with the clip of their name; what is besides is ignored."""
    fill(tmp_path, "clips/a.mp4", "clips/b.mp4", "wav/a.wav", "wav/b.flac", "wav/z.wav", "png/a.png", "png/b.jpg")
    (tmp_path / "prompts.csv").write_text('id,prompt\na,"smiles, then speaks"\nb,nods\nz,unused\n')
    folder = Folder(
        str(tmp_path / "clips"),
        speech=str(tmp_path / "wav"),
        prompts=str(tmp_path / "prompts.csv"),
        portraits=str(tmp_path / "png"),
    )
    assert folder[0].turns[0].speech == tmp_path / "wav/a.wav"
    assert folder[1].portrait == tmp_path / "png/b.jpg"
    assert [folder[i].prompt for i in range(2)] == ["smiles, then speaks", "nods"]


@pytest.mark.parametrize(
    ("option", "content"), [("speech", "wav/A.wav"), ("portraits", "png/A.png"), ("prompts", "p.csv")]
)
def test_a_missing_companion_is_refused_with_a_suggestion(tmp_path: Path, option: str, content: str) -> None:
    fill(tmp_path, "clips/a.mp4", content)
    given = tmp_path / content if option == "prompts" else (tmp_path / content).parent
    if option == "prompts":
        given.write_text("id,prompt\nA,nods\n")
    with pytest.raises(DatasetError, match=r"1 of 1 clips have no .* 'A' for 'a'"):
        Folder(str(tmp_path / "clips"), **{option: str(given)})


def test_version_follows_content_not_place_or_time(tmp_path: Path) -> None:
    """A copy is the same data set; one changed byte, or one changed prompt, makes another."""
    one, two = fill(tmp_path / "one", "a.mp4", "b.mp4"), fill(tmp_path / "two", "a.mp4", "b.mp4")
    os.utime(two / "a.mp4", (1, 1))
    assert Folder(str(one)).version == Folder(str(two)).version
    (two / "a.mp4").write_bytes(b"other")
    assert Folder(str(one)).version != Folder(str(two)).version
    (tmp_path / "p.json").write_text('{"a": "nods", "b": ""}')
    assert Folder(str(one)).version != Folder(str(one), prompts=str(tmp_path / "p.json")).version


def test_two_files_of_one_id_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4", "a.mov")
    with pytest.raises(DatasetError, match=r"a\.mov and a\.mp4 have the same id 'a'"):
        Folder(str(tmp_path))


def test_unusable_folders_say_what_to_do(tmp_path: Path) -> None:
    fill(tmp_path, "empty/readme.txt", "file.mp4")
    with pytest.raises(DatasetError, match=r"no such folder\. Give"):
        Folder(str(tmp_path / "absent"))
    with pytest.raises(DatasetError, match=r"is a file\. Give the folder"):
        Folder(str(tmp_path / "file.mp4"))
    with pytest.raises(DatasetError, match=r"holds no video file \(\.mp4"):
        Folder(str(tmp_path / "empty"))


def test_an_unreadable_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DatasetError, match=r"cannot be read \(Permission denied\)"):
        Folder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "name,text\na,b\n"),
        ("p.csv", ""),
        ("p.csv", "id,prompt\na,b\na,c\n"),
        ("p.json", "[]"),
        ("p.json", '{"a": 1}'),
        ("p.json", "{"),
    ],
)
def test_prompts_in_another_form_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match="Write a CSV with the columns id,prompt"):
        read_prompts(tmp_path / name)


def test_clips_match_by_exact_id_whatever_the_extension(tmp_path: Path) -> None:
    fill(tmp_path, "b.mp4", "a.avi", "guests/c.mp4")
    matched = match_clips(tmp_path, ["a", "b", "guests/c"])
    assert dict(matched.found) == {
        "a": tmp_path / "a.avi",
        "b": tmp_path / "b.mp4",
        "guests/c": tmp_path / "guests/c.mp4",
    }
    assert (matched.missing, matched.extra, matched.describe()) == ((), (), "")


def test_unmatched_names_are_reported_both_ways(tmp_path: Path) -> None:
    """Nothing is dropped in silence, and nothing is matched by guessing."""
    fill(tmp_path, "a.mp4", "B.mp4", "c_generated.mp4", "unrelated.mp4")
    matched = match_clips(tmp_path, ["a", "b", "c", "d"])
    assert list(matched.found) == ["a"]
    assert matched.missing == ("b", "c", "d")
    assert matched.extra == ("B.mp4", "c_generated.mp4", "unrelated.mp4")
    assert matched.suggestions == {"b": "B.mp4", "c": "c_generated.mp4"}
    text = matched.describe()
    assert "3 of 4 ids have no clip: b, c, d." in text
    assert "3 files match no id and are left out" in text and "Did you mean 'B.mp4' for 'b'?" in text


def test_one_file_too_many_is_told_as_one(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4", "unrelated.mp4")
    assert match_clips(tmp_path, ["a"]).describe() == "1 file matches no id and is left out: unrelated.mp4."


def test_a_numbered_neighbour_is_no_suggestion(tmp_path: Path) -> None:
    """clip10 is not a misspelt clip1."""
    fill(tmp_path, "clip10.mp4", "clip2.mp4")
    assert match_clips(tmp_path, ["clip1", "clip2"]).suggestions == {}


def test_a_folder_without_any_match_shows_names_of_both_sides(tmp_path: Path) -> None:
    fill(tmp_path, "out_01.mp4", "out_02.mp4")
    with pytest.raises(DatasetError) as caught:
        match_clips(tmp_path, ["anna", "bo"])
    assert "out_01.mp4, out_02.mp4" in str(caught.value)
    assert "anna, bo" in str(caught.value)
    fill(tmp_path, "anna-result.mp4")
    with pytest.raises(DatasetError, match=r"Did you mean 'anna-result\.mp4' for 'anna'"):
        match_clips(tmp_path, ["anna", "bo"])


def test_no_ids_match_nothing_without_complaint(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4")
    assert match_clips(tmp_path, []).extra == ("a.mp4",)
