"""Somebody else's command: files or a pipe, exit status, time-out, and nothing that a shell would see."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lt_eval.bench.adapters.command import ExternalCommand
from lt_eval.bench.timing import Timeline, listen
from lt_eval.bench.viewing import first_frame_s
from lt_eval.errors import SpecError, UnscorableError
from lt_eval.records import Frames
from lt_eval.registry import create
from lt_eval.testing import toy_portrait, toy_speech
from tests.clips import moving_frames

PORTRAIT = toy_portrait(32)

COPY = """
import sys, shutil
image, audio, out = sys.argv[1:4]
assert open(image, "rb").read(4) == b"\\x89PNG" and open(audio, "rb").read(4) == b"RIFF"
shutil.copy({clip!r}, out)
"""
RAW = """
import sys, time
for value in range(6):
    sys.stdout.buffer.write(bytes([40 * value]) * (32 * 24 * 3))
    sys.stdout.buffer.flush()
    time.sleep({delay})
"""
WORDS = """
import sys, pathlib
pathlib.Path({told!r}).write_text(chr(10).join(sys.argv[1:]))
sys.stdout.buffer.write(bytes(32 * 24 * 3))
"""


def command(program: str, *words: str) -> str:
    return shlex.join([sys.executable, "-c", program, *words])


def raw(program: str, *words: str, timeout_s: float = 60.0) -> ExternalCommand:
    return ExternalCommand(command(program, *words), format="rgb24", width=32, height=24, timeout_s=timeout_s)


def speak(generator: ExternalCommand, prompt: str = "", text: str = "") -> tuple[Timeline, list[Frames]]:
    kept: list[Frames] = []

    def keep(chunk: Frames) -> None:
        kept.append(chunk.copy())

    return listen(generator, PORTRAIT, toy_speech(0.4), keep=keep, seed=7, prompt=prompt, text=text), kept


def test_a_command_that_writes_a_file_is_timed_to_its_end(tmp_path: Path) -> None:
    from lt_eval.media.encode import encode

    shown = moving_frames(3, 12)
    clip = encode(tmp_path / "made.mp4", shown, 25.0)
    generator = ExternalCommand(command(COPY.format(clip=str(clip)), "{image}", "{audio}", "{out}"))
    found, kept = speak(generator)
    assert found.frames == 12 and not found.streams and first_frame_s(found) == found.arrivals[-1].at_s
    assert np.concatenate(kept).shape == shown.shape
    assert np.abs(np.concatenate(kept).astype(float) - shown).mean() < 12


def test_raw_frames_come_out_of_a_pipe_one_by_one(tmp_path: Path) -> None:
    found, kept = speak(raw(RAW.format(delay=0.1)))
    times = [arrival.at_s for arrival in found.arrivals]
    assert len(times) == 6 and found.streams and found.size == (24, 32)
    assert [int(chunk[0, 0, 0, 0]) for chunk in kept] == [0, 40, 80, 120, 160, 200]
    assert times[-1] - times[0] > 0.3


def test_words_reach_the_command_whole_and_no_shell_sees_them(tmp_path: Path) -> None:
    told = tmp_path / "told"
    prompt = f"a; touch {tmp_path}/x $(touch {tmp_path}/y) 'b' {{out}} {{text}}"
    generator = raw(WORDS.format(told=str(told)), "--prompt={prompt}", "{text}", "{seed}", '{"json": 1}')
    speak(generator, prompt=prompt, text="two words")
    assert told.read_text().split("\n") == [f"--prompt={prompt}", "two words", "7", '{"json": 1}']
    assert [path.name for path in tmp_path.iterdir()] == ["told"]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; print('CUDA out of memory', file=sys.stderr); sys.exit(3)", "exit status 3.*CUDA out of memory"),
        ("import sys; sys.stdout.buffer.write(bytes(100))", "after 100 of the 2304 bytes of a frame of 32x24"),
        ("pass", "no frame"),
    ],
)
def test_what_goes_wrong_is_told_with_the_last_lines(program: str, words: str) -> None:
    with pytest.raises(UnscorableError, match=words):
        speak(raw(program))


def test_frames_before_a_bad_end_do_not_make_it_good() -> None:
    with pytest.raises(UnscorableError, match="exit status 1"):
        speak(raw(RAW.format(delay=0) + "raise SystemExit(1)"))


def test_a_file_that_is_not_written_or_no_video_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnscorableError, match="wrote no file"):
        speak(ExternalCommand(command("pass", "{out}")))
    write = "import sys; open(sys.argv[1], 'wb').write(b'not a video at all')"
    with pytest.raises(UnscorableError, match="no video that can be decoded"):
        speak(ExternalCommand(command(write, "{out}")))


@pytest.mark.parametrize("words", [[], ["{out}"]])
def test_a_command_that_hangs_is_ended(words: list[str]) -> None:
    begin = time.monotonic()
    hang = "import sys, time; print('loading', file=sys.stderr, flush=True); time.sleep(600)"
    with pytest.raises(UnscorableError, match=r"not done after 1.5 s.*loading") as caught:
        speak(raw(hang, *words, timeout_s=1.5))
    assert caught.value.code == "generation_timeout" and time.monotonic() - begin < 20


def test_a_listener_who_leaves_ends_the_command() -> None:
    with raw(RAW.format(delay=100)).session(PORTRAIT) as session:
        chunks = session.speak([toy_speech(0.2)])
        next(chunks)
        begin = time.monotonic()
        chunks.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": "no-such-program --out {out}"}, "'no-such-program' is not found"),
        ({"command": ""}, "not found"),
        ({"command": ["python"]}, "it must be a text"),
        ({"command": f"{sys.executable} x", "format": "rgb24"}, "needs width and height"),
        ({"command": f"{sys.executable} x", "format": "mp5"}, "must be 'container' or 'rgb24'"),
        ({"command": f"{sys.executable} x", "timeout_s": 0}, "above 0"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        create("generators", "external-command", options)
