"""How much faster is the few-step student than the teacher that it was distilled from? One run, and a report.

The teacher samples the whole clip in both directions with 48 guided steps and gives it as one chunk; the student
streams with four steps. Both get the same portrait and the same speech in a round, in turns (who begins changes with
every round), each in a process of its own, timed by the clock of `lt-eval bench`. On a processor the student has a
thread for each of its two lanes; the teacher has one or two, whichever was faster in a turn before the rounds, since
networks as small as these may be slower on two threads that other work disturbs.

Speed does not depend on what the weights are, so seeded ones will do: that is what is taken without --student and
--teacher.

    python benchmarks/speed/teacher.py --report benchmarks/speed/teacher.md
    python benchmarks/speed/teacher.py --student OUT/mini.safetensors --teacher OUT/teacher/teacher.safetensors
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lt_eval import provenance
from lt_eval.bench import work
from lt_eval.bench.figures import figures_of
from lt_eval.bench.host import Host, Loaded
from lt_eval.bench.work import Drive
from lt_eval.errors import LtEvalError

PAPER = {"throughput_fps": (0.97, 24.82), "first_frame_s": (83.44, 0.33)}
"""Teacher and student in Table 1 of arXiv 2512.23576: OmniAvatar-1.3B and LiveTalk, on an unnamed GPU."""

NAMES = ("teacher", "student")


@dataclass(frozen=True)
class Measured:
    """One of the two.

    Attributes:
        name: teacher or student.
        settings: what it says decides its speed.
        rounds: figures of each round, by name (`lt_eval.bench.figures`).
        gpus: that it used.
    """

    name: str
    settings: Mapping[str, Any]
    rounds: Sequence[Mapping[str, float]]
    gpus: Sequence[str]

    def median(self, figure: str) -> float:
        """Return a figure's median over the rounds."""
        return statistics.median(round_[figure] for round_ in self.rounds)


