"""`lt-eval generate` as a user meets it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import wave
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import cv2
import numpy as np
import pytest

from lt_eval.cli import main
from lt_eval.testing.fakes import toy_portrait, toy_speech

REPOSITORY = Path(__file__).resolve().parents[1]
NANO = ("--set", "preset=nano", "--device", "cpu")


LONG_S = 900
"""A busy machine may take minutes to start a process."""


class Done(NamedTuple):
    returncode: int
    stdout: bytes
    stderr: str


class Generate(Protocol):
    def __call__(self, *words: str, stdin: bytes = b"") -> Done: ...


@pytest.fixture
def generate(folder: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Generate:
    """Run `lt-eval generate` in the folder, in this process."""

    def run(*words: str, stdin: bytes = b"") -> Done:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["lt-eval", "generate", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsysbinary.readouterr()
        return Done(int(left.value.code or 0), out, err.decode())

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a portrait and two seconds of speech."""
    root = tmp_path_factory.mktemp("generate")
    cv2.imwrite(str(root / "anna.png"), toy_portrait(96))
    with wave.open(str(root / "anna.wav"), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(np.rint(toy_speech(2.0) * 32767).astype("<i2").tobytes())
    return root


def tracks(source: Path | io.BytesIO) -> tuple[int, float]:
    """Return frames and seconds of sound."""
    with av.open(source if isinstance(source, io.BytesIO) else str(source), "r") as container:
        frames = sum(1 for _ in container.decode(video=0))
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with av.open(source if isinstance(source, io.BytesIO) else str(source), "r") as container:
        sound = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    return frames, sound


def test_a_clip_appears_with_its_sound(folder: Path, generate: Generate) -> None:
    done = generate("--image", "anna.png", "--audio", "anna.wav", "--out", "out/anna.mp4", *NANO)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["out"] == "out/anna.mp4" and report["frames"] == 50 and report["first_frame_s"] > 0
    assert "random, not trained" in done.stderr
    frames, sound = tracks(folder / "out" / "anna.mp4")
    assert frames == 50 and sound == pytest.approx(2.0, abs=0.1)
    assert [path.name for path in (folder / "out").iterdir()] == ["anna.mp4"]


def test_the_seed_decides(folder: Path, generate: Generate) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = ("--image", "anna.png", "--audio", "anna.wav", "--out", f"{name}.mp4", "--seed", seed)
        assert generate(*words, *NANO).returncode == 0
    contents = [(folder / f"{name}.mp4").read_bytes() for name in "abc"]
    assert contents[0] == contents[1] != contents[2]


def test_a_live_pipe_goes_from_standard_input_to_standard_output(folder: Path) -> None:
    words = [sys.executable, "-m", "lt_eval", "generate", "--image", "anna.png", "--audio", "-", "--out", "-", *NANO]
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        input=(folder / "anna.wav").read_bytes(),
        capture_output=True,
        check=False,
        timeout=LONG_S,
    )
    assert done.returncode == 0, done.stderr
    frames, sound = tracks(io.BytesIO(done.stdout))
    assert frames == 50 and sound == pytest.approx(2.0, abs=0.05)


def test_other_generators_are_driven_alike(folder: Path, generate: Generate) -> None:
    words = ("--generator", "lt_eval.testing.fakes:ToyGenerator", "--set", "block=3")
    done = generate("--image", "anna.png", "--audio", "anna.wav", "--out", "toy.mp4", *words)
    assert done.returncode == 0, done.stderr
    assert tracks(folder / "toy.mp4")[0] == 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--image", "nobody.png"), "nobody.png: cannot be read"),
        (("--image", "anna.wav"), "is not a picture"),
        (("--audio", "nobody.wav"), "nobody.wav"),
        (("--audio", "anna.png"), "anna.png: is no sound that can be decoded. Give a wav"),
        (("--audio", "-"), "standard input: is empty, or no sound"),
        (("--out", "never.avi"), "--out never.avi: an mp4 is written"),
        (("--set", "steps=two"), "generator 'reference': steps = 'two': it must be"),
        (("--generator", "external-command"), "needs the option 'command': --set command=VALUE"),
        (("--set", "step=3"), "has no option 'step'. Did you mean 'steps'?"),
        (("--set", "size=100"), "size is 100; it must be a multiple of 32"),
        (("--set", "weights=mine.safetensors"), "no weights at mine.safetensors"),
        (("--generator", "refference"), "Did you mean 'reference'?"),
        (("--generator", "lt_eval.testing.fakes:toy_clip"), "failed"),
    ],
)
def test_mistakes_are_messages(folder: Path, generate: Generate, words: tuple[str, str], message: str) -> None:
    given = {"--image": "anna.png", "--audio": "anna.wav", "--out": "never.mp4"} | dict([words])
    nano = () if "--generator" in given else NANO
    done = generate(*[word for pair in given.items() for word in pair], *nano)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not (folder / "never.mp4").exists() and not list(folder.glob(".never*"))
