"""Streams over minutes, made short: the table is that of its rows, and stopping loses at most the stream in flight."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from lt_eval.cli import main
from lt_eval.errors import SpecError, StoreError
from lt_eval.media.clip import MediaClip
from lt_eval.protocols.longform import run
from lt_eval.protocols.longform_spec import SIX, LongSpec, build
from lt_eval.protocols.longform_streams import WindowWriter
from lt_eval.records import GROUND_TRUTH, Audio, Frames
from lt_eval.report.longform import read_long
from lt_eval.spec import read_toml
from lt_eval.store import read_rows
from lt_eval.testing.fakes import ToyGenerator, ToySession, toy_portrait, toy_speech

TOY = "lt_eval.testing.fakes:ToyGenerator"
SPEC = LongSpec(
    generator=TOY,
    configurations={"five": {"block": 5}, "ten": {"block": 10}},
    seconds=2.4,
    window_s=1.2,
    size=96,
    people=2,
    device="cpu",
    threads=1,
)
ALONE = replace(SPEC, configurations={}, people=1)


@dataclass(frozen=True)
class Fading(ToyGenerator):
    """Shows the portrait, darker and darker."""

    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> ToySession:
        return _Fading(self, portrait, prompt, seed)


class _Fading(ToySession):
    def _draw(self, sound: Audio) -> Frames:
        frames = np.repeat(self.portrait[None], len(sound), axis=0)
        for frame in frames:
            frame[:] = np.clip(frame * 0.985**self.frames_shown, 0, 255)
            self.frames_shown += 1
        return frames


@dataclass(frozen=True)
class Stops(ToyGenerator):
    """Gives a second of video, whatever it hears."""

    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> ToySession:
        return _Stops(self, portrait, prompt, seed)


class _Stops(ToySession):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        yield np.repeat(self.portrait[None], 25, axis=0)


def quiet(*_: object) -> None:
    """Tell nobody."""


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "longform.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two people and two configurations."""
    folder = tmp_path_factory.mktemp("longform") / "run"
    outcome = run(SPEC, folder, progress=quiet, say=quiet)
    assert not outcome.failures and len(outcome.windows) == 2
    return folder


def test_every_configuration_has_every_value_in_every_window(done: Path) -> None:
    found = lines(done)
    assert {(line["start_s"], line["end_s"]) for line in found} == {("0.0", "1.2"), ("1.2", "2.4")}
    values = {(line["start_s"], line["method"], line["column"]): line["value"] for line in found}
    names = ["Identity (builtin)", "Identity worst (builtin)", "Face motion", "Colour drift", "Sharpness"]
    names += ["FID (builtin)", "Sync-C (builtin)", "Sync-D (builtin)"]
    for method in ("five", "ten", GROUND_TRUTH):
        for name in names:
            for start in ("0.0", "1.2"):
                has_none = method == GROUND_TRUTH and name.startswith("FID")
                assert (values[start, method, name] == "") == has_none
    assert all(line["n"] == line["total"] == "2" for line in found if line["column"] == "Face motion")


def test_values_are_the_means_of_the_rows(done: Path) -> None:
    rows = [row for row in read_rows(done) if row.method == "five"]
    of_second = [row for row in rows if row.sample.endswith("window-01")]
    found = {(line["start_s"], line["method"], line["column"]): line["value"] for line in lines(done)}
    mean = np.mean([row.values["Identity (builtin)"] for row in of_second if row.metric == "identity"])
    assert float(found["1.2", "five", "Identity (builtin)"]) == pytest.approx(mean)
    drifts = []
    for person in ("person-9000100", "person-9000101"):
        first, last = (
            next(r.values for r in rows if r.metric == "appearance" and r.sample == f"{person}/window-0{k}")
            for k in (0, 1)
        )
        drifts.append(math.dist([first[f"Face {c}"] for c in "Lab"], [last[f"Face {c}"] for c in "Lab"]))
    assert float(found["1.2", "five", "Colour drift"]) == pytest.approx(np.mean(drifts))
    assert float(found["0.0", "five", "Colour drift"]) == 0.0 and float(found["0.0", "five", "Sharpness"]) == 1.0


def test_fid_is_told_beside_what_two_true_windows_have(done: Path) -> None:
    for window in read_long(done).windows:
        fid = {c.method: c.value for c in window.summary.cells if c.column == "FID (builtin)"}
        floor = window.summary.floors["FID (builtin)"]
        assert fid[GROUND_TRUTH] is None and 0 < floor < min(fid["five"] or 0, fid["ten"] or 0)


def test_the_true_clip_is_itself(done: Path) -> None:
    """Truth is nearest to its portrait, and its own lips fit its speech better than a rectangle's."""
    found = {(line["start_s"], line["method"], line["column"]): line["value"] for line in lines(done)}
    for start in ("0.0", "1.2"):
        true, toy = (float(found[start, method, "Identity (builtin)"]) for method in (GROUND_TRUTH, "five"))
        assert true > 0.9 and true > toy


