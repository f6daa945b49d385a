"""The published annotation formats become candidates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_eval.datasets import avspeech, celebvhq, hdtf
from lt_eval.datasets.candidates import FaceCentre, PixelBox
from lt_eval.errors import DatasetError
from lt_eval.records import Box
from tests.datasets import raw


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def annotate_hdtf(source: Path) -> Path:
    """HDTF with what its files really hold: several clips, a blank at a line's end, no crop, resolution 0, hyphens."""
    split = raw.hdtf(source, ["Radio11"])
    folder = source / "HDTF_dataset"
    (folder / "RD_annotion_time.txt").write_text("Radio11.mp4 00:30-01:00 01:30-1:02:30\n")
    (folder / "RD_crop_wh.txt").write_text("Radio11_0.mp4 412 599 0 599\nRadio11_1.mp4 557 478 3 478\n")
    (folder / "RD_resolution.txt").write_text("Radio11.mp4 720\n")
    (folder / "WDA_annotion_time.txt").write_text("LucilleRoybal-Allard.mp4 00:10-02:05 \nJim1.mp4 00:00-00:09\n")
    (folder / "WDA_crop_wh.txt").write_text("LucilleRoybal-Allard_0.mp4 591 806 37 806\n")
    (folder / "WDA_resolution.txt").write_text("LucilleRoybal-Allard.mp4 1080\nJim1.mp4 1080\n")
    (folder / "WRA_annotion_time.txt").write_text("\ufeffKevin1.mp4 00:01-00:20\n", encoding="utf-8")
    (folder / "WRA_crop_wh.txt").write_text("Kevin1_0.mp4 5 80 6 80\n")
    (folder / "WRA_resolution.txt").write_text("Kevin1.mp4 0\n")
    return split


def test_hdtf_is_refused_without_a_split_and_says_why(tmp_path: Path) -> None:
    annotate_hdtf(tmp_path)
    touch(tmp_path, "Radio11.mp4")
    with pytest.raises(DatasetError, match=r"trained on HDTF itself(.|\n)*--split FILE"):
        hdtf.candidates(tmp_path, tmp_path / "out", None)


def test_hdtf_whole_videos(tmp_path: Path) -> None:
    """Times are minutes and seconds (or hours too), crops are left width top height at the stated resolution."""
    split = annotate_hdtf(tmp_path)
    split.write_text("Radio11\nWDA_LucilleRoybal-Allard_000.mp4\nlist/Jim1_0.mp4\nKevin1  # a comment\n")
    touch(tmp_path, "videos/Radio11.mp4", "a/b/WDA_LucilleRoybal-Allard.webm", "Jim1.mkv", "WRA_Kevin1.mp4")
    listing = hdtf.candidates(tmp_path, tmp_path / "out", split)
    found = {candidate.id: candidate for candidate in listing.candidates}
    assert listing.annotated == 5 and len(found) == 5 and listing.notes == ()
    assert (found["Radio11_0"].start_s, found["Radio11_0"].end_s) == (30.0, 60.0)
    assert found["Radio11_0"].region == PixelBox(left=412, top=0, width=599, height=599, frame_height=720)
    assert found["Radio11_1"].end_s == 3750.0
    assert found["LucilleRoybal-Allard_0"].video.name == "WDA_LucilleRoybal-Allard.webm"
    assert found["Jim1_0"].region is None
    assert found["Kevin1_0"].region is None
    assert [found[id].person for id in ("Radio11_1", "Jim1_0", "Kevin1_0")] == ["Radio11", "Jim", "Kevin"]
    assert not any(candidate.is_cut for candidate in found.values())


