"""Does a stream cost the same after an hour as at its start? Processor time a block and memory, block after block.

The denoiser alone (four steps and the clean pass; codec and audio off, the audio features drawn at random), one thread.
Processor time, because other work on the machine does not count in it. Memory is VmRSS, read from Linux' /proc.

    python benchmarks/speed/stream_cost.py                              # nano, 10,000 blocks, both rope policies
    python benchmarks/speed/stream_cost.py --preset mini --blocks 40    # what a block of the small model costs

Exit status 1 where the last tenth of a stream costs more than 1.1 times its first steady tenth, or memory grew by more
than 8 MiB between the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from lt_eval.generator import sampler
from lt_eval.generator.conditions import Conditions
from lt_eval.generator.config import GeneratorConfig
from lt_eval.generator.model import Transformer
from lt_eval.generator.presets import PRESETS

Rope = Literal["absolute", "relative"]
MOST_GROWTH_MIB = 8.0
MOST_RATIO = 1.1


@dataclass(frozen=True)
class Course:
    """One stream.

    Attributes:
        rope: policy.
        blocks: length.
        minutes_of_video: length at the preset's rate.
        denoise_ms: median processor time of the steps of a block, steady.
        clean_ms: of the clean pass.
        first_ms: median processor time of a whole block in the first steady tenth.
        last_ms: in the last tenth.
        mib: resident memory at the end of each tenth.
        cache_kib: of keys and values.
    """

    rope: str
    blocks: int
    minutes_of_video: float
    denoise_ms: float
    clean_ms: float
    first_ms: float
    last_ms: float
    mib: tuple[float, ...]
    cache_kib: float

    @property
    def ratio(self) -> float:
        """Cost at the end over cost at the start."""
        return self.last_ms / self.first_ms

    @property
    def growth_mib(self) -> float:
        """Memory taken after the first tenth."""
        return self.mib[-1] - self.mib[0]

    @property
    def holds(self) -> bool:
        """Whether cost is constant and memory flat."""
        return self.ratio <= MOST_RATIO and self.growth_mib <= MOST_GROWTH_MIB


def resident_mib() -> float:
    """Return this process's resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("VmRSS is not in /proc/self/status; this script needs Linux")


@torch.no_grad()
def course(config: GeneratorConfig, rope: Rope, blocks: int) -> Course:
    """Run one stream and time every block."""
    stream = replace(config.stream, rope=rope)
    model, side, noise = Transformer(config.model).eval(), config.latent_side, torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=noise)
    cache = model.new_cache(stream, batch=1, height=side, width=side)
    plan = sampler.schedule(model, stream)
    reference = torch.randn((1, config.model.latent_channels, 1, side, side), generator=noise)
    text = model.cross_kv(torch.randn((1, config.model.text_tokens, config.model.text_dim), generator=noise))
    denoise, clean, memory = [], [], []
    for block in range(blocks):
        audio = torch.randn((1, stream.block_frames, config.model.audio_dim), generator=noise)
        began = time.process_time()
        given = model.prepare(Conditions(reference, text, audio))
        latents = sampler.denoise_block(model, cache, given, plan, [noise])
        between = time.process_time()
        sampler.clean_pass(model, cache, given, latents, plan)
        denoise.append(1000 * (between - began))
        clean.append(1000 * (time.process_time() - between))
        if not torch.isfinite(latents).all():
            raise SystemExit(f"block {block} is not finite")
        if (block + 1) % (blocks // 10) == 0:
            memory.append(resident_mib())
    steady, tenth = stream.steady_block, blocks // 10
    whole = [first + second for first, second in zip(denoise, clean, strict=True)]
    return Course(
        rope=rope,
        blocks=blocks,
        minutes_of_video=4 * stream.block_frames * blocks / config.fps / 60,
        denoise_ms=statistics.median(denoise[steady:]),
        clean_ms=statistics.median(clean[steady:]),
        first_ms=statistics.median(whole[steady : steady + tenth]),
        last_ms=statistics.median(whole[-tenth:]),
        mib=tuple(round(value, 1) for value in memory),
        cache_kib=cache.nbytes / 1024,
    )


def main() -> int:
    """Run a stream under each policy and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="nano")
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--rope", choices=["absolute", "relative"], nargs="+", default=["absolute", "relative"])
    options = parser.parse_args()
    if options.blocks < 20:
        parser.error("--blocks must be at least 20")
    torch.set_num_threads(1)
    config = PRESETS[options.preset]
    print("| rope | blocks | video, min | denoise, ms | clean, ms | first tenth | last tenth | ratio | MiB grown |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    courses = []
    for rope in options.rope:
        found = course(config, rope, options.blocks)
        courses.append(found)
        print(
            f"| {rope} | {found.blocks:,} | {found.minutes_of_video:.0f} | {found.denoise_ms:.2f} "
            f"| {found.clean_ms:.2f} | {found.first_ms:.2f} | {found.last_ms:.2f} | {found.ratio:.3f} "
            f"| {found.growth_mib:+.1f} |",
            flush=True,
        )
    results = [{**asdict(found), "ratio": found.ratio, "growth_mib": found.growth_mib} for found in courses]
    print(json.dumps({"preset": options.preset, "courses": results}))
    return 0 if all(found.holds for found in courses) else 1


if __name__ == "__main__":
    sys.exit(main())