def options_of(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the options of each generator; both have the same preset, dtype, device and number of threads."""
    shared = {"preset": given.preset, "dtype": given.dtype, "device": given.device}
    return {
        "teacher": shared | {
            "weights": given.teacher or "random", "steps": given.steps, "guidance": given.guidance
        },
        "student": shared | {"weights": given.student or "random", "threads": 1},
    }  # fmt: skip


def fastest(options: Mapping[str, Any], threads: Sequence[int], drive: Drive) -> Mapping[str, Any]:
    """Return the teacher's options with the number of threads, of those given, that makes a turn soonest."""
    took: dict[int, float] = {}
    for number in threads if len(threads) > 1 else ():
        with Host("teacher", {**options, "threads": number}, {}) as host:
            host.call(work.warm_up, drive, 1, what="was warming up")
            one: work.TimedRun = host.call(work.timed_run, drive, 0)
            took[number] = one.timeline.ended_s
        print(f"teacher on {number} threads: {took[number]:.2f} s a turn", file=sys.stderr)
    return {**options, "threads": min(took, key=lambda number: took[number]) if took else threads[0]}


def measure(options: Mapping[str, Mapping[str, Any]], drive: Drive, rounds: int) -> list[Measured]:
    """Time both in turns.

    Raises:
        LtEvalError: one of them cannot be made, or a turn failed: a ratio of what is left would mean nothing.
    """
    generators = {"teacher": "teacher", "student": "reference"}
    figures: dict[str, list[Mapping[str, float]]] = {name: [] for name in NAMES}
    gpus: dict[str, set[str]] = {name: set() for name in NAMES}
    with ExitStack() as stack:
        hosts = {name: stack.enter_context(Host(generators[name], options[name], {})) for name in NAMES}
        loaded: dict[str, Loaded] = {name: host.load() for name, host in hosts.items()}
        for name in NAMES:
            hosts[name].call(work.warm_up, drive, 1, what="was warming up")
        for number in range(rounds):
            for name in NAMES if number % 2 == 0 else NAMES[::-1]:
                one: work.TimedRun = hosts[name].call(work.timed_run, drive, number)
                gpus[name].update(one.gpus)
                figures[name].append(
                    figures_of(one.timeline, loaded[name].fps, 0.0, loaded[name].block_frames, one.energy)
                )
                print(f"round {number + 1}: {name} {figures[name][-1]['throughput_fps']:.2f} FPS", file=sys.stderr)
    return [Measured(name, loaded[name].settings, figures[name], sorted(gpus[name])) for name in NAMES]


def ratios(teacher: Measured, student: Measured) -> dict[str, float]:
    """Return how many times faster the student is, by throughput and by first frame, from the medians."""
    return {
        "throughput_fps": student.median("throughput_fps") / teacher.median("throughput_fps"),
        "first_frame_s": teacher.median("first_frame_s") / student.median("first_frame_s"),
    }


def report(found: Sequence[Measured], drive: Drive, command: str) -> str:
    """Return the report as Markdown."""
    teacher, student = found
    times, hardware = ratios(teacher, student), provenance.describe()["hardware"]
    gpus = sorted({*teacher.gpus, *student.gpus})
    on = ", ".join(gpus) or f"{hardware['cpu']}, {hardware['cores']} cores, no GPU"
    own = teacher.settings
    load = os.getloadavg()[1]
    lines = [
        "# The student against its teacher",
        "",
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, on {on}; torch {provenance.describe()['versions']['torch']}. "
        f"Preset {own['preset']}, {own['size']}x{own['size']}, {own['dtype']}; {drive.seconds:g} seconds of speech, "
        f"rounds in turns: {len(teacher.rounds)}; median and extremes. Wall times; load average of the five minutes "
        f"before the end {load:.1f} on {hardware['cores']} cores.",
        "",
        "| | weights | threads | steps | guidance | frames a second | first frame, s | wall time over video time |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one, how in ((teacher, "bidirectional, whole clip"), (student, "causal, streamed")):
        cells = [_spread(one, name, digits) for name, digits in (
            ("throughput_fps", 2), ("first_frame_s", 3), ("real_time_factor", 3)
        )]  # fmt: skip
        threads = one.settings["threads"] * (2 if one is student else 1)  # of the student's, each lane has so many
        guidance = f"{one.settings['guidance']:g}" if "guidance" in one.settings else "none"
        lines.append(
            f"| {one.name}: {how} | {one.settings['weights']} | {threads} | {one.settings['steps']} | {guidance} | "
            f"{' | '.join(cells)} |"
        )
    paper = {name: max(pair) / min(pair) for name, pair in PAPER.items()}
    (slow, fast), (late, soon) = PAPER["throughput_fps"], PAPER["first_frame_s"]
    lines += [
        "",
        f"**The student is {times['throughput_fps']:.1f} times as fast, and its first frame comes "
        f"{times['first_frame_s']:.1f} times as soon.**",
        "",
        f"The paper has {paper['throughput_fps']:.0f} and {paper['first_frame_s']:.0f} times for its 1.3B model: "
        f"{slow} and {fast} FPS, {late:.2f} s and {soon} s (Table 1). By the count of forwards, "
        f"{own['steps'] * (2 if own['guidance'] != 1 else 1)} of the teacher stand against "
        f"{student.settings['steps']} and a clean pass of the student; decoding costs both the same.",
    ]
    return "\n".join(lines) + "\n"


def _spread(one: Measured, figure: str, digits: int) -> str:
    values = [round_[figure] for round_ in one.rounds]
    return f"{one.median(figure):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> int:
    """Measure, print the report, write it, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", help="a bundle; seeded weights by default")
    parser.add_argument("--teacher", help="a bundle; seeded weights by default")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--steps", type=int, default=48, help="of the teacher")
    parser.add_argument("--guidance", type=float, default=4.5, help="of the teacher; 1 is none")
    parser.add_argument("--teacher-threads", type=int, nargs="+", default=[1, 2], help="the faster of these is timed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--size", type=int, default=256, help="side of the portrait in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--report", type=Path, help="write the report there")
    given = parser.parse_args()
    drive = Drive(seconds=given.seconds, size=given.size)
    try:
        options = options_of(given)
        options["teacher"] = dict(fastest(options["teacher"], given.teacher_threads, drive))
        found = measure(options, drive, max(1, given.rounds))
    except LtEvalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = report(found, drive, " ".join(["python", "benchmarks/speed/teacher.py", *sys.argv[1:]]))
    print(text)
    if given.report:
        given.report.write_text(text, encoding="utf-8")
    print(json.dumps({"ratios": ratios(*found), "rounds": {one.name: one.rounds for one in found}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
