"""The command that starts vLLM as a judge. It is the user's vLLM, in the user's environment; nothing is imported."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from lt_eval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

PAPER_MODEL = "Qwen/Qwen3-VL-30B-A3B-Instruct"

FASTEST_HZ = 240
"""Above the rate of any clip: `max_frames` alone then says how many frames a server keeps."""


@dataclass(frozen=True)
class ServeOptions:
    """How to start it.

    Attributes:
        model: Hugging Face id or local folder of the judge.
        vllm: path of the `vllm` command; "" looks for it.
        python: path of an interpreter whose environment holds vLLM, used instead of the command.
        host: to listen at.
        port: to listen at.
        frames: as in `JudgeOptions`.
        max_frames: as in `JudgeOptions`.
        videos: most of them in one conversation.
        max_model_len: tokens of a conversation with its answer; about 9,500 a turn at 32 frames.
        tensor_parallel: GPUs that one copy of the model is spread over.
        served_name: under which the judge is served; "" is the model's own.
        media_folder: below which file:// addresses are allowed; "" allows none.
        extra: further arguments, as they are.
    """

    model: str = PAPER_MODEL
    vllm: str = ""
    python: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    frames: Literal["portable", "paper"] = "portable"
    max_frames: int = 32
    videos: int = 8
    max_model_len: int = 98_304
    tensor_parallel: int = 1
    served_name: str = ""
    media_folder: str = ""
    extra: tuple[str, ...] = ()


def serve_command(options: ServeOptions, *, here: bool = True) -> list[str]:
    """Return the command line.

    Args:
        options: of the server.
        here: whether vLLM must be on this machine; a command for another one needs none.

    Raises:
        UsageError: there is no vLLM where it is looked for.
    """
    program = _module(options.python, here) if options.python else _program(options.vllm, here)
    command = [*program, options.model]
    command += ["--host", options.host, "--port", str(options.port)]
    command += ["--max-model-len", str(options.max_model_len)]
    command += ["--limit-mm-per-prompt", json.dumps({"image": 0, "video": options.videos})]
    # what a request leaves open must not come from a file beside the weights: it would not be in the reply's key
    command += ["--generation-config", "vllm"]
    command += ["--enable-prompt-tokens-details"]
    if options.frames == "paper":
        kept = {"fps": FASTEST_HZ, "max_frames": options.max_frames, "num_frames": options.max_frames}
        command += ["--media-io-kwargs", json.dumps({"video": kept})]
        # of a clip that the reader kept whole, the model's own processor would take 2 frames a second again
        command += ["--mm-processor-kwargs", json.dumps({"do_sample_frames": False})]
    if options.tensor_parallel > 1:
        command += ["--tensor-parallel-size", str(options.tensor_parallel)]
    if options.served_name:
        command += ["--served-model-name", options.served_name]
    if options.media_folder:
        command += ["--allowed-local-media-path", str(Path(options.media_folder).expanduser().resolve())]
    return [*command, *options.extra]


def start(command: Sequence[str]) -> NoReturn:
    """Become the server: its output, signals and exit code are those of this process.

    Raises:
        UsageError: it cannot be started.
    """
    try:
        os.execvp(command[0], list(command))
    except OSError as cause:
        raise UsageError(f"{command[0]}: cannot be started ({cause.strerror}).") from cause


def _program(vllm: str, here: bool) -> list[str]:
    found = shutil.which(vllm or "vllm")
    if found is None and here:
        where = f"There is no program {vllm!r}" if vllm else "There is no `vllm` on the PATH"
        raise UsageError(
            f"{where}. vLLM is installed apart from lt-eval, since it pins its own torch:\n"
            "    python3 -m venv ~/vllm && ~/vllm/bin/pip install vllm\n"
            "    lt-eval judge serve --vllm ~/vllm/bin/vllm"
        )
    return [found or vllm or "vllm", "serve"]


def _module(python: str, here: bool) -> list[str]:
    if here and shutil.which(python) is None:
        raise UsageError(f"There is no interpreter {python!r}. Name the python of the environment that holds vLLM.")
    return [python, "-m", "vllm.entrypoints.openai.api_server", "--model"]
