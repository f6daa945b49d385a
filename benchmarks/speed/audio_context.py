"""How much of a clip's audio features does a stream lose, and how long must it wait to lose less?

    python benchmarks/speed/audio_context.py --out benchmarks/speed/audio_context.md     # about ten minutes on one core
    python benchmarks/speed/audio_context.py --seconds 4 --layers 2                      # a quick look

A stream encodes overlapping windows: some seconds to the left of a block, some frames of look-ahead to the right. Its
features are compared with those of the whole clip in one piece, block by block, for growing windows; the look-ahead is
also what the first frame waits for, so its price stands beside it.

The error is the root mean square difference over that of the whole clip's features from their mean over time, in
percent: 0 is the whole clip, 100 would be an encoder that hears nothing but that mean. It is given twice, against the
whole clip resampled in the same way, and against the whole clip as OmniAvatar encodes it ("stretch"). The weights are
seeded, not trained: attention of a trained network is sharper, and these figures say how windows act, not how well lips
will move.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lt_eval.generator.audio_config import AudioConfig
from lt_eval.generator.audio_windows import AudioEncoder, AudioStream, create_audio_encoder, latent_features
from lt_eval.generator.timeline import Timeline, video_frames
from lt_eval.records import SAMPLE_RATE_HZ, Audio
from lt_eval.synthetic.talker import perform

LEFT_S = (0.5, 2.0, 8.0)
LOOK_AHEAD_FRAMES = (0, 12)


@dataclass(frozen=True)
class Found:
    """What one window gives.

    Attributes:
        resample: of the stream.
        left_s: left context.
        look_ahead_frames: right context.
        error_percent: against the whole clip resampled likewise.
        shipped_error_percent: against the whole clip as OmniAvatar encodes it.
        waits_s: audio that must be there before block 0 can begin.
        processor_ms: to encode a block, the median.
    """

    resample: str
    left_s: float
    look_ahead_frames: int
    error_percent: float
    shipped_error_percent: float
    waits_s: float
    processor_ms: float


def streamed(encoder: AudioEncoder, speech: Audio, timeline: Timeline, blocks: int) -> tuple[Tensor, list[float]]:
    """Return the features of all blocks as a stream gets them, and the processor milliseconds of each."""
    audio, found, spent = AudioStream(encoder, timeline), [], []
    audio.push(speech)
    audio.align(blocks)
    for block in range(blocks):
        begin = time.process_time()
        found.append(audio.features(block))
        spent.append(1e3 * (time.process_time() - begin))
    return torch.cat(found), spent


def error_percent(found: Tensor, whole: Tensor) -> float:
    """Return the error that the module's docstring defines."""
    return float(100 * ((found - whole).square().mean() / (whole - whole.mean(dim=0)).square().mean()).sqrt())


def measure(config: AudioConfig, speech: Audio, timeline: Timeline) -> list[Found]:
    """Return what every window gives."""
    blocks = timeline.blocks(timeline.shown(len(speech)), 0)
    count = blocks * timeline.block_frames
    padded = torch.nn.functional.pad(
        torch.from_numpy(speech), (0, timeline.sample(video_frames(count)) - len(speech))
    ).numpy()
    ways: tuple[Literal["stretch", "centre"], ...] = ("stretch", "centre")
    encoders = {way: create_audio_encoder(replace(config, resample=way)) for way in ways}
    whole = {way: latent_features(encoder, padded, 0, range(count), timeline) for way, encoder in encoders.items()}
    found = []
    for way in ways:
        for ahead in LOOK_AHEAD_FRAMES:
            for left_s in LEFT_S:
                window = replace(config, resample=way, left_context_s=left_s, look_ahead_frames=ahead)
                features, spent = streamed(create_audio_encoder(window), speech, timeline, blocks)
                errors = error_percent(features, whole[way]), error_percent(features, whole["stretch"])
                waits_s = (timeline.frames(0).stop + ahead) / timeline.fps
                found.append(Found(way, left_s, ahead, *errors, waits_s, sorted(spent)[len(spent) // 2]))
    return found


def report(found: list[Found], config: AudioConfig, seconds: float, fps: float, command: str) -> str:
    """Return the table as Markdown."""
    lines = [
        "# What a stream's audio features lack of the whole clip's",
        "",
        f"    {command}",
        "",
        f"{date.today()}, {platform.machine()} CPU, torch {torch.__version__}, one thread. wav2vec2 with "
        f"{config.layers} layers of {config.hidden}, seeded weights (nothing trained), {seconds:g} s of the procedural "
        f"talker's speech, {fps:g} frames a second, blocks of three latent frames.",
        "",
        "| resampling | left context s | look-ahead frames | audio before block 0 can begin, s | error % | error % "
        "against OmniAvatar's whole clip | processor ms a block |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in found:
        lines.append(
            f"| {row.resample} | {row.left_s:g} | {row.look_ahead_frames} | {row.waits_s:.3f} "
            f"| {row.error_percent:.1f} | {row.shipped_error_percent:.1f} | {row.processor_ms:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0, help="of speech")
    parser.add_argument("--fps", type=float, default=16.0, help="frames a second of the video")
    parser.add_argument("--layers", type=int, default=12, help="of the transformer")
    parser.add_argument("--out", type=Path, help="write the report here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = AudioConfig("wav2vec2", layers=options.layers)
    speech = perform(3, seconds=options.seconds, fps=25.0).audio
    found = measure(config, speech, Timeline(options.fps, SAMPLE_RATE_HZ))
    command = " ".join(["python", "benchmarks/speed/audio_context.py", *sys.argv[1:]])
    text = report(found, config, options.seconds, options.fps, command)
    print(text)
    if options.out:
        options.out.write_text(text)
    print(json.dumps([asdict(row) for row in found]))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
