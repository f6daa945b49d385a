"""What the codec and the teacher leave for a student to reach: clips of unseen people, scored as checkpoints are.

    python benchmarks/distill/ceilings.py results/distill-mini-gpu --people 8

Prints one line of JSON for each of: `true` clips, `codec` (the true clips encoded and decoded), `frozen` portraits
and, where the folder has one, the `teacher` (48 guided steps). A student cannot sync better than its codec lets it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from people import at_least, without_traceback

from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.held_out import HeldOut, longer, measure_clips, prepare_held_out
from lt_eval.distill.pictures import to_frames, to_video
from lt_eval.distill.recipe import read_recipe
from lt_eval.distill.talkers import TalkerOptions, draw
from lt_eval.distill.training import generator_of
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_files import load_codec
from lt_eval.generator.networks import Sources, load_parts, resolve_device
from lt_eval.generator.sampler import Guidance, sample_sequence
from lt_eval.media.encode import encode
from lt_eval.records import Frames


def scored(frames: list[Frames], people: HeldOut, folder: Path) -> dict[str, float]:
    """Write clips with their audio and score them."""
    folder.mkdir(parents=True)
    made = [
        encode(folder / f"{number}.mp4", clip, people.fps, audio)
        for number, (clip, audio) in enumerate(zip(frames, people.audio, strict=True))
    ]
    return measure_clips(made, people)


@torch.no_grad()
def sampled(teacher: Denoiser, people: HeldOut, guidance: float) -> torch.Tensor:
    """Return the teacher's latents [B, C, F, h, w]."""
    batch = people.batch
    with teacher.precision():
        found = sample_sequence(
            teacher.transformer,
            teacher.conditions(batch),
            people.frames,
            [generator_of(0, f"ceiling {number}", 0) for number in range(len(people.audio))],
            steps=48,
            shift=teacher.config.stream.shift,
            negative_text=teacher.read([""] * len(batch.prompts)),
            guidance=Guidance(guidance, guidance),
        )
    return found.states[-1].float()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a recipe, with codec/ and perhaps teacher/")
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parent / "mini-gpu.toml")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=7_800_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--guidance", type=float, nargs="*", default=[4.5])
    parser.add_argument("--device", default="auto")
    return parser


def measured() -> int:
    """Print the scores."""
    given = _parser().parse_args()
    at_least("--people", given.people, 1)
    recipe, device = read_recipe(given.recipe), resolve_device(given.device)
    config = recipe.config()
    codec = create_codec(config.codec)
    load_codec(codec, given.out / "codec" / "codec.safetensors")
    codec.requires_grad_(False).to(device)
    who = TalkerOptions(
        first_seed=given.first_seed, people=given.people, held_out=0, windows=1, size=config.size, fps=config.fps
    )
    who = longer(who, given.seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fresh = Denoiser.fresh(config, 0).to(device)
        people = prepare_held_out(who, fresh, codec, folder / "true", list(range(given.people)))
        true = [draw(who, person, 0).frames for person in range(given.people)]
        through = [to_frames(codec.decode(codec.encode(to_video(clip[None]).to(device))))[0] for clip in true]
        rows = {"true": true, "codec": through, "frozen": [np.repeat(clip[:1], len(clip), 0) for clip in true]}
        for label, clips in rows.items():
            print(json.dumps({"of": label, **scored(clips, people, folder / "made" / label)}), flush=True)
        path = given.out / "teacher" / "teacher.safetensors"
        if path.is_file():
            parts = load_parts(config, Sources(transformer=path))
            teacher = Denoiser.of_parts(config, parts, bf16=device.type == "cuda").to(device).frozen()
            for guidance in given.guidance:
                latents = sampled(teacher, people, guidance)
                clips = [to_frames(codec.decode(one[None]))[0] for one in latents]
                label = f"teacher, guidance {guidance:g}"
                print(json.dumps({"of": label, **scored(clips, people, folder / "made" / label)}), flush=True)
    return 0


def main() -> int:
    """Print the scores, or what is wrong with what was given."""
    return without_traceback(measured)


if __name__ == "__main__":
    sys.exit(main())
