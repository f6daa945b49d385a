"""IQA and ASE of a frame: ours against pyiqa called twice, on the same small checkpoint, in one process.

    python=$(python benchmarks/environments/build.py)       # the environment with pyiqa, built once (make full)
    PYTHONPATH=. $python benchmarks/speed/qalign.py --out benchmarks/speed/qalign.md
    PYTHONPATH=. $python benchmarks/speed/qalign.py --pictures 4 --repeats 2     # a quick look
    python benchmarks/speed/qalign.py --full-size --device cuda                  # frames a second, published sizes

Each repeat times both, one after the other, on the same pictures, preprocessing included; the report gives medians and
the ratio of the medians. Passes of the vision tower are counted. `--full-size` needs no pyiqa: random weights in the
published sizes, on a device that can hold them (16.4 GB).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lt_eval.metrics.nets.inference import exact_inference
from lt_eval.metrics.nets.mplug_owl2 import MplugOwl2
from lt_eval.metrics.nets.mplug_owl2_config import OwlConfig
from lt_eval.metrics.nets.one_align import OneAlign, load_one_align
from lt_eval.metrics.qalign_inputs import TASKS, Prompt, Wording

if TYPE_CHECKING:
    from lt_eval.records import Frames

PYIQA, OURS = "pyiqa, twice", "ours, both at once"


@dataclass
class Times:
    """Wall and processor seconds of each way, one entry a repeat."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def take(self, way: str, call: Callable[[], Any]) -> Any:
        """Run and time one way."""
        started, spent = time.perf_counter(), time.process_time()
        result = call()
        self.wall.setdefault(way, []).append(time.perf_counter() - started)
        self.processor.setdefault(way, []).append(time.process_time() - spent)
        return result

    def ratio(self, clock: dict[str, list[float]]) -> float:
        """Return how many times faster we are."""
        return statistics.median(clock[PYIQA]) / statistics.median(clock[OURS])