@pytest.mark.parametrize("name", ["RD_Radio11_001", "Radio11_1", "RD_Radio11_1", "Radio11_001"])
def test_hdtf_cut_clips_by_either_name(tmp_path: Path, name: str) -> None:
    """A clip that is already cut starts at 0 and lasts as annotated; its id is the same as of the whole video."""
    split = annotate_hdtf(tmp_path)
    split.write_text(f"{name}\n")
    touch(tmp_path, f"clips/{name}.mp4")
    (candidate,) = hdtf.candidates(tmp_path, tmp_path / "out", split).candidates
    assert (candidate.id, candidate.start_s, candidate.end_s, candidate.is_cut) == ("Radio11_1", 0.0, 3660.0, True)


def test_hdtf_unknown_names_of_a_split_are_reported(tmp_path: Path) -> None:
    split = annotate_hdtf(tmp_path)
    split.write_text("Radio11_0\nRadio99_0\n")
    listing = hdtf.candidates(tmp_path, tmp_path / "out", split)
    assert (listing.annotated, listing.candidates) == (1, ())
    assert listing.notes == ("test_split.txt: 1 names are not in the annotations, for example Radio99_0.",)
    split.write_text("Radio99_0\n")
    with pytest.raises(DatasetError, match=r"names no clip of the annotations(.|\n)*'Radio99_0'(.|\n)*'Radio11_0'"):
        hdtf.candidates(tmp_path, tmp_path / "out", split)
    split.write_text("# nothing\n\n")
    with pytest.raises(DatasetError, match="names nothing"):
        hdtf.candidates(tmp_path, tmp_path / "out", split)
    with pytest.raises(DatasetError, match="cannot be read"):
        hdtf.candidates(tmp_path, tmp_path / "out", tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("RD_annotion_time.txt", "Radio11.mp4 half past\n"),
        ("RD_crop_wh.txt", "Radio11_0.mp4 1 2 3\n"),
        ("WRA_resolution.txt", "Kevin1.mp4 high\n"),
    ],
)
def test_hdtf_files_in_another_form_are_refused_by_line(tmp_path: Path, file: str, text: str) -> None:
    split = annotate_hdtf(tmp_path)
    (tmp_path / "HDTF_dataset" / file).write_text(text)
    with pytest.raises(DatasetError, match=rf"{file}, line 1: .* Restore the published file"):
        hdtf.candidates(tmp_path, tmp_path / "out", split)


def test_avspeech_whole_videos_and_cut_segments(tmp_path: Path) -> None:
    """Names of cut segments carry rounded times; YouTube ids may hold underscores and hyphens."""
    raw.avspeech(
        tmp_path,
        [
            ("u5MPyrRJPmc", 30.03, 36.036, 0.482, 0.35),
            ("u5MPyrRJPmc", 90.0, 97.5, 0.5, 0.4),
            ("_-abc_1234x", 0.5, 7.0, 0.1, 0.2),
            ("gone_video1", 1.0, 9.0, 0.5, 0.5),
        ],
    )
    touch(tmp_path, "raw/u5MPyrRJPmc.mp4", "raw/_-abc_1234x_0.500000_7.000000.mp4", "raw/gone_video1_5.0_9.0.mp4")
    listing = avspeech.candidates(tmp_path, tmp_path / "out", None)
    assert listing.annotated == 4
    whole, other, cut = listing.candidates
    assert (whole.id, whole.start_s, whole.end_s) == ("u5MPyrRJPmc_30030_36036", 30.03, 36.036)
    assert whole.region == FaceCentre(0.482, 0.35) and whole.person == other.person == "u5MPyrRJPmc"
    assert (cut.id, cut.start_s, cut.end_s, cut.is_cut) == ("_-abc_1234x_500_7000", 0.0, 6.5, True)


def test_avspeech_in_another_form_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "avspeech_test.csv").write_text("YouTube ID,start,end,x,y\n")
    with pytest.raises(DatasetError, match=r"line 1: 'YouTube ID,start,end,x,y' is not YouTube id, start"):
        avspeech.candidates(tmp_path, tmp_path / "out", None)