def test_a_face_that_fades_is_seen_to_fade(tmp_path: Path) -> None:
    spec = replace(ALONE, generator=f"{__name__}:Fading")
    windows = run(spec, tmp_path, progress=quiet, say=quiet).windows
    drift, identity, motion = (
        [float(c.value or 0) for w in windows for c in w.summary.cells if c.method == "Fading" and c.column == name]
        for name in ("Colour drift", "Identity (builtin)", "Face motion")
    )
    assert drift == sorted(drift) and drift[-1] > 20 and identity[-1] < identity[0] and min(motion) > 0


def test_the_same_command_again_makes_nothing_again_and_nothing_else(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.glob("clips/**/*.mp4")}
    text, rows = (done / "longform.csv").read_bytes(), (done / "rows.jsonl").read_bytes()
    run(SPEC, done, progress=quiet, say=quiet)
    assert {path: path.stat().st_mtime_ns for path in done.glob("clips/**/*.mp4")} == before and len(before) == 12
    assert (done / "longform.csv").read_bytes() == text and (done / "rows.jsonl").read_bytes() == rows


def test_a_clip_that_is_gone_is_streamed_again_to_the_same_bytes(done: Path) -> None:
    gone = done / "clips" / "ten" / "person-9000101" / "window-01.mp4"
    held, text = gone.read_bytes(), (done / "longform.csv").read_bytes()
    gone.unlink()
    run(SPEC, done, progress=quiet, say=quiet)
    assert gone.read_bytes() == held and (done / "longform.csv").read_bytes() == text


def test_a_stream_that_ends_early_is_a_row_with_a_reason(tmp_path: Path) -> None:
    spec = replace(ALONE, generator=f"{__name__}:Stops")
    said: list[str] = []
    outcome = run(spec, tmp_path, progress=quiet, say=said.append)
    reasons = [row.failure.reason for row in outcome.failures if row.failure]
    assert reasons.count("too_few_frames") == 1 and reasons.count("missing_clip") == 8
    assert any("25 frames for speech of 60" in text for text in said)
    assert not list(tmp_path.glob("clips/Stops/**/*.mp4*"))  # a window that was whole went with its stream
    values = {(line["method"], line["column"]): (line["value"], line["n"]) for line in lines(tmp_path)}
    assert values["Stops", "Identity (builtin)"] == ("", "0") and values["Stops", "FID (builtin)"] == ("", "0")
    assert values[GROUND_TRUTH, "Identity (builtin)"][1] == "1"
    assert len(read_long(tmp_path).failures) == 9


@dataclass(frozen=True)
class BreaksOnce(ToyGenerator):
    """Raises in the second window of its first stream; every later one is whole.

    Attributes:
        mark: file that says that it has raised.
    """

    mark: str = ""

    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> ToySession:
        return _BreaksOnce(self, portrait, prompt, seed)


class _BreaksOnce(ToySession):
    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        shown = 0
        for chunk in super().speak(speech, text=text):
            yield chunk
            shown += len(chunk)
            mark = Path(self.generator.mark)  # type: ignore[attr-defined]
            if shown >= 40 and not mark.is_file():
                mark.write_text("raised")
                raise RuntimeError("broken once")


def test_a_stream_that_broke_is_made_and_measured_again(tmp_path: Path) -> None:
    """Its first window was whole, and was listed as missing for ever."""
    spec = replace(ALONE, generator=f"{__name__}:BreaksOnce", options={"mark": str(tmp_path / "mark")})
    assert run(spec, tmp_path / "run", progress=quiet, say=quiet).failures
    assert not run(spec, tmp_path / "run", progress=quiet, say=quiet).failures
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert len(manifest["sessions"]) == 2


def test_configurations_of_several_frame_rates_are_refused(tmp_path: Path) -> None:
    """Windows are counted in frames: those of the faster one were half as long as the true ones beside them."""
    spec = replace(ALONE, configurations={"one": {"fps": 25.0}, "two": {"fps": 50.0}})
    with pytest.raises(SpecError, match=r"'two' makes 50 frames a second and 'one' 25"):
        run(spec, tmp_path, progress=quiet, say=quiet)


