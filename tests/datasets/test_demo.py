from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy

from lt_eval.datasets.demo import FPS, METHODS, SHIFT_S, Demo, altered, spec_of
from lt_eval.datasets.folder import sha256_of
from lt_eval.errors import DatasetError, SpecError
from lt_eval.media.clip import MediaClip
from lt_eval.records import Audio, Frames, MediaPolicy
from lt_eval.store import read_json
from lt_eval.synthetic.talker import content_sha256, make_clip
from lt_eval.testing import check_dataset

PINNED_FOR = {"numpy": "2.4.6", "scipy": "1.17.1", "cv2": "4.14.0"}
"""As in constraints.txt. Others may round a pixel or a sample differently."""

CONTENT = {
    "anna": "9216e94b027a0747498329e1cd60e113841a735a744c7e832669319d619f5a04",
    "bela": "56c9ceb5e02d2401519ae7afe0ff6fc614f152d5ef6ef89b6ee3abeeaf1a460c",
    "cleo": "0e474a9d3622f296f2c2670ccc35b88ec7a491626619ee8aca3317148703bfe6",
    "dario": "f951dbe99f85e427f9c1cf90d10b61f45a5b3ffd1300b8c63f8c26bd4bb312f8",
    "edda": "e468f987bb887ea0600b6db4ddceb9f7c0377acda8764f3b5105623d9958ae5a",
    "femi": "911157488aadc6906942c01596e2136d77ebe932e9fd9c8562c6b4af0b758ef5",
    "gita": "cc2c18ea7dbaf064daa966e8d886cb77b6311a7ebd11823ecee9fd14c9582a85",
    "hugo": "19d91e0813af4a217d7f5e3ce9278ed82ab8d89c4fbfac7be75b4a9ae7999160",
}
"""Frames and samples of the default set before encoding. When one changes, raise demo.VERSION."""

SIZE, SECONDS = 64, 1.2


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    made = Demo(root=str(tmp_path_factory.mktemp("demo")), size=SIZE, clips=2, seconds=SECONDS)
    made.prepare()
    return made


def _decoded(path: Path) -> tuple[Frames, Audio]:
    with MediaClip(path, MediaPolicy(fps=None)) as clip:
        return clip.frames.copy(), clip.audio.copy()


def _reference(demo: Demo, index: int = 0) -> tuple[Frames, Audio]:
    path = demo[index].turns[0].reference
    assert path is not None
    return _decoded(path)


def _method(demo: Demo, name: str, index: int = 0) -> tuple[Frames, Audio]:
    return _decoded(demo.methods[name] / f"{demo[index].id}.mp4")


