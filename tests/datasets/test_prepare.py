"""From raw videos to a prepared set: what comes out, that it is the same everywhere, and that nothing is lost."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_eval.datasets import manifest
from lt_eval.datasets.crop import find_face
from lt_eval.datasets.prepare import PROMPT, PrepareOptions, PrepareReport, prepare
from lt_eval.datasets.prepared import HDTF, AVSpeech, CelebVHQ, Prepared, check
from lt_eval.errors import DatasetError, RunBusyError, SpecError, StorageFullError
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import read_audio
from lt_eval.media.still import read_image
from lt_eval.records import Box, MediaPolicy
from tests.datasets import raw

NAMES = [f"Radio{i}" for i in range(1, 7)]


@pytest.fixture(scope="module")
def hdtf_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six raw videos of two seconds, told apart by their tint, with HDTF's files and a split of all."""
    source = tmp_path_factory.mktemp("hdtf")
    raw.hdtf(source, NAMES)
    for index, name in enumerate(NAMES):
        raw.video(source / "videos" / f"{name}.mp4", tint=30 * index)
    return source


def options(source: Path, **changes: Any) -> PrepareOptions:
    split = source / "test_split.txt"
    small = PrepareOptions(clips=4, seconds=1.0, size=64, split=split if split.exists() else None)
    return dataclasses.replace(small, **changes)


def run(name: str, source: Path, root: Path, **changes: Any) -> PrepareReport:
    return prepare(name, source, root, options(source, **changes), lambda done, total, what: None)


