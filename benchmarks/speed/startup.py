"""How long it takes before lt-eval does anything: a command line that answers late is one that nobody explores.

Whole processes are timed, in turns with a bare interpreter, because the interpreter's own start is in every figure and
a busy machine slows all of them alike. Goals, interpreter included: `import lt_eval` under 50 ms and `lt-eval --help`
under 400 ms.

    python benchmarks/speed/startup.py [--runs 20]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import lt_eval": [sys.executable, "-c", "import lt_eval"],
    "import lt_eval.cli": [sys.executable, "-c", "import lt_eval.cli"],
    "lt-eval --help": [sys.executable, "-c", "from lt_eval.cli import main; main()", "--help"],
}
GOALS_MS = {"import lt_eval": 50.0, "lt-eval --help": 400.0}


def milliseconds(command: list[str]) -> float:
    """Return the wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return 1e3 * (time.perf_counter() - start)


def heaviest_imports(command: list[str], count: int) -> list[tuple[float, str]]:
    """Return (cumulative ms, module) of what an interpreter says it spent the most time on."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    report = subprocess.run(timed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True).stderr
    lines = (line.removeprefix("import time:").split("|") for line in report.splitlines() if line.count("|") == 2)
    found = [(int(total) / 1e3, name.strip()) for _, total, name in lines if total.strip().isdigit()]
    return sorted(found, reverse=True)[:count]


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="processes of each kind")
    runs: int = parser.parse_args().runs
    for command in COMMANDS.values():
        milliseconds(command)  # compiles what is new, fills the file cache
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(milliseconds(command))
    medians = {name: statistics.median(found) for name, found in times.items()}
    bare = medians["python -c pass"]
    for name, median in medians.items():
        goal = f"   goal {GOALS_MS[name]:.0f} ms" if name in GOALS_MS else ""
        print(f"{name:20} {median:7.1f} ms   {median - bare:7.1f} ms above the bare interpreter{goal}")
    print("\nheaviest imports of `lt-eval --help`, with all that each brings along")
    for spent, module in heaviest_imports(COMMANDS["lt-eval --help"], 25):
        print(f"{spent:9.1f} ms  {module}")
    print(json.dumps({"runs": runs, "median_ms": {name: round(value, 1) for name, value in medians.items()}}))


if __name__ == "__main__":
    main()