def _hashes(demo: Demo) -> dict[str, str]:
    files = sorted(p for p in demo.folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {p.relative_to(demo.folder).as_posix(): sha256_of(p) for p in files}


def _lag_s(late: Audio, early: Audio) -> float:
    correlation = np.correlate(late.astype(np.float64), early.astype(np.float64), "full")
    return (int(np.argmax(correlation)) - (len(early) - 1)) / 16_000


def _detail(frames: Frames) -> float:
    return float(np.mean([cv2.Laplacian(frame, cv2.CV_64F).var() for frame in frames[::5]]))


def test_keeps_the_contract_of_a_data_set(demo: Demo) -> None:
    check_dataset(demo)


def test_reference_is_the_talker_as_drawn(demo: Demo) -> None:
    clip = make_clip(spec_of(0)[1], SECONDS, SIZE, FPS)
    frames, audio = _reference(demo)
    assert frames.shape == clip.frames.shape == (30, SIZE, SIZE, 3)
    assert np.abs(frames.astype(int) - clip.frames).mean() < 4
    assert abs(len(audio) - len(clip.audio)) <= 1024
    assert abs(_lag_s(audio[: len(clip.audio)], clip.audio)) <= 1e-3
    record = read_json(demo.folder / "manifest.json")["clips"][0]
    assert record["content_sha256"] == content_sha256(clip.frames, clip.audio)
    assert record["transcript"] == clip.transcript == demo[0].turns[0].text
    assert record["prompt"] == clip.prompt == demo[0].prompt
    assert len(record["faces"]) == 30


def test_speech_is_the_samples_and_portrait_the_first_frame(demo: Demo) -> None:
    clip = make_clip(spec_of(1)[1], SECONDS, SIZE, FPS)
    item = demo[1]
    assert item.turns[0].speech is not None
    with wave.open(str(item.turns[0].speech)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert np.array_equal(samples, np.rint(clip.audio * 32767))
    portrait = cv2.imread(str(item.portrait))
    assert portrait is not None
    assert np.array_equal(portrait[..., ::-1], clip.frames[0])


def test_methods_stand_in_the_order_of_the_table(demo: Demo) -> None:
    assert tuple(demo.methods) == METHODS
    for folder in demo.methods.values():
        assert sorted(path.stem for path in folder.glob("*.mp4")) == ["anna", "bela"]


def test_pictures_are_altered_as_named() -> None:
    clip = make_clip(spec_of(0)[1], 0.4, 256, FPS)
    made = {name: frames for name, frames, _, _ in altered(clip, clip.audio)}
    assert tuple(made) == METHODS
    assert _detail(clip.frames) > 1.3 * _detail(made["mild-blur"]) > 2 * _detail(made["strong-blur"])
    assert (made["frozen-portrait"] == clip.frames[0]).all()
    assert made["frozen-portrait"].shape == clip.frames.shape


def test_compression_is_smaller_and_further_from_the_frames(demo: Demo) -> None:
    reference = demo.folder / "clips" / "anna.mp4"
    compressed = demo.methods["compression"] / "anna.mp4"
    assert compressed.stat().st_size < 0.8 * reference.stat().st_size
    drawn = make_clip(spec_of(0)[1], SECONDS, SIZE, FPS).frames.astype(int)
    errors = [np.abs(_decoded(path)[0] - drawn).mean() for path in (reference, compressed)]
    assert errors[1] > 1.5 * errors[0]


@pytest.mark.parametrize("name", ["audio-shift", "other-audio"])
def test_altered_sound_leaves_every_pixel_alone(demo: Demo, name: str) -> None:
    assert np.array_equal(_method(demo, name)[0], _reference(demo)[0])


@pytest.mark.parametrize("name", ["mild-blur", "strong-blur", "compression", "frozen-portrait"])
def test_altered_pictures_leave_the_sound_alone(demo: Demo, name: str) -> None:
    assert np.array_equal(_method(demo, name)[1], _reference(demo)[1])


def test_audio_shift_is_five_frames_late(demo: Demo) -> None:
    early, late = _reference(demo)[1], _method(demo, "audio-shift")[1]
    assert _lag_s(late, early) == pytest.approx(SHIFT_S, abs=5e-4)
    assert SHIFT_S * FPS == 5


def test_other_audio_is_the_other_clips(demo: Demo) -> None:
    own, other = _reference(demo, 0)[1], _reference(demo, 1)[1]
    heard = _method(demo, "other-audio", 0)[1]
    assert np.abs(heard - other).max() < 1e-3
    assert np.abs(heard[: len(own)] - own[: len(heard)]).max() > 0.1


def test_frozen_portrait_stands_still(demo: Demo) -> None:
    """Every frame is the portrait, as far as the encoder can tell it."""
    portrait = cv2.imread(str(demo[0].portrait))
    assert portrait is not None
    frozen, moving = (
        np.abs(frames.astype(int) - portrait[..., ::-1]).mean(axis=(1, 2, 3))
        for frames in (_method(demo, "frozen-portrait")[0], _reference(demo)[0])
    )
    assert len(frozen) == len(moving)
    assert frozen.max() < 4
    assert moving.max() > 1.5 * frozen.max()


def test_a_second_use_makes_nothing(demo: Demo) -> None:
    before = {p: p.stat().st_mtime_ns for p in demo.folder.rglob("*") if p.is_file()}
    again = Demo(root=demo.root, size=SIZE, clips=2, seconds=SECONDS)
    assert [again[i] for i in range(2)] == [demo[i] for i in range(2)]
    again.prepare()
    assert {p: p.stat().st_mtime_ns for p in demo.folder.rglob("*") if p.is_file()} == before


def test_killed_and_continued_is_the_same(demo: Demo, tmp_path: Path) -> None:
    code = f"from lt_eval.datasets.demo import Demo; Demo({str(tmp_path)!r}, {SIZE}, 2, {SECONDS}).prepare()"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        sign = tmp_path / "methods" / "mild-blur" / "bela.mp4"
        while process.poll() is None and not sign.exists():
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "manifest.json").exists()
    (tmp_path / "clips" / ".half.mp4.1.partial").write_bytes(b"left behind")
    continued = Demo(str(tmp_path), SIZE, 2, SECONDS)
    continued.prepare()
    assert _hashes(continued) == _hashes(demo)


def test_two_at_once_make_one_set(demo: Demo, tmp_path: Path) -> None:
    made: list[str] = []
    both = [
        threading.Thread(
            target=lambda: Demo(str(tmp_path), SIZE, 2, SECONDS).prepare(lambda *args: made.append(str(args[3])))
        )
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(made) == ["anna", "anna", "bela", "bela"]
    assert _hashes(Demo(str(tmp_path), SIZE, 2, SECONDS)) == _hashes(demo)


def test_check_finds_what_is_missing_and_what_has_changed(tmp_path: Path) -> None:
    one = Demo(str(tmp_path), SIZE, 1, 0.5)
    assert [problem[:26] for problem in one.check()] == ["items/anna.json is missing"]
    one.prepare()
    assert one.check() == []
    (tmp_path / "methods" / "mild-blur" / "anna.mp4").unlink()
    speech = tmp_path / "speech" / "anna.wav"
    speech.write_bytes(speech.read_bytes()[:-1] + b"\x01")
    changed, missing = one.check()
    assert changed.startswith("speech/anna.wav has changed")
    assert missing.startswith("methods/mild-blur/anna.mp4 is missing")
    one.prepare()
    assert one.check() == []
    speech.write_bytes(speech.read_bytes()[:-1] + b"\x01")
    (tmp_path / "items" / "anna.json").write_text("{torn")
    assert len(one.check()) == 1
    one.prepare()
    assert one.check() == []


def test_a_folder_with_other_options_is_refused(demo: Demo) -> None:
    with pytest.raises(DatasetError, match=r"made with .*64.*128.*another demo\.root"):
        Demo(root=demo.root, size=128, clips=2, seconds=SECONDS).prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 63}, "even number"), ({"clips": 0}, "at least 1"), ({"seconds": 0.1}, "at least 0.5")],
)
def test_impossible_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Demo(**options)  # type: ignore[arg-type]


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path))
    assert Demo().folder == tmp_path / "data" / "demo-1-256"
    assert Demo(size=512).folder != Demo(seconds=2.0).folder != Demo().folder
    assert Demo.overview() == ("demo", "absent", 0, tmp_path / "data" / "demo-1-256")
    assert len({Demo().version, Demo(size=512).version, Demo(seconds=2.0).version}) == 3


def test_more_clips_have_names_and_people_of_their_own() -> None:
    names, specs = zip(*(spec_of(index) for index in range(24)), strict=True)
    assert len(set(names)) == 24
    assert len({spec.identity for spec in specs}) == 24


@pytest.mark.slow
def test_content_is_that_of_this_version() -> None:
    installed = {"numpy": np.__version__, "scipy": scipy.__version__, "cv2": cv2.__version__}
    if installed != PINNED_FOR:
        pytest.skip(f"hashes are pinned for {PINNED_FOR}, and this is {installed}")
    made = {name: make_clip(spec) for name, spec in map(spec_of, range(8))}
    assert {name: content_sha256(clip.frames, clip.audio) for name, clip in made.items()} == CONTENT
