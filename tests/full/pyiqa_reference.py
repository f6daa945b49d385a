"""What pyiqa makes of pictures with a checkpoint folder, in float32: run in a process of its own.

    python -W ignore tests/full/pyiqa_reference.py FOLDER PICTURES.npz OUT.npz

Written are, for its own preprocessing ("as_is") and for CLIP's Pillow preprocessing ("pillow"): pixels and scores; for
the latter also the picture's tokens and the five logits; and the token ids of both prompts and of the levels.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}

import numpy as np
import torch

TASKS = ("quality", "aesthetics")
PROMPT = "USER: How would you rate the {0} of this image?\n<|image|>\nASSISTANT: The {0} of the image is"


def open_by_hub_name(folder: Path) -> Any:
    """Return `create_metric("qalign")` of a folder: in the current one, the hub's name of the model leads to it."""
    place = Path(tempfile.mkdtemp())
    (place / "q-future").mkdir()
    (place / "q-future" / "one-align").symlink_to(folder, target_is_directory=True)
    os.chdir(place)
    import pyiqa
    from pyiqa.archs.qalign_arch import QAlign

    QAlign._get_model_dtype = staticmethod(lambda _: torch.float32)
    metric = pyiqa.create_metric("qalign", device=torch.device("cpu"))
    metric.net.model.weight_tensor = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    return metric


def outside(metric: Any, pictures: list[torch.Tensor]) -> dict[str, Any]:
    """Return pixels and scores of [1, 3, H, W] pictures in 0..1."""
    return {
        "pixels": np.stack([metric.net.preprocess(picture)[0].numpy() for picture in pictures]),
        "scores": [[float(metric(picture, task_=task)) for task in TASKS] for picture in pictures],
    }


def inside(metric: Any, pictures: list[torch.Tensor]) -> dict[str, Any]:
    """Return the pictures' tokens and logits."""
    model, tokens, logits = metric.net.model, [], []
    for pixels in map(metric.net.preprocess, pictures):
        tokens.append(model.encode_images(pixels)[0].numpy())
        answers = [model.score(None, task_=task, image_tensor=pixels, return_dict=True) for task in TASKS]
        logits.append([answer["logits"][0].numpy() for answer in answers])
    return {"tokens": np.stack(tokens), "logits": np.stack(logits)}


def main() -> None:
    """Measure and write."""
    folder, frames, out = (Path(word).resolve() for word in sys.argv[1:4])
    pictures = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255 for frame in np.load(frames).values()]
    metric = open_by_hub_name(folder)
    from pyiqa.archs.q_align.modeling_mplug_owl2 import tokenizer_image_token
    from transformers import CLIPImageProcessorPil

    results = {f"prompt_{t}": tokenizer_image_token(PROMPT.format(t), metric.net.model.tokenizer) for t in TASKS}
    results["levels"] = metric.net.model.preferential_ids_
    with torch.inference_mode():
        results |= {f"as_is_{name}": values for name, values in outside(metric, pictures).items()}
        metric.net.image_processor = CLIPImageProcessorPil.from_pretrained("q-future/one-align")
        measured = outside(metric, pictures) | inside(metric, pictures)
        results |= {f"pillow_{name}": values for name, values in measured.items()}
    np.savez(out, **results)


if __name__ == "__main__":
    main()
