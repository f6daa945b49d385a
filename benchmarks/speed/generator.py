"""How fast is the reference generator, and how far from what the chip can do? One command, and a report.

On a GPU: the 1.3B shape of the paper with random weights, bf16, 512x512, four steps and a clean pass, a window of five
blocks, decode included, once with the full VAE and once with the tiny decoder, and each again with every one of the
options in `SPEED_OPTIONS` that the generator has. On a CPU: the nano size, which shows that the script works and says
nothing about the model of the paper.

The figures are those of `lt-eval bench`: end to end, denoising alone, decoding alone. FLOP are counted
(`lt_eval.bench.flops`), never measured, so TFLOP/s is arithmetic of the model over wall time.

    python benchmarks/speed/generator.py --report benchmarks/speed/generator.md
    python benchmarks/speed/generator.py --preset mini --runs 5
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lt_eval.bench.flops import block_flop, decode_flop, denoise_flop
from lt_eval.bench.run import BenchSpec, run
from lt_eval.bench.work import Drive
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.progress import Progress
from lt_eval.registry import load, parameters

SPEED_OPTIONS = ("compile", "graphs")
"""Options of the generator that change its speed and not its frames; taken where it has them."""

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "4090": 165.0}
"""Dense bf16, from the makers' data sheets, by a part of the GPU's name."""

TARGETS = {"tiny": 60.0, "wan": 40.0}
FIRST_FRAME_S = 0.15
PAPER = "24.82 FPS, 0.33 s on an unnamed GPU, decode included or not is not stated (arXiv 2512.23576, Table 1)"


@dataclass(frozen=True)
class Case:
    """One configuration of the generator."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """Its figures: FPS and seconds as measured, TFLOP a block as counted; None where there is no value.

    Attributes:
        case: what was measured.
        steady_fps: end to end, from the sixth block on.
        throughput_fps: the whole turn.
        first_frame_s: compute.
        denoise_fps: without decode.
        decode_fps: without denoise.
        tflop: a steady block with its clean pass, and its decode.
        frames: of a steady block.
        gpus: by name.
        failures: of runs.
    """

    case: Case
    steady_fps: float | None
    throughput_fps: float | None
    first_frame_s: float | None
    denoise_fps: float | None
    decode_fps: float | None
    tflop: tuple[float, float]
    frames: int
    gpus: Sequence[str]
    failures: Sequence[str]

    def rate(self, tflop: float, fps: float | None) -> float | None:
        """TFLOP/s of so much a block at so many frames a second."""
        return None if fps is None else tflop * fps / self.frames

    @property
    def block_ms(self) -> float | None:
        """Milliseconds of a steady block, end to end."""
        return None if self.steady_fps is None else 1000 * self.frames / self.steady_fps


def cases(preset: str, *, gpu: bool) -> list[Case]:
    """Return what is measured: on a GPU both decoders, and every speed option that the generator has."""
    known = parameters(load("generators", "reference"))
    base: dict[str, Any] = {"preset": preset, "weights": "random", "dtype": "bfloat16" if gpu else "float32"}
    codecs = ("tiny", "wan") if preset == "livetalk" else (None,)
    found = []
    for codec in codecs:
        options = base | ({"codec": codec} if codec else {})
        name = f"{preset}, {codec or 'own'} decoder"
        found.append(Case(name, options))
        extra = {option: True for option in SPEED_OPTIONS if option in known}
        if gpu and extra:
            found.append(Case(f"{name}, {' and '.join(extra)}", options | extra))
    return found


def measure(case: Case, *, seconds: float, runs: int, out: Path) -> Found:
    """Run one bench, and set its figures beside the count."""
    config = ReferenceGenerator(**case.options).settings
    drive = Drive(seconds=seconds, size=config.size)
    with Progress() as progress:
        spec = BenchSpec("reference", case.options, drive, runs=runs, warmups=2, timeout_s=900.0)
        result = run(spec, out, progress=progress, say=progress.say).result
    figures, stages = result["figures"], result["stages"] or {}

    def mean(table: Mapping[str, Any], name: str) -> float | None:
        value = table.get(name)
        return None if not isinstance(value, Mapping) else float(value["mean"])

    steady = config.stream.steady_block
    return Found(
        case,
        mean(figures, "steady_fps"),
        mean(figures, "throughput_fps"),
        mean(figures, "first_frame_s"),
        mean(stages, "denoise_fps"),
        mean(stages, "decode_fps"),
        (block_flop(config, steady) / 1e12, decode_flop(config)[1] / 1e12),
        result["block_frames"][-1],
        result["gpus"],
        result["failures"],
    )


def peak_of(gpus: Sequence[str]) -> float | None:
    """Return the data sheet's bf16 TFLOP/s of the GPU in use; None where it is not in the table."""
    return next((peak for name, peak in PEAK_TFLOPS.items() for gpu in gpus if name in gpu), None)


