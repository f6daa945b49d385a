"""Q-Align by pyiqa, in a process of its own: importing it patches classes of transformers and edits the module path.

    python -m lt_eval.metrics.qalign_pyiqa FOLDER DEVICE DTYPE

reads frames from standard input, a line "height width" and the bytes of uint8 RGB, and writes a line of JSON for each,
[quality, aesthetics]. pyiqa opens the checkpoint by its name in the model hub; a folder of that name in the current one
is taken instead, so nothing of pyiqa is changed but its precision and, where transformers resizes with torchvision, the
resizing: Pillow's, as published.

pyiqa is licensed PolyForm-Noncommercial-1.0.0. It is never installed unless asked for: pip install 'lt-eval[qalign]'.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lt_eval.errors import MissingExtraError, WeightsError
from lt_eval.metrics.qalign_inputs import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lt_eval.records import Frames

HUB_NAME = "q-future/one-align"

PACKAGES = ("pyiqa", "icecream", "transformers", "torchvision")
"""pyiqa 0.1.16 imports icecream without requiring it."""


def require_pyiqa() -> None:
    """Refuse to go on where a package is missing.

    Raises:
        MissingExtraError: names it, and pyiqa's licence.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        what = "Q-Align with loader = 'pyiqa' (licensed PolyForm-Noncommercial-1.0.0: no commercial use)"
        raise MissingExtraError(what, "qalign", f"not installed: {', '.join(missing)}")


class PyiqaProcess:
    """A running process that scores frames until `close` is called, the object is gone, or this process ends.

    Args:
        folder: of the checkpoint.
        device: "cpu", "cuda" ...
        dtype: "float32", "float16" or "bfloat16".

    Raises:
        MissingExtraError: pyiqa is not installed.
        WeightsError: pyiqa could not load the checkpoint.
    """

    def __init__(self, folder: Path, device: str, dtype: str) -> None:
        require_pyiqa()
        self._folder = folder
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder.resolve()), device, dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.close = weakref.finalize(self, _end, self._process, self._log)  # at the latest when Python ends
        self._answer()

    def scores(self, frames: Sequence[Frames]) -> NDArray[np.float32]:
        """Return float32 [N, 2] in 1..5 of uint8 RGB frames, one after the other: pyiqa takes no batches."""
        assert self._process.stdin is not None
        answers = []
        for frame in frames:
            height, width = frame.shape[:2]
            with contextlib.suppress(BrokenPipeError):  # it has ended: what it said is in the log
                self._process.stdin.write(f"{height} {width}\n".encode() + np.ascontiguousarray(frame).tobytes())
                self._process.stdin.flush()
            answers.append(self._answer())
        return np.array(answers, np.float32)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise WeightsError(f"pyiqa could not score with {self._folder} (exit status {status}): {said[-1]}")


def _end(process: subprocess.Popen[bytes], log: BinaryIO) -> None:
    """Close the input, at which the process ends, and wait for it."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    log.close()


def _load(folder: str, device: str, dtype: str) -> Any:
    """Return pyiqa's metric of a checkpoint, in the precision asked for."""
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        named = Path(HUB_NAME)
        named.parent.mkdir()
        named.symlink_to(folder, target_is_directory=True)
        import torch
        from pyiqa import create_metric
        from pyiqa.archs.qalign_arch import QAlign

        precision = getattr(torch, dtype)
        QAlign._get_model_dtype = staticmethod(lambda _: precision)
        metric = create_metric("qalign", device=torch.device(device))
        metric.net.model.weight_tensor = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0], dtype=precision, device=device)
        try:
            from transformers import CLIPImageProcessorPil
        except ImportError:  # older ones resize with Pillow anyway
            return metric
        metric.net.image_processor = CLIPImageProcessorPil.from_pretrained(HUB_NAME)
        return metric


def main() -> None:
    """Score frames until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    metric = _load(*sys.argv[1:4])
    import torch

    print(json.dumps("ready"), file=answers, flush=True)
    while line := sys.stdin.buffer.readline():
        height, width = map(int, line.split())
        levels = np.frombuffer(sys.stdin.buffer.read(height * width * 3), np.uint8).reshape(height, width, 3)
        frame = levels.copy()  # torch warns of arrays that cannot be written
        picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            rated = [float(metric(picture, task_=task)) for task in TASKS]
        print(json.dumps(rated), file=answers, flush=True)


if __name__ == "__main__":
    main()
