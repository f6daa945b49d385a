"""The process that runs FunASR: lines of JSON in, lines of JSON out. Runs in any environment that has funasr.

The first line names the folders, every other one holds a sound; each is answered by one line. Imports nothing of
lt-eval. Whatever FunASR prints goes to standard error.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from typing import IO, Any


def main() -> None:
    """Answer until the input ends."""
    # FunASR prints its version and progress to standard output, which is ours
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    model: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if model is None:
                model = load(message)
                reply(answers, {"ready": True})
            else:
                reply(answers, {"text": hear(model, message)})
        except Exception as error:  # whatever FunASR raises belongs to this one sound
            reply(answers, {"error": f"{type(error).__name__}: {error}"[:500]})


def load(setup: dict[str, Any]) -> Any:
    """Return a FunASR model from local folders only."""
    for name in ("model", "vad"):
        if setup[name] and not os.path.isdir(setup[name]):  # noqa: PTH112
            raise FileNotFoundError(f"{setup[name]} is no folder")  # FunASR would ask the network for it
    from funasr import AutoModel

    chosen: dict[str, Any] = {"model": setup["model"], "device": setup["device"]}
    # several threads are a setting of the whole process, do not help, and now and then stall
    chosen |= {"ncpu": 1, "disable_update": True, "check_latest": False, "disable_pbar": True}
    if setup["vad"]:
        chosen["vad_model"] = setup["vad"]
        # by default FunASR shortens the silence that ends a segment as a recording grows, and splits within sentences
        chosen["vad_kwargs"] = {"max_single_segment_time": 1000 * setup["longest_segment_s"], "dynamic_silence": False}
    model = AutoModel(**chosen)
    logging.getLogger().setLevel(logging.ERROR)
    for held in (model.kwargs, getattr(model, "vad_kwargs", None) or {}):
        frontend: Any = held.get("frontend")
        if hasattr(frontend, "dither"):
            frontend.dither = 0.0  # random noise is added to the sound otherwise, and it gives other words each time
    return model


def hear(model: Any, message: dict[str, Any]) -> str:
    """Return the words of one sound, float32 little-endian at 16 kHz."""
    import numpy as np

    audio = np.frombuffer(base64.b64decode(message["audio"]), "<f4").copy()
    found = model.generate(input=audio, batch_size_s=300)
    return " ".join(str(part.get("text", "")).strip() for part in found).strip()


def reply(answers: IO[str], message: dict[str, Any]) -> None:
    """Write one line and let it go."""
    answers.write(json.dumps(message, ensure_ascii=False) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