def test_the_training_file_of_avspeech_is_no_substitute(tmp_path: Path) -> None:
    touch(tmp_path, "avspeech_train.csv")
    with pytest.raises(DatasetError, match=r"holds no avspeech_test\.csv(.|\n)*not the training file(.|\n)*videos/"):
        avspeech.candidates(tmp_path, tmp_path / "out", None)


def test_celebvhq_raw_and_processed(tmp_path: Path) -> None:
    """The published box is widened as the published script does, and clips already cut are found by their name."""
    raw.celebvhq(
        tmp_path, [("M2Ohb0FAaJU_1", "M2Ohb0FAaJU", 81.62, 86.17), ("_0tf2n3rlJU_0", "_0tf2n3rlJU", 5.0, 11.0)]
    )
    touch(tmp_path, "raw/M2Ohb0FAaJU.mp4", "processed/_0tf2n3rlJU_0.mp4")
    listing = celebvhq.candidates(tmp_path, tmp_path / "out", None)
    whole, cut = listing.candidates
    assert (whole.id, whole.start_s, whole.end_s, whole.person) == ("M2Ohb0FAaJU_1", 81.62, 86.17, "M2Ohb0FAaJU")
    assert whole.region == pytest.approx(Box(0.18, 0.0, 0.82, 1.0))
    assert (cut.start_s, cut.end_s, cut.is_cut) == (0.0, 6.0, True)
    assert "no published test split" in listing.notes[0]


def test_celebvhq_split_restricts_the_clips(tmp_path: Path) -> None:
    raw.celebvhq(tmp_path, [("a_0", "a", 0.0, 6.0), ("b_0", "b", 0.0, 6.0)])
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "mine.txt").write_text("b_0.mp4\nc_0\n")
    listing = celebvhq.candidates(tmp_path, tmp_path / "out", tmp_path / "mine.txt")
    assert [candidate.id for candidate in listing.candidates] == ["b_0"]
    assert listing.notes == ("mine.txt: 1 names are not in the annotations, for example c_0.",)


@pytest.mark.parametrize("text", ["{", "[]", '{"clips": {"a_0": {"ytb_id": "a"}}}', '{"clips": [1]}'])
def test_celebvhq_in_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "celebvhq_info.json").write_text(text)
    with pytest.raises(DatasetError, match="is not the published annotation file"):
        celebvhq.candidates(tmp_path, tmp_path / "out", None)


def test_two_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    raw.celebvhq(tmp_path, [("a_0", "a", 0.0, 6.0)])
    touch(tmp_path, "one/a.mp4", "two/a.mkv")
    with pytest.raises(DatasetError, match=r"two videos are called a: .*one/a\.mp4 and .*two/a\.mkv"):
        celebvhq.candidates(tmp_path, tmp_path / "out", None)


def test_prepared_folders_are_no_source(tmp_path: Path) -> None:
    """Clips of an earlier preparation are named like cut clips; a set made from them would be coded twice."""
    raw.celebvhq(tmp_path, [("a_0", "a", 0.0, 6.0)])
    touch(tmp_path, "old/clips/a_0.mp4", "old/speech/a_0.wav", "old/manifest.json", "out/clips/a_0.mp4", ".x/a.mp4")
    assert celebvhq.candidates(tmp_path, tmp_path / "out", None).candidates == ()


def test_two_different_annotation_files_are_refused(tmp_path: Path) -> None:
    raw.celebvhq(tmp_path / "one", [("a_0", "a", 0.0, 6.0)])
    (tmp_path / "two").mkdir()
    (tmp_path / "two/celebvhq_info.json").write_text(json.dumps({"clips": {}}))
    with pytest.raises(DatasetError, match=r"holds two different celebvhq_info\.json"):
        celebvhq.candidates(tmp_path, tmp_path / "out", None)


def test_an_absent_source_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent: cannot be read \(No such file"):
        celebvhq.candidates(tmp_path / "absent", tmp_path / "out", None)
