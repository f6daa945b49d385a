"""Does any video whatever stop a run, or get a score that it cannot have?

    python benchmarks/fuzz.py --count 500 --seed 0 --out results/fuzz

Makes `count` small random videos: drawn talkers, noise and flat colours; codecs, containers, pixel formats, sizes,
frame rates and lengths of all kinds; no sound, silence, noise or speech, one to six channels at any rate, shorter or
longer than the picture, which may start late; face boxes beside them, true, absent or nonsense; and a third with bytes
changed, lost or added. All are measured in one run of the single-round protocol.

What must hold: the run ends; every clip has a row per metric; a row has finite values or a reason; no score is exactly
0; and no reason is a bug's (`metric_error`, `worker_lost`). Standard output: one JSON line. Exit status 1 where
something does not hold; the videos stay in the folder for looking at.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import av.error
import numpy as np

from lt_eval.progress import Progress
from lt_eval.protocols import single
from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.spec import build
from lt_eval.store import read_rows

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream
    from numpy.random import Generator

    from lt_eval.records import Audio, Frames, Row

METRICS = ("fvd", "sync")
"""One that looks, one that looks and listens; both with builtin networks."""

BUGS = ("metric_error", "worker_lost")

_CONTAINERS = (
    ("mp4", "libx264", ("yuv420p", "yuv444p"), "aac"),
    ("mp4", "mpeg4", ("yuv420p",), "aac"),
    ("avi", "mpeg4", ("yuv420p",), "libmp3lame"),
    ("avi", "mjpeg", ("yuvj420p", "yuvj422p"), "pcm_s16le"),
    ("mkv", "ffv1", ("yuv420p", "gray", "bgr0"), "flac"),
    ("webm", "libvpx", ("yuv420p",), "libopus"),
    ("mov", "libx264", ("yuv420p",), "pcm_s16le"),
)

_RATES = ("5", "12", "15", "16", "24", "25", "30000/1001", "50")

_AUDIO_RATES_HZ = (8_000, 16_000, 22_050, 44_100, 48_000)

_LAYOUTS = ("mono", "stereo", "5.1")


@dataclass(frozen=True)
class Recipe:
    """One random video, as far as it can be told in words."""

    name: str
    picture: str
    sound: str
    container: str
    codec: str
    size: tuple[int, int]
    fps: str
    frames: int
    sidecar: str
    damage: str


def _pictures(kind: str, count: int, size: tuple[int, int], fps: float, rng: Generator) -> tuple[Frames, Any]:
    """Return uint8 RGB [count, H, W, 3] and the performance behind them, where there is one."""
    import cv2

    width, height = size
    if kind == "talker":
        from lt_eval.synthetic.talker import perform

        side = max(32, min(width, height) // 2 * 2)
        shown = perform(int(rng.integers(1 << 30)), seconds=max(count, 1) / fps, size=side, fps=fps)
        drawn = [np.asarray(cv2.resize(frame, size), np.uint8) for frame in shown.frames()]
        return np.stack(drawn[:count] or drawn), shown
    if kind == "noise":
        return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8), None
    level = rng.integers(0, 256, 3).astype(np.uint8)
    return np.broadcast_to(level, (count, height, width, 3)).copy(), None


def _sound(kind: str, seconds: float, rate_hz: int, shown: Any, rng: Generator) -> Audio:
    """Return float32 [T] at `rate_hz`."""
    total = max(1, round(seconds * rate_hz))
    if kind == "speech" and shown is not None:
        at = np.arange(total) / rate_hz * SAMPLE_RATE_HZ
        return np.asarray(np.interp(at, np.arange(len(shown.audio)), shown.audio, right=0.0), np.float32)
    if kind == "silence":
        return np.zeros(total, np.float32)
    return np.asarray(rng.normal(0, 0.2, total).clip(-1, 1), np.float32)


def _write(path: Path, recipe: Recipe, formats: tuple[str, ...], audio_codec: str, rng: Generator) -> Any:
    """Encode one video; return the performance behind it, where there is one."""
    rate = Fraction(recipe.fps)
    frames, shown = _pictures(recipe.picture, recipe.frames, recipe.size, float(rate), rng)
    with av.open(str(path), "w") as file:
        video = cast("VideoStream", file.add_stream(recipe.codec, rate=rate))
        video.width, video.height = recipe.size
        video.pix_fmt = str(rng.choice(formats))
        audio = None
        if recipe.sound != "none":
            rate_hz = 48_000 if audio_codec == "libopus" else int(rng.choice(_AUDIO_RATES_HZ))
            audio = cast("AudioStream", file.add_stream(audio_codec, rate=rate_hz))
            audio.layout = str(rng.choice(_LAYOUTS[:2] if audio_codec == "libmp3lame" else _LAYOUTS))
        late = int(rng.integers(0, 3)) if rng.random() < 0.2 else 0
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index + late, 1 / rate
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if audio is not None:
            stretch = float(rng.choice((0.1, 0.9, 1.0, 1.0, 1.5)))
            samples = _sound(recipe.sound, stretch * len(frames) / float(rate), audio.rate, shown, rng)
            resampler = av.AudioResampler(format=audio.format.name, layout=audio.layout.name, rate=audio.rate)
            mono = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            mono.sample_rate, mono.pts = audio.rate, 0
            for piece in resampler.resample(mono):
                file.mux(audio.encode(piece))
            file.mux(audio.encode(None))
    return shown


def _sidecar(path: Path, kind: str, shown: Any, rng: Generator) -> None:
    """Write face boxes beside a clip: true ones, nonsense, or a file that is not even JSON."""
    beside = path.with_name(f"{path.stem}.faces.json")
    if kind == "true" and shown is not None:
        faces = [[float(edge) for edge in shown.box(index)] for index in range(len(shown))]
        beside.write_text(json.dumps({"fps": shown.fps, "faces": faces}))
    elif kind == "nonsense":
        wrong: tuple[object, ...] = (
            {"fps": 25, "faces": [[0.9, 0.9, 0.1, 0.1]] * 200},
            {"fps": 0, "faces": [None] * 3},
            {"fps": 25, "faces": [[-5, -5, 9, 9], [float("nan")] * 4] * 80},
            {"fps": "fast", "faces": {}},
            {"faces": [[0.2, 0.2, 0.8, 0.8]]},
            [1, 2, 3],
        )
        beside.write_text(json.dumps(wrong[int(rng.integers(len(wrong)))]))
    elif kind == "torn":
        beside.write_text('{"fps": 25, "faces": [[0.1, 0.')


def _damage(path: Path, kind: str, rng: Generator) -> None:
    data = bytearray(path.read_bytes())
    if kind == "flipped":
        for _ in range(int(rng.integers(1, 40))):
            data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
    elif kind == "cut":
        data = data[: int(rng.integers(len(data)))]
    elif kind == "garbage":
        at = int(rng.integers(len(data)))
        data[at:at] = rng.bytes(int(rng.integers(1, 5000)))
    path.write_bytes(bytes(data))


def make(folder: Path, index: int, seed: int) -> Recipe | None:
    """Make one random video; None where the encoder refuses the combination."""
    rng = np.random.default_rng([seed, index])
    container, codec, formats, audio_codec = _CONTAINERS[int(rng.integers(len(_CONTAINERS)))]
    width, height = (int(side) for side in rng.choice((2, 16, 48, 64, 90, 128, 162, 240), 2))
    picture = str(rng.choice(("talker", "talker", "talker", "noise", "flat")))
    shape = (width, width if picture == "talker" or rng.random() < 0.5 else height)
    recipe = Recipe(
        name=f"v{index:04d}",
        picture=picture,
        sound=str(rng.choice(("speech", "speech", "noise", "silence", "none"))),
        container=container,
        codec=codec,
        size=shape,
        fps=str(rng.choice(_RATES)),
        frames=int(rng.choice((1, 2, 7, 20, 60, 110, 140))),
        sidecar=str(rng.choice(("none", "none", "true", "true", "nonsense", "torn"))),
        damage=str(rng.choice(("none",) * 6 + ("flipped", "cut", "garbage"))),
    )
    path = folder / f"{recipe.name}.{container}"
    try:
        shown = _write(path, recipe, formats, audio_codec, rng)
    except (av.error.FFmpegError, OSError, ValueError):
        path.unlink(missing_ok=True)
        return None
    _sidecar(path, recipe.sidecar, shown, rng)
    _damage(path, recipe.damage, rng)
    return recipe


def violations(rows: list[Row], names: set[str]) -> list[str]:
    """Return what does not hold, one sentence each."""
    found = []
    for metric in METRICS:
        absent = names - {row.sample for row in rows if row.metric == metric}
        found += [f"{name}: no row of {metric}" for name in sorted(absent)]
    for row in rows:
        where = f"{row.sample}, {row.metric}"
        if row.failure is not None:
            if row.failure.reason in BUGS:
                found.append(f"{where}: {row.failure.message}")
            elif row.values:
                found.append(f"{where}: values and a failure at once")
            continue
        if not row.values and not row.features:
            found.append(f"{where}: neither a value nor a reason")
        scores = {name: value for name, value in row.values.items() if name.startswith(("Sync-C", "Sync-D"))}
        found += [f"{where}: {name} = {v}" for name, v in scores.items() if v == 0 or not math.isfinite(v)]
    return found


def run(out: Path, count: int, seed: int, workers: int) -> dict[str, Any]:
    """Make the videos, measure them, and return the report."""
    clips = out / "clips"
    shutil.rmtree(out, ignore_errors=True)
    clips.mkdir(parents=True)
    recipes: dict[str, Recipe] = {}
    index = 0
    with Progress() as progress:
        while len(recipes) < count:
            if recipe := make(clips, index, seed):
                recipes[recipe.name] = recipe
                progress("make", len(recipes), count, recipe.name)
            index += 1
        spec = build(
            {
                "dataset": {"name": "folder", "root": str(clips)},
                "metrics": list(METRICS),
                "weights": "builtin",
                "device": "cpu",
                "execution": {"workers": workers},
            }
        )
        single.run(spec, out / "run", progress=progress, say=progress.say)
    rows = list(read_rows(out / "run"))
    wrong = violations(rows, set(recipes))
    (out / "recipes.json").write_text(json.dumps([dataclasses.asdict(recipe) for recipe in recipes.values()], indent=1))
    reasons = {
        metric: dict(Counter(row.failure.reason if row.failure else "scored" for row in rows if row.metric == metric))
        for metric in METRICS
    }
    return {"videos": len(recipes), "seed": seed, "refused_by_encoders": index - count, "rows": reasons, "wrong": wrong}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/fuzz"))
    options = parser.parse_args()
    av.logging.set_level(None)
    with contextlib.suppress(KeyboardInterrupt):
        report = run(options.out, options.count, options.seed, options.workers)
        print(json.dumps(report))
        return 1 if report["wrong"] else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