def test_a_killed_run_goes_on_to_the_same_table(tmp_path: Path, done: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        f'generator = "{TOY}"\nseconds = 2.4\nwindow_s = 1.2\nsize = 96\ndevice = "cpu"\nthreads = 1\n'
        "[configuration.five]\nblock = 5\n[configuration.ten]\nblock = 10\n"
    )
    command = [sys.executable, "-m", "lt_eval", "longform", str(spec), "--out", str(tmp_path / "run")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    rows = tmp_path / "run" / "rows.jsonl"
    for wanted in (1, 4, 9):  # in the true clips, in the streams, in the measuring
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not rows.is_file() or rows.read_bytes().count(b"\n") < wanted):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert (tmp_path / "run" / "longform.csv").read_bytes() == (done / "longform.csv").read_bytes()
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_windows_do_not_depend_on_how_frames_come(tmp_path: Path) -> None:
    frames, audio = np.stack([np.roll(toy_portrait(64), k, 0) for k in range(60)]), toy_speech(2.4)
    for name, size in (("one", 1), ("seven", 7), ("all", 60)):
        paths = [tmp_path / name / f"{k}.mp4" for k in range(2)]
        with WindowWriter(paths, (0, 30, 60), 25.0, audio) as writer:
            for start in range(0, 60, size):
                writer.write(frames[start : start + size])
            assert writer.whole
            writer.write(frames[:3])  # beyond the end: left out
        assert [path.read_bytes() for path in paths] == [(tmp_path / "one" / f"{k}.mp4").read_bytes() for k in range(2)]
        with MediaClip(paths[1]) as clip:
            assert len(clip.frames) == 30 and abs(len(clip.audio) - 19_200) <= 1024
    with pytest.raises(KeyError), WindowWriter([tmp_path / "x.mp4"], (0, 30), 25.0, audio) as writer:
        writer.write(frames[:20])
        raise KeyError
    assert not list(tmp_path.glob("*x.mp4*"))


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lt-eval", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_command_on_the_reference_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "longform",
        "--set",
        "preset=nano",
        "--device",
        "cpu",
        "--seconds",
        "1.2",
        "--window",
        "1.2",
        "--limit",
        "1",
    ]
    words += ["--configuration", "0+5 relative", "--out", str(tmp_path / "run")]
    assert command(monkeypatch, *words) == 0
    out, err = capsys.readouterr()
    assert "0+5 relative" in out and "its weights are random" in out and "index.html" in err
    manifest = json.loads((tmp_path / "run" / "longform.json").read_text())["manifest"]
    assert manifest["methods"][0]["settings"]["window"].startswith("0 sink + 5 rolling")
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert page.count("<svg") >= 6 and "no failures" in page and "<video" in page
    assert command(monkeypatch, "report", str(tmp_path / "run"), "--format", "csv") == 0
    assert capsys.readouterr().out == (tmp_path / "run" / "longform.csv").read_text()
    assert command(monkeypatch, "report", str(tmp_path / "run"), "--format", "latex") == 0
    assert "0+5 relative" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seconds", "70"], "whole windows"),
        (["--window", "0"], "longer than 0"),
        (["--people", "0"], "at least 1"),
        (["--configuration", "3+2"], "3+2 relative"),
        (["--generator", "refrence"], "Did you mean"),
        (["--set", "sinks=3"], "sink"),
        (["--set", "rope=sideways"], "each of them sets its own rope"),
        (["--set", "weights=none.safetensors"], "There are no weights"),
        (["absent.toml"], "cannot be read"),
    ],
)
def test_a_users_mistake_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert command(monkeypatch, "longform", *words, "--out", str(tmp_path / "run")) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_refused_option_takes_nothing_from_a_finished_run(done: Path) -> None:
    before = (done / "longform.json").read_bytes()
    with pytest.raises(SpecError):
        run(replace(SPEC, configurations={"five": {"blocks": 5}}), done, progress=quiet, say=quiet)
    assert (done / "longform.json").read_bytes() == before


def test_a_shorter_run_in_the_same_folder_leaves_no_window_of_the_longer(tmp_path: Path) -> None:
    run(ALONE, tmp_path, progress=quiet, say=quiet)
    assert list(tmp_path.rglob("window-01.*"))
    outcome = run(replace(ALONE, seconds=1.2), tmp_path, progress=quiet, say=quiet)
    assert len(outcome.windows) == 1 and not list(tmp_path.rglob("window-01.*"))


def test_the_six_are_three_splits_of_five_blocks_twice() -> None:
    assert len(SIX) == 6 and all(options["sink"] + options["rolling"] == 5 for options in SIX.values())
    spec = build({"options": {"steps": 2}, "seconds": 300})
    assert spec.windows == 10 and spec.bounds(25.0)[:2] == (0, 750) and spec.bounds(25.0)[-1] == 7500
    assert spec.methods["1+4 absolute"] == {"steps": 2, "sink": 1, "rolling": 4, "rope": "absolute"}
    assert list(spec.only(["0+5 relative"]).methods) == ["0+5 relative"]
    assert LongSpec(TOY).methods == {"ToyGenerator": {}}


def test_the_specification_that_comes_along_is_the_default() -> None:
    spec = build(read_toml(Path(__file__).resolve().parents[2] / "benchmarks" / "longform" / "six.toml"))
    assert replace(spec, options={}, configurations={}) == LongSpec()
    assert spec.methods == LongSpec(options={"preset": "mini"}).methods


@pytest.mark.parametrize(
    "data", [{"second": 3}, {"seconds": "300"}, {"configuration": {"a/b": {}}}, {"configuration": 3}, {"size": 33}]
)
def test_a_wrong_specification_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        build(data)


def test_an_option_that_some_configuration_leaves_open_is_taken() -> None:
    tables: dict[str, object] = {"options": {"sink": 2}, "configuration": {"a": {"sink": 3}, "b": {}}}
    assert {name: options["sink"] for name, options in build(tables).methods.items()} == {"a": 3, "b": 2}
    with pytest.raises(SpecError, match="each of them sets its own sink"):
        build({**tables, "configuration": {"a": {"sink": 3}}})


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"protocol": "single"}')
    with pytest.raises(StoreError, match="single"):
        run(SPEC, tmp_path, progress=quiet, say=quiet)
