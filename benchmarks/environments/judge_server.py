"""A real vLLM server on this machine's CPU, with a tiny Qwen3-VL of random weights: for tests and measurements.

    python benchmarks/environments/judge_server.py              # builds what is missing, serves until Ctrl-C
    python benchmarks/environments/judge_server.py --build      # builds the environment and the model only

The environment (3.5 GB) is built once into lt-eval's cache folder, the model beside it. The command is the one of
`lt-eval judge serve`, with what a CPU needs beside.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import httpx

from lt_eval.judge.serve import ServeOptions, serve_command

HERE = Path(__file__).parent
LOCK, SHIM, TINY = HERE / "judge_server.txt", HERE / "shim", HERE / "tiny_judge.py"
MODEL = "tiny-judge"
LONGEST = 40_960
START_S = 240.0


def _build_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environments_build", HERE / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interpreter() -> Path:
    """Return the python of the environment, building it unless it is there."""
    path: Path = _build_module().build(LOCK)
    return path


def environment() -> dict[str, str]:
    """Return the environment variables of vLLM on a CPU: nothing from the network, a gigabyte of cache."""
    own = {"PYTHONPATH": str(SHIM), "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    return {**os.environ, **own}


def model_folder() -> Path:
    """Return the folder of the tiny model, making it unless it is there."""
    python = interpreter()
    folder = python.parents[1] / "tiny_judge"
    stamp = folder / "made_by.py"
    if not stamp.is_file() or stamp.read_bytes() != TINY.read_bytes():
        command = [str(python), str(TINY), str(folder)]
        subprocess.run(command, check=True, env=environment(), capture_output=True)
        stamp.write_bytes(TINY.read_bytes())
    return folder


def command(port: int, frames: str = "portable") -> list[str]:
    """Return the command of the server."""
    # vLLM 0.32 sets a seeded request's random state back after a part of its prompt, which torch's CPU generator
    # cannot: prompts must not be taken in parts
    whole = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", str(LONGEST))
    options = ServeOptions(
        model=str(model_folder()),
        python=str(interpreter()),
        port=port,
        frames="paper" if frames == "paper" else "portable",
        max_model_len=LONGEST,
        served_name=MODEL,
        extra=("--enforce-eager", "--dtype", "float32", *whole),
    )
    return serve_command(options)


@contextmanager
def serving(frames: str = "portable") -> Iterator[str]:
    """Start the server, yield its address once it answers, and end it with all its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.NamedTemporaryFile(prefix="judge-server-", suffix=".log") as log:
        process = subprocess.Popen(
            command(port, frames),
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        try:
            _wait(url, process, Path(log.name))
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its engine outlives it now and then
            process.wait()


def _end_with_parent() -> None:
    """Have the kernel end the server when whoever started it is killed: Linux's prctl(PR_SET_PDEATHSIG)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/health", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    tail = log.read_text(errors="replace")[-4000:]
    raise RuntimeError(f"the judge server did not come up (exit code {process.poll()}):\n{tail}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, and serve until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--build", action="store_true", help="stop when all is built")
    parser.add_argument("--frames", choices=("portable", "paper"), default="portable")
    chosen = parser.parse_args(arguments)
    print(model_folder(), file=sys.stderr)
    if chosen.build:
        return
    with serving(chosen.frames) as url:
        print(url, flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
