"""The paper's recogniser: FunASR's Paraformer, from a local folder, in a process of its own.

Apart, since funasr brings forty packages, reseeds every random generator and sets the number of threads for the whole
process. Its interpreter may be another environment's. Only a local folder is taken: FunASR takes anything else for an
id, asks the network at every start, and its short names are not what they seem.

The model was trained on at most 20 s at a time: give the folder of an FSMN voice activity detector, which also keeps
silence from becoming words.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from lt_eval.errors import UnscorableError, UsageError
from lt_eval.fingerprint import of_file
from lt_eval.store import key_of

if TYPE_CHECKING:
    from lt_eval.records import Audio

PAPER_MODEL = "iic/speech_paraformer_asr-en-16k-vocab4199-pytorch"
PAPER_VOCABULARY = 4199
OTHER_MODEL = "iic/speech_paraformer-large-vad-punc_asr_nat-en-16k-common-vocab10020"
"""What FunASR's short name `paraformer-en` means."""

NEEDED = ("config.yaml", "configuration.json", "model.pt")
LONGEST_SEGMENT_S = 20
WORKER = Path(__file__).with_name("paraformer_worker.py")


@dataclass(frozen=True)
class FunASR:
    """Hears with a Paraformer. The process starts with the first sound and ends with this object's `close`.

    Attributes:
        model: folder of the model, such as a download of `PAPER_MODEL`.
        vad: folder of a voice activity detector (FSMN); "" hears each sound whole.
        python: interpreter of an environment with funasr; "" is this one.
        device: "cpu", "cuda:0" ...
    """

    model: str = ""
    vad: str = ""
    python: str = ""
    device: str = "cpu"
    _held: dict[str, subprocess.Popen[str]] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look at the folders before anything is started.

        Raises:
            UsageError: a folder is not there or holds no model.
        """
        _check_folder(self.model, "model", PAPER_MODEL)
        if self.vad:
            _check_folder(self.vad, "vad", "iic/speech_fsmn_vad_zh-cn-16k-common-pytorch")

    @property
    def fingerprint(self) -> str:
        """Changes with every file of the models that FunASR reads."""
        folders = [Path(name).expanduser() for name in (self.model, self.vad) if name]
        files = [(path.name, of_file(path)) for folder in folders for path in sorted(folder.iterdir())]
        return key_of("funasr", files, LONGEST_SEGMENT_S, of_file(WORKER))

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows: 4199 for the paper's; 0 where its folder lists none."""
        path = Path(self.model).expanduser() / "tokens.json"
        return len(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0

    @property
    def description(self) -> str:
        """What a table's footnote says."""
        name = Path(self.model).expanduser().name
        size = self.vocabulary
        same = "the size of the paper's model" if size == PAPER_VOCABULARY else f"the paper's has {PAPER_VOCABULARY}"
        return f"FunASR {name}, vocabulary {size} ({same}), {'VAD segments' if self.vad else 'no VAD'}"

    def transcribe(self, audio: Audio) -> str:
        """Return the words of float32 [T] mono 16 kHz audio, lower case, without punctuation; "" for silence.

        Raises:
            UnscorableError: FunASR fails on this sound.
            UsageError: it does not start.
        """
        if not len(audio):
            return ""
        with self._lock:
            process = self._held.get("worker") or self._start()
            answer = _ask(process, {"audio": base64.b64encode(np.asarray(audio, "<f4").tobytes()).decode()})
            if answer is None:
                _end(self._held.pop("worker"))
                raise UnscorableError("not_transcribed", f"FunASR's process ended (exit code {process.returncode})")
        if "error" in answer:
            raise UnscorableError("not_transcribed", f"FunASR: {answer['error']}")
        return str(answer["text"]).strip()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            process = self._held.pop("worker", None)
        if process is not None:
            _end(process)

    def __enter__(self) -> FunASR:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[str]:
        command = [self.python or sys.executable, str(WORKER)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        except OSError as cause:
            raise UsageError(f"funasr: {command[0]} cannot be started ({cause.strerror}).") from cause
        self._held["worker"] = process
        paths = {"model": self.model, "vad": self.vad}
        setup: dict[str, Any] = {name: str(Path(path).expanduser()) if path else "" for name, path in paths.items()}
        answer = _ask(process, setup | {"device": self.device, "longest_segment_s": LONGEST_SEGMENT_S})
        if answer is None or "error" in answer:
            why = "it ended without a word" if answer is None else answer["error"]
            _end(self._held.pop("worker"))
            raise UsageError(
                f"funasr: {command[0]} does not run FunASR ({why}). Name the interpreter of an environment with "
                "`pip install funasr torch torchaudio`: python = PATH."
            )
        return process


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _end(process: subprocess.Popen[str]) -> None:
    """Let the process end by itself, or end it, and let go of its pipes."""
    with contextlib.suppress(OSError):
        _pipe(process.stdin).close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _pipe(process.stdout).close()


def _ask(process: subprocess.Popen[str], message: dict[str, Any]) -> dict[str, Any] | None:
    """Send one line and return the answer's; None where the process is gone."""
    try:
        _pipe(process.stdin).write(json.dumps(message) + "\n")
        _pipe(process.stdin).flush()
    except OSError:
        return None
    line = _pipe(process.stdout).readline()
    answer: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
    return answer


def _check_folder(name: str, option: str, meant: str) -> None:
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():
        alias = f" FunASR's short name `paraformer-en` is another model, {OTHER_MODEL}." if "paraformer" in name else ""
        raise UsageError(
            f"funasr: {option} = {name!r} must be a local folder. Download {meant} from ModelScope on a machine with "
            f"a network (`modelscope download --model {meant} --local_dir FOLDER`) and name that folder.{alias}"
        )
    absent = [file for file in NEEDED if not (folder / file).is_file()]
    if absent:
        raise UsageError(f"funasr: {folder} lacks {', '.join(absent)}: it is no whole download of a FunASR model.")