def table(found: Sequence[Found]) -> list[str]:
    """Return a Markdown table."""
    head = (
        "| case | steady FPS | whole turn FPS | first frame s | denoise FPS | decode FPS | ms a block | "
        "TFLOP a block | TFLOP/s end to end | denoise | decode | of peak |"
    )
    lines = [head, "|---" + "|---:" * 11 + "|"]
    for one in found:
        denoise, decode = one.tflop
        whole, peak = one.rate(denoise + decode, one.steady_fps), peak_of(one.gpus)
        cells = (
            _cell(one.steady_fps, 1), _cell(one.throughput_fps, 1), _cell(one.first_frame_s, 3),
            _cell(one.denoise_fps, 1), _cell(one.decode_fps, 1), _cell(one.block_ms, 1),
            f"{denoise:.4g} + {decode:.4g}", _cell(whole, 4), _cell(one.rate(denoise, one.denoise_fps), 4),
            _cell(one.rate(decode, one.decode_fps), 4),
            "not known" if peak is None or whole is None else f"{100 * whole / peak:.0f} %",
        )  # fmt: skip
        lines.append(f"| {one.case.name} | {' | '.join(cells)} |")
    return lines


def _cell(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def verdicts(found: Sequence[Found]) -> list[str]:
    """Return what the figures say of the targets; on a CPU, that the run which counts is owed."""
    if not any(one.gpus for one in found):
        return [
            "**The GPU run is owed.** No GPU was at hand: this is a run of the same script at a small size on a "
            "processor. It shows that the script and its counts work. It says nothing about the 1.3B shape, and none "
            "of the targets (60 FPS with the tiny decoder, 40 FPS with the full VAE, 0.15 s) has been measured."
        ]
    lines = []
    for one in found:
        target = TARGETS.get(str(one.case.options.get("codec")))
        if target is not None and one.steady_fps is not None and one.first_frame_s is not None:
            speed = "reached" if one.steady_fps >= target else "missed"
            first = "reached" if one.first_frame_s <= FIRST_FRAME_S else "missed"
            lines.append(
                f"- {one.case.name}: {target:g} FPS {speed} ({one.steady_fps:.1f}); first frame in {FIRST_FRAME_S:g} s "
                f"{first} ({one.first_frame_s:.3f} s)."
            )
    return lines


def report(found: Sequence[Found], manifest: Mapping[str, Any], command: str) -> str:
    """Return the report as Markdown."""
    hardware = manifest["hardware"]
    on = ", ".join(hardware["gpus"]) or f"{hardware['cpu']}, {hardware['cores']} cores, no GPU"
    first = ReferenceGenerator(**found[0].case.options).settings
    share = denoise_flop(first, 0) / 1e12
    return "\n".join(
        [
            "# The reference generator against its arithmetic",
            "",
            f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, on {on}; torch {manifest['versions']['torch']}. Random "
            f"weights; {first.size}x{first.size}, {first.stream.steps} steps and a clean pass, "
            f"{first.stream.window_blocks} blocks of window. Wall times, on whatever else the machine was doing.",
            "",
            *verdicts(found),
            "",
            *table(found),
            "",
            f"FLOP a block are counted: denoising with its clean pass + decoding. The first block's four steps are "
            f"{share:.4g} TFLOP. A published figure to compare with: {PAPER}.",
            "",
            *[f"- failed: {one.case.name}: {failure}" for one in found for failure in one.failures],
        ]
    )


def main() -> int:
    """Measure, print the table, write the report, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", help="livetalk on a GPU, nano elsewhere")
    parser.add_argument("--seconds", type=float, default=10.0, help="audio of a run; ten are 13 blocks at 16 fps")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--report", type=Path, help="write the report there")
    options = parser.parse_args()
    gpu = shutil.which("nvidia-smi") is not None
    found = []
    manifest: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases(options.preset or ("livetalk" if gpu else "nano"), gpu=gpu)):
            out = Path(folder) / str(number)
            print(f"{case.name} ...", file=sys.stderr, flush=True)
            found.append(measure(case, seconds=options.seconds, runs=options.runs, out=out))
            manifest = json.loads((out / "manifest.json").read_text())
    command = " ".join(["python", "benchmarks/speed/generator.py", *sys.argv[1:]])
    text = report(found, manifest, command)
    print(text)
    if options.report:
        options.report.write_text(text.rstrip() + "\n", encoding="utf-8")
    results = [{**vars(one), "case": one.case.name, "block_ms": one.block_ms} for one in found]
    print(json.dumps({"hardware": manifest["hardware"], "cases": results}))
    return 1 if any(one.failures for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
