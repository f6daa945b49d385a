"""Q-Align from a checkpoint folder: pictures in, scores of every prompt out, the eyes used once a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lt_eval.metrics.nets.inference import exact_inference
from lt_eval.metrics.nets.mplug_owl2 import KeysValues, MplugOwl2
from lt_eval.metrics.nets.mplug_owl2_config import owl_config
from lt_eval.metrics.nets.shards import load_folder
from lt_eval.metrics.qalign_inputs import (
    CLIP_MEAN,
    CLIP_STD,
    LEVELS,
    Wording,
    check_pictures,
    read_json,
    read_wording,
    squared,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from lt_eval.records import Frames

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class OneAlign:
    """A loaded checkpoint.

    Attributes:
        network: in eval mode.
        wording: its tokens.
        prefixes: per prompt, keys and values of the text before the picture.
    """

    network: MplugOwl2
    wording: Wording
    prefixes: tuple[list[KeysValues], ...]

    def pixels(self, frames: Sequence[Frames]) -> Tensor:
        """Return what the vision tower takes, [N, 3, side, side] in its dtype, on its device, of uint8 RGB frames."""
        head = self.network.lm_head.weight
        side = self.network.config.vision.image_size
        levels = torch.from_numpy(np.stack([squared(frame, side) for frame in frames])).to(head.device)
        pixels = levels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        mean, std = (torch.tensor(values, device=head.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        # one step after the other, as CLIP's preprocessing has them: equal to it to the last bit
        return pixels.div_(255).sub_(mean).div_(std).to(head.dtype)

    def logits(self, pixels: Tensor) -> Tensor:
        """Return float32 [N, tasks, levels]."""
        tokens = self.network.picture_tokens(pixels)
        rows = self.wording.levels
        pairs = zip(self.prefixes, self.wording.prompts, strict=True)
        return torch.stack([self.network.logits(prefix, tokens, prompt.after, rows) for prefix, prompt in pairs], dim=1)

    def scores(self, frames: Sequence[Frames]) -> NDArray[np.float32]:
        """Return float32 [N, tasks] in 1..5: the levels' worth weighted by their probabilities, in float32.

        Args:
            frames: uint8 RGB [H, W, 3] each, of any size.
        """
        worth = torch.arange(len(LEVELS), 0, -1, dtype=torch.float32)
        with exact_inference():
            chances = self.logits(self.pixels(frames)).softmax(dim=-1).cpu()
            return np.asarray((chances @ worth).numpy(), np.float32)


def load_one_align(folder: Path, device: str, dtype: str) -> OneAlign:
    """Load a checkpoint in the layout of q-future/one-align.

    Args:
        folder: config.json, tokenizer.model, tokenizer_config.json, preprocessor_config.json and weights.
        device: "cpu", "cuda" ...
        dtype: "float32", "float16" or "bfloat16", of weights and computation.

    Raises:
        WeightsError: a file is missing, damaged, or of another network.
    """
    config = owl_config(read_json(folder / "config.json"), folder / "config.json")
    check_pictures(folder, config.vision.image_size)
    wording = read_wording(folder, config.vocab_size)
    with torch.device("meta"):
        network = MplugOwl2(config)
    load_folder(network, folder, device, DTYPES[dtype])
    network.eval().requires_grad_(False)
    with exact_inference():
        prefixes = tuple(network.prefix(prompt.before) for prompt in wording.prompts)
    return OneAlign(network, wording, prefixes)