def all_bytes(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_hdtf_end_to_end(hdtf_source: Path, tmp_path: Path) -> None:
    """The set has the stated shape, and frames and sound are those of the stated stretch of the source."""
    steps: list[tuple[int, int]] = []
    report = prepare("hdtf", hdtf_source, tmp_path, options(hdtf_source), lambda d, n, _: steps.append((d, n)))
    assert steps == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert report.complete and "4 of 4 clips, of 4 persons" in report.describe()
    dataset = HDTF(str(tmp_path))
    assert len(dataset) == 4 and len({dataset[i].id for i in range(4)}) == 4
    for index, clip in enumerate(dataset.manifest.clips):
        dialogue = dataset[index]
        assert dialogue.id == clip.id and dialogue.prompt == PROMPT
        turn = dialogue.turns[0]
        assert turn.reference and turn.speech and dialogue.portrait
        media = MediaClip(turn.reference, MediaPolicy())
        assert media.frames.shape == (25, 64, 64, 3)
        first = round(clip.start_s * 25)
        # the published crop is 64 pixels wide at twice this height: 12 to 44 of 96, the bits 1 to 3 of the number
        bits = [[int(frame[32, x, 0] > 125) for x in (12, 36, 60)] for frame in media.frames]
        assert bits == [[n >> 1 & 1, n >> 2 & 1, n >> 3 & 1] for n in range(first, first + 25)]
        speech = read_audio(turn.speech, 16_000)
        expected = raw.hum(2.0)[round(clip.start_s * 16_000) :][:16_000]
        assert len(speech) == 16_000 and abs(int(np.argmax(speech)) - int(np.argmax(expected))) <= 1
        # the portrait is not coded, the clip is: both show the same frame
        portrait = read_image(dialogue.portrait).astype(int)
        assert np.abs(portrait - media.frames[0]).mean() < 6
    assert check(tmp_path) == [] and not (tmp_path / manifest.WORK).exists()


def test_directory_order_does_not_matter(hdtf_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines with the same files make the same set, byte for byte, wherever the files lie."""
    run("hdtf", hdtf_source, tmp_path / "one")
    moved = tmp_path / "moved"
    (moved / "b").mkdir(parents=True)
    shutil.copytree(hdtf_source / "HDTF_dataset", moved / "HDTF_dataset")
    shutil.copy(hdtf_source / "test_split.txt", moved)
    shutil.copytree(hdtf_source / "videos", moved / "videos")
    walk = os.walk

    def backwards(*args: Any, **kwargs: Any) -> Any:
        for folder, subfolders, names in walk(*args, **kwargs):
            subfolders.reverse()
            yield folder, subfolders, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    run("hdtf", moved, tmp_path / "two")
    assert all_bytes(tmp_path / "one") == all_bytes(tmp_path / "two")


def test_a_vanished_video_changes_no_other_clip(hdtf_source: Path, tmp_path: Path) -> None:
    run("hdtf", hdtf_source, tmp_path / "all")
    source = tmp_path / "source"
    shutil.copytree(hdtf_source, source)
    chosen = [clip.id for clip in manifest.read(tmp_path / "all").clips]
    (source / "videos" / f"{chosen[1].removesuffix('_0')}.mp4").unlink()
    report = run("hdtf", source, tmp_path / "rest")
    after = manifest.read(tmp_path / "rest")
    kept = [clip.id for clip in after.clips]
    assert [id for id in kept if id in chosen] == [chosen[0], *chosen[2:]]
    assert (after.present, after.annotated) == (5, 6)
    assert "Videos were present for 5 of 6 annotated clips." in report.describe()
    for id in kept[:-1]:
        for name in manifest.file_names(id):
            assert (tmp_path / "rest" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


def test_the_seed_changes_the_choice(hdtf_source: Path, tmp_path: Path) -> None:
    chosen = []
    for seed in (0, 1):
        run("hdtf", hdtf_source, tmp_path / str(seed), seed=seed, clips=3)
        chosen.append([(clip.id, clip.start_s) for clip in manifest.read(tmp_path / str(seed)).clips])
    assert chosen[0] != chosen[1]


def test_unusable_candidates_are_replaced_and_recorded(tmp_path: Path) -> None:
    """Damaged, mute, silent, short and vanished videos cost no clip, and each says why it was passed over."""
    source = tmp_path / "source"
    good = [(f"good{i}_0", f"good{i}", 0.0, 2.0) for i in range(3)]
    bad = [(f"{kind}_0", kind, 0.0, 2.0) for kind in ("damaged", "mute", "short", "gone", "text")]
    raw.celebvhq(source, [*good, *bad, ("brief_0", "brief", 0.0, 0.5)])
    for _, name, _, _ in good:
        raw.video(source / f"{name}.mp4")
    whole = raw.video(source / "brief.mp4").read_bytes()
    (source / "damaged.mp4").write_bytes(whole[: len(whole) // 2])
    raw.video(source / "mute.mp4", sound=False)
    raw.video(source / "short.mp4", seconds=0.8)
    (source / "text.mp4").write_text("not a video")
    report = run("celebvhq", source, tmp_path / "out", clips=8)
    assert not report.complete
    assert sorted(clip.id for clip in report.manifest.clips) == ["good0_0", "good1_0", "good2_0"]
    reasons = {skip.id: skip.reason for skip in report.manifest.skipped}
    assert reasons == {
        "brief_0": "too_short",
        "damaged_0": "damaged",
        "mute_0": "no_audio",
        "short_0": "too_short",
        "text_0": "not_a_video",
    }
    assert not any(str(tmp_path) in skip.message for skip in report.manifest.skipped)
    assert "3 of 8 clips" in report.describe() and "fetch more" in report.describe()
    assert check(tmp_path / "out") == ["3 of the 8 clips that were asked for could be made."]
    assert sorted(path.name for path in (tmp_path / "out/clips").iterdir()) == [f"good{i}_0.mp4" for i in range(3)]


def test_a_set_without_any_usable_clip_is_an_error(tmp_path: Path) -> None:
    raw.celebvhq(tmp_path / "source", [("mute_0", "mute", 0.0, 2.0)])
    raw.video(tmp_path / "source/mute.mp4", sound=False)
    with pytest.raises(DatasetError, match=r"none of the 1 candidates could be used\. mute_0: .*no audio stream"):
        run("celebvhq", tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out" / manifest.NAME).exists()


def test_clips_that_are_cut_and_square_are_taken_whole(tmp_path: Path) -> None:
    """A clip that the published script cropped is not cropped again; one only cut in time gets the published crop."""
    source = tmp_path / "source"
    raw.celebvhq(source, [("done_0", "done", 7.0, 9.0), ("wide_0", "wide", 7.0, 9.0)])
    raw.video(source / "done_0.mp4", width=64)
    raw.video(source / "wide_0.mp4")
    clips = {clip.id: clip for clip in run("celebvhq", source, tmp_path / "out").manifest.clips}
    assert (clips["done_0"].cropped_by, clips["done_0"].crop) == ("cut clip", (0, 0, 1, 1))
    assert clips["wide_0"].cropped_by == "annotation" and clips["wide_0"].crop != (0, 0, 1, 1)


def test_letterbox_keeps_the_frame_and_says_where_it_is(hdtf_source: Path, tmp_path: Path) -> None:
    """The same clips as cropped ones, uncropped; the content box holds exactly what is not bar."""
    run("hdtf", hdtf_source, tmp_path / "crop")
    report = run("hdtf", hdtf_source, tmp_path / "box", fit="letterbox")
    assert [clip.id for clip in report.manifest.clips] == [clip.id for clip in manifest.read(tmp_path / "crop").clips]
    turn = HDTF(str(tmp_path / "box"))[0].turns[0]
    assert turn.content == Box(0.0, 10 / 64, 1.0, 53 / 64)
    assert turn.reference is not None
    first, bars = MediaClip(turn.reference, MediaPolicy()).frames[0], slice(0, 9)
    assert first[bars].max() < 20 and first[-10:].max() < 20
    assert raw.number_in(first) == round(report.manifest.clips[0].start_s * 25)


def test_avspeech_finds_the_speaker(real_media: Path, tmp_path: Path) -> None:
    """AVSpeech gives a face centre only: the detector finds the box, and a video without a face is passed over."""
    source = tmp_path / "source"
    raw.avspeech(
        source,
        [("face_video1", 0.5, 3.0, 0.565, 0.345), ("cat_video_1", 0.5, 3.0, 0.5, 0.5)],
    )
    shutil.copy(real_media / "video/face1.mp4", source / "face_video1.mp4")
    shutil.copy(real_media / "video/no_face_no_audio.mp4", source / "cat_video_1.mp4")
    report = run("avspeech", source, tmp_path / "out", size=128, clips=2)
    (clip,), (skip,) = report.manifest.clips, report.manifest.skipped
    assert (clip.id, clip.cropped_by) == ("face_video1_500_3000", "detector")
    assert (skip.id, skip.reason) == ("cat_video_1_500_3000", "no_face")
    assert clip.face is not None
    assert ((clip.face.left + clip.face.right) / 2, (clip.face.top + clip.face.bottom) / 2) == pytest.approx(
        (0.5, 0.5), abs=0.08
    )
    reference = AVSpeech(str(tmp_path / "out"))[0].turns[0].reference
    assert reference is not None
    again = find_face(list(MediaClip(reference, MediaPolicy()).frames[::8]))
    assert again == pytest.approx(clip.face, abs=0.05)


def test_prompts_by_id_replace_the_default(hdtf_source: Path, tmp_path: Path) -> None:
    run("hdtf", hdtf_source, tmp_path / "out")
    first, second = (clip.id for clip in manifest.read(tmp_path / "out").clips[:2])
    (tmp_path / "p.csv").write_text(f"id,prompt\n{first},laughs\n")
    run("hdtf", hdtf_source, tmp_path / "out", prompts=tmp_path / "p.csv")
    prompts = {clip.id: clip.prompt for clip in manifest.read(tmp_path / "out").clips}
    assert (prompts[first], prompts[second]) == ("laughs", PROMPT)
    (tmp_path / "p.csv").write_text("id,prompt\nsomebody,laughs\n")
    with pytest.raises(DatasetError, match=r"a prompt for none of the clips\. It holds for example 'somebody'"):
        run("hdtf", hdtf_source, tmp_path / "out", prompts=tmp_path / "p.csv")


# --- killed, continued, extended ---

CHILD = """
import sys
from pathlib import Path
from lt_eval.datasets.prepare import PrepareOptions, prepare
source, root = Path(sys.argv[1]), Path(sys.argv[2])
options = PrepareOptions(clips=4, seconds=1.0, size=64, split=source / "test_split.txt")
prepare("hdtf", source, root, options, lambda done, total, what: print(done, flush=True))
"""


def child(source: Path, root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(source), str(root)], stdout=subprocess.PIPE, text=True)


def test_a_killed_preparation_goes_on_and_ends_the_same(hdtf_source: Path, tmp_path: Path) -> None:
    """Killed after each count of clips in turn, it loses at most the clip in flight and gives the same files."""
    run("hdtf", hdtf_source, tmp_path / "whole")
    root = tmp_path / "killed"
    made_at: dict[str, int] = {}
    for after in ("1", "3"):
        process = child(hdtf_source, root)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == after:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL
        records = (root / manifest.WORK / "records.jsonl").read_text().splitlines()
        assert len(records) - 1 >= int(after)
        with pytest.raises(DatasetError, match=r"begun and not finished\. Run the same command again"):
            HDTF(str(root))
        for id in made_at:
            assert (root / f"clips/{id}.mp4").stat().st_mtime_ns == made_at[id], "a finished clip was made again"
        made_at = {
            id: (root / f"clips/{id}.mp4").stat().st_mtime_ns
            for id in (json.loads(line)["clip"]["id"] for line in records[1:])
        }
    with (root / manifest.WORK / "records.jsonl").open("a") as file:
        file.write('{"clip": {"id": "Ra')
    for half in ("clips/.Radio1_0.mp4.1.partial", "speech/.a.wav.x", ".manifest.json.x", ".work/.records.jsonl.x"):
        (root / half).write_bytes(b"half")
    run("hdtf", hdtf_source, root)
    assert all_bytes(root) == all_bytes(tmp_path / "whole")


def test_a_finished_set_is_extended_and_repaired(hdtf_source: Path, tmp_path: Path) -> None:
    """More clips are added to those that are there; a lost or changed file is made again; nothing else is touched."""
    run("hdtf", hdtf_source, tmp_path / "six", clips=6)
    run("hdtf", hdtf_source, tmp_path / "out", clips=3)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/clips").iterdir()}
    lost, changed, _ = sorted(times)
    lost.unlink()
    changed.write_bytes(b"changed")
    run("hdtf", hdtf_source, tmp_path / "out", clips=6)
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "six")
    assert [path for path, at in times.items() if path.stat().st_mtime_ns == at] == [max(times)]


def test_a_folder_is_not_made_smaller_or_otherwise(hdtf_source: Path, tmp_path: Path) -> None:
    run("hdtf", hdtf_source, tmp_path, clips=3)
    before = all_bytes(tmp_path)
    with pytest.raises(DatasetError, match=r"holds 3 clips, and 2 are asked for(.|\n)*--limit 2"):
        run("hdtf", hdtf_source, tmp_path, clips=2)
    with pytest.raises(DatasetError, match=r"made differently \(fit 'face' there and 'letterbox' now; seed 0 there"):
        run("hdtf", hdtf_source, tmp_path, clips=3, seed=1, fit="letterbox")
    assert all_bytes(tmp_path) == before


def test_a_new_video_may_displace_a_clip(hdtf_source: Path, tmp_path: Path) -> None:
    """The set depends on what the source holds now, not on the order of downloads."""
    source = tmp_path / "source"
    shutil.copytree(hdtf_source, source)
    run("hdtf", hdtf_source, tmp_path / "all")
    best = manifest.read(tmp_path / "all").clips[0].id.removesuffix("_0")
    held_back = (source / "videos" / f"{best}.mp4").rename(tmp_path / f"{best}.mp4")
    run("hdtf", source, tmp_path / "out")
    held_back.rename(source / "videos" / f"{best}.mp4")
    run("hdtf", source, tmp_path / "out")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "all")


def test_a_failed_candidate_is_tried_again_when_its_video_is_replaced(tmp_path: Path) -> None:
    source = tmp_path / "source"
    raw.celebvhq(source, [("a_0", "a", 0.0, 2.0), ("b_0", "b", 0.0, 2.0)])
    raw.video(source / "a.mp4")
    (source / "b.mp4").write_text("a broken download")
    assert len(run("celebvhq", source, tmp_path / "out", clips=2).manifest.clips) == 1
    raw.video(source / "b.mp4")
    assert run("celebvhq", source, tmp_path / "out", clips=2).complete


def test_two_preparations_in_one_folder_refuse_each_other(hdtf_source: Path, tmp_path: Path) -> None:
    def second(done: int, total: int, what: str) -> None:
        if done == 1:
            with pytest.raises(RunBusyError, match="another lt-eval process is preparing"):
                run("hdtf", hdtf_source, tmp_path)

    prepare("hdtf", hdtf_source, tmp_path, options(hdtf_source, clips=2), second)
    assert check(tmp_path) == []


def test_a_full_disk_keeps_what_is_finished(hdtf_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up at the second clip's sound; with room again the set is the uninterrupted one."""
    run("hdtf", hdtf_source, tmp_path / "whole")
    fsync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageFullError, match="disk is full"):
            run("hdtf", hdtf_source, tmp_path / "out")
    assert (tmp_path / "out" / manifest.WORK).is_dir() and not (tmp_path / "out" / manifest.NAME).exists()
    run("hdtf", hdtf_source, tmp_path / "out")
    assert all_bytes(tmp_path / "out") == all_bytes(tmp_path / "whole")


def test_a_folder_that_cannot_be_made_says_so(hdtf_source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match=r"file.*cannot be written \(Not a directory\)"):
        run("hdtf", hdtf_source, tmp_path / "file/out")


# --- refusals before any work ---


def test_wrong_requests_are_refused(hdtf_source: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing to prepare for 'hdft'\. Did you mean 'hdtf'"):
        run("hdft", hdtf_source, tmp_path)
    with pytest.raises(DatasetError, match="without a test split"):
        run("hdtf", hdtf_source, tmp_path, split=None)
    with pytest.raises(DatasetError, match="source and prepared folder are the same"):
        run("hdtf", hdtf_source, hdtf_source)
    for changes in ({"clips": 0}, {"seconds": 0.0}, {"fit": "squash"}, {"size": 63}):
        with pytest.raises(SpecError):
            options(hdtf_source, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_videos_shows_the_layout(tmp_path: Path) -> None:
    raw.celebvhq(tmp_path / "source", [("a_0", "a", 0.0, 2.0)])
    with pytest.raises(DatasetError, match=r"none of the 1 annotated clips has its video(.|\n)*raw/M2Ohb0FAaJU\.mp4"):
        run("celebvhq", tmp_path / "source", tmp_path / "out")


# --- reading it again ---


@pytest.mark.parametrize("factory", [HDTF, AVSpeech, CelebVHQ])
def test_an_absent_set_says_everything(
    factory: type[Prepared], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message alone is enough to go on: what, from where, how laid out, which command, and to which place."""
    monkeypatch.setenv("LT_EVAL_DATA", str(tmp_path))
    with pytest.raises(DatasetError) as caught:
        factory()
    message = str(caught.value)
    for part in ("https://", f"lt-eval data prepare {factory.name} --source DIR", str(tmp_path / factory.name), "DIR/"):
        assert part in message
    assert ("--split DIR/test_split.txt" in message) == (factory is HDTF)


def test_check_names_every_kind_of_damage(hdtf_source: Path, tmp_path: Path) -> None:
    run("hdtf", hdtf_source, tmp_path)
    one, two, *_ = (clip.id for clip in manifest.read(tmp_path).clips)
    (tmp_path / f"speech/{one}.wav").unlink()
    with (tmp_path / f"clips/{two}.mp4").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    (tmp_path / "portraits/stranger.png").write_bytes(b"")
    assert sorted(check(tmp_path)) == sorted(
        [
            f"speech/{one}.wav is missing.",
            f"clips/{two}.mp4 is not the file that was prepared: its sha256 is another.",
            "portraits/stranger.png is not in the manifest.",
        ]
    )
    with pytest.raises(DatasetError, match=rf"1 of 12 files of the manifest are gone, for example speech/{one}\.wav"):
        HDTF(str(tmp_path))


def test_a_damaged_manifest_is_refused(hdtf_source: Path, tmp_path: Path) -> None:
    run("hdtf", hdtf_source, tmp_path, clips=1)
    path = tmp_path / manifest.NAME
    data = json.loads(path.read_text())
    with pytest.raises(DatasetError, match="holds hdtf, not avspeech"):
        AVSpeech(str(tmp_path))
    path.write_text(json.dumps(data | {"format": 2}))
    with pytest.raises(DatasetError, match="has format 2, and this version of lt-eval reads 1"):
        check(tmp_path)
    del data["clips"][0]["crop"]
    for text in ("{", json.dumps(data), "[]"):
        path.write_text(text)
        with pytest.raises(DatasetError, match="is not a manifest that"):
            HDTF(str(tmp_path))


def test_check_without_a_set_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no prepared data set"):
        check(tmp_path)


def test_overview_tells_the_states_apart(hdtf_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_eval.datasets.prepared import overview

    monkeypatch.setenv("LT_EVAL_DATA", str(tmp_path))
    run("hdtf", hdtf_source, tmp_path / "hdtf", clips=2)
    (tmp_path / "avspeech" / manifest.WORK).mkdir(parents=True)
    states = {entry.name: (entry.status, entry.clips) for entry in overview()}
    assert states == {"hdtf": ("ready", 2), "avspeech": ("unfinished", 0), "celebvhq": ("absent", 0)}
    next((tmp_path / "hdtf/clips").iterdir()).unlink()
    (tmp_path / "celebvhq").mkdir()
    (tmp_path / "celebvhq" / manifest.NAME).write_text("{")
    assert {entry.name: entry.status for entry in overview()} == {
        "hdtf": "damaged",
        "avspeech": "unfinished",
        "celebvhq": "damaged",
    }


def test_version_follows_the_manifest(hdtf_source: Path, tmp_path: Path) -> None:
    run("hdtf", hdtf_source, tmp_path / "one")
    run("hdtf", hdtf_source, tmp_path / "two")
    run("hdtf", hdtf_source, tmp_path / "other", seed=5)
    versions = [HDTF(str(tmp_path / name)).version for name in ("one", "two", "other")]
    assert versions[0] == versions[1] != versions[2]