def write_small_checkpoint(folder: Path) -> Path:
    """Return the folder of a seeded checkpoint that `benchmarks/parity/one_align.py` writes."""
    script = Path(__file__).parents[1] / "parity" / "one_align.py"
    spec = importlib.util.spec_from_file_location("parity_one_align", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: Path = module.write_checkpoint(folder)
    return written


def frames_of(count: int, side: int = 512) -> list[Frames]:
    """Return different pictures, uint8 RGB [side, side, 3], with shading, edges and grain."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    found = []
    for index in range(count):
        shading = 120 + 60 * np.sin(x / 37 + index) + 50 * np.cos(y / 23 - index)
        box = 70.0 * ((abs(x - side / 2) < side / 6) & (abs(y - side / 2 + 3 * index) < side / 5))
        colour = np.stack([shading + box, 0.8 * shading - box, 255 - shading], axis=2)
        found.append((colour + rng.normal(0, 8, colour.shape)).clip(0, 255).astype(np.uint8))
    return found


def open_pyiqa(folder: Path, scratch: Path) -> Any:
    """Return `create_metric("qalign")` of a checkpoint, in float32 instead of its float16.

    pyiqa opens the checkpoint by its name in the model hub, or else a folder of that name in the current one.
    """
    (scratch / "q-future").mkdir()
    (scratch / "q-future" / "one-align").symlink_to(folder.resolve(), target_is_directory=True)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    os.chdir(scratch)
    import pyiqa
    from pyiqa.archs.qalign_arch import QAlign

    QAlign._get_model_dtype = staticmethod(lambda _: torch.float32)
    metric = pyiqa.create_metric("qalign", device=torch.device("cpu"))
    metric.net.model.weight_tensor = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    return metric


def with_pyiqa(metric: Any, frames: Sequence[Frames]) -> Any:
    """Return [N, 2] scores, as a user of pyiqa gets them: one call a picture and task."""
    with torch.inference_mode():
        pictures = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 for frame in frames]
        return np.array([[float(metric(picture, task_=task)) for task in TASKS] for picture in pictures])


def with_ours(model: OneAlign, frames: Sequence[Frames], batch: int) -> Any:
    """Return [N, 2] scores."""
    return np.concatenate([model.scores(frames[i : i + batch]) for i in range(0, len(frames), batch)])


@contextmanager
def pictures_seen(tower: torch.nn.Module) -> Iterator[list[int]]:
    """Count the pictures that pass through a vision tower."""
    seen: list[int] = []
    hook = tower.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    yield seen
    hook.remove()


def compare(options: argparse.Namespace) -> str:
    """Return the report of both on one small checkpoint."""
    frames = frames_of(options.pictures)
    times = Times()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        folder = write_small_checkpoint(Path(place) / "tiny")
        ours, theirs = load_one_align(folder, "cpu", "float32"), open_pyiqa(folder, Path(place))
        with (
            pictures_seen(ours.network.model.vision_model) as own,
            pictures_seen(theirs.net.model.model.vision_model) as peer,
        ):
            with_ours(ours, frames, options.batch)
            with_pyiqa(theirs, frames)
        if sum(own) != len(frames) or sum(peer) != 2 * len(frames):
            raise SystemExit(f"pictures through the vision tower: ours {own}, pyiqa {peer}, of {len(frames)}")
        for _ in range(options.repeats):
            times.take(PYIQA, lambda: with_pyiqa(theirs, frames))
            times.take(OURS, lambda: with_ours(ours, frames, options.batch))
            print({way: round(seconds[-1], 3) for way, seconds in times.wall.items()}, file=sys.stderr)
        from transformers import CLIPImageProcessorPil

        theirs.net.image_processor = CLIPImageProcessorPil.from_pretrained(folder)
        difference = np.abs(with_ours(ours, frames, options.batch) - with_pyiqa(theirs, frames)).max()
        os.chdir(here)
    return _report(options, times, difference, sum(own), sum(peer))


def _report(options: argparse.Namespace, times: Times, difference: float, own: int, peer: int) -> str:
    lines = ["| way | median ms a pair | each | median processor ms |", "| --- | --- | --- | --- |"]
    for way, wall in times.wall.items():
        each = ", ".join(f"{1e3 * seconds / options.pictures:.1f}" for seconds in wall)
        spent = 1e3 * statistics.median(times.processor[way]) / options.pictures
        lines.append(f"| {way} | {1e3 * statistics.median(wall) / options.pictures:.1f} | {each} | {spent:.1f} |")
    peers, ours = flops_of_pair(OwlConfig())
    return "\n".join(
        [
            f"Seeded small checkpoint at 448 px in float32, {options.pictures} pictures of 512x512, ours in batches of "
            f"{options.batch}; both ran in turn in one process, {options.repeats} repeats.",
            "",
            *lines,
            "",
            f"Faster: **{times.ratio(times.wall):.1f} x** ({times.ratio(times.processor):.1f} x in processor time). "
            f"Pictures through the vision tower: ours {own}, pyiqa {peer}, of {options.pictures}. Largest "
            f"difference of a score, both with Pillow's resizing: {difference:.1e}.",
            "",
            "The small network is mostly vision tower, so the ratio is that of attention without stored scores, of one "
            "pass instead of two, and of what a call costs. In the published sizes the language model is most of the "
            f"work and sees each prompt anyway: {peers / 1e12:.2f} TFLOP a pair become {ours / 1e12:.2f} (counted on "
            f"the network, not timed), **{peers / ours:.2f} x**; the rest is up to batching, which pyiqa does not do.",
        ]
    )


def sized(config: OwlConfig, device: str, dtype: torch.dtype) -> OneAlign:
    """Return random weights in the sizes of a configuration, with prompts as long as LLaMA's tokenizer makes them."""
    with torch.device("meta"):
        network = MplugOwl2(config).to(dtype)
    if device != "meta":
        network = network.to_empty(device=device)
        for tensor in network.state_dict().values():
            tensor.normal_(0, 0.02)
    prompts = tuple(Prompt(tuple(range(3, 3 + before)), tuple(range(3, 3 + after))) for before, after in PROMPT_LENGTHS)
    with exact_inference():
        prefixes = tuple(network.prefix(prompt.before) for prompt in prompts)
    return OneAlign(network.eval().requires_grad_(False), Wording(prompts, (3, 4, 5, 6, 7)), prefixes)


PROMPT_LENGTHS = ((15, 12), (17, 14))
"""Tokens before and after the picture, quality and aesthetics, about as LLaMA's tokenizer cuts them."""


def flops_of_pair(config: OwlConfig) -> tuple[float, float]:
    """Return the floating point operations of both scores of one frame: everything twice, and ours."""
    model = sized(config, "meta", torch.float16)
    side = config.vision.image_size
    pixels = torch.empty(1, 3, side, side, device="meta", dtype=torch.float16)
    with exact_inference(), FlopCounterMode(display=False) as eyes:
        tokens = model.network.picture_tokens(pixels)
    with exact_inference(), FlopCounterMode(display=False) as language:
        for prefix, prompt in zip(model.prefixes, model.wording.prompts, strict=True):
            model.network.logits(prefix, tokens, prompt.after, model.wording.levels)
    with exact_inference(), FlopCounterMode(display=False) as before:
        for prompt in model.wording.prompts:
            model.network.prefix(prompt.before)
    whole = eyes.get_total_flops() + language.get_total_flops()
    return float(whole + eyes.get_total_flops() + before.get_total_flops()), float(whole)


def full_size(options: argparse.Namespace) -> str:
    """Return the report of our network alone in the published sizes, random weights."""
    dtype = torch.float16 if options.device.startswith("cuda") else torch.float32
    model = sized(OwlConfig(), options.device, dtype)
    frames = frames_of(options.batch)
    pixels = model.pixels(frames)
    seconds = []
    for _ in range(options.repeats + 1):  # the first one warms up
        started = time.perf_counter()
        with exact_inference():
            model.logits(pixels).cpu()
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds[1:])
    work = flops_of_pair(OwlConfig())[1]
    return (
        f"Published sizes, random weights, {options.device}, {dtype}, batch {options.batch}: "
        f"**{options.batch / median:.2f} frames/s** (both scores, prepared pixels to logits), "
        f"{work / 1e12:.2f} TFLOP a frame, {work * options.batch / median / 1e12:.1f} TFLOP/s.\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and print or write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--full-size", action="store_true", help="ours alone, in the published sizes")
    parser.add_argument("--device", default="cpu", help="of --full-size")
    parser.add_argument("--out", type=Path, help="write the report here instead of printing it")
    options = parser.parse_args(arguments)
    out = options.out.resolve() if options.out else None
    body = full_size(options) if options.full_size else compare(options)
    words = " ".join(["python benchmarks/speed/qalign.py", *(arguments if arguments is not None else sys.argv[1:])])
    peers = "" if options.full_size else f", pyiqa {version('pyiqa')}, transformers {version('transformers')}"
    threads = os.environ.get("OMP_NUM_THREADS")
    words = f"OMP_NUM_THREADS={threads} {words}" if threads else words
    machine = f"{os.cpu_count()}-core {platform.machine()} CPU, torch {torch.__version__}"
    report = (
        f"# IQA and ASE of a frame against pyiqa called twice\n\n    {words}\n\n"
        f"{date.today().isoformat()}, {machine}, Python {platform.python_version()}{peers}. {body}\n"
    )
    if out:
        out.write_text(report, encoding="utf-8")
    else:
        print(report)


if __name__ == "__main__":
    main()
