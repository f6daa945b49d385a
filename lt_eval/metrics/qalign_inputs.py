"""What Q-Align's network is given: squared pictures and the token ids of its prompts. No torch.

Parity: transformers' CLIPImageProcessorPil and its LlamaTokenizer, on the files of q-future/one-align.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.errors import WeightsError

if TYPE_CHECKING:
    from lt_eval.records import Frames

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

LEVELS = ("excellent", "good", "fair", "poor", "bad")
"""The answers, worth 5, 4, 3, 2, 1."""

TASKS = ("quality", "aesthetics")
"""The words of the prompts, as trained. pyiqa's documentation says "aesthetic", which is another prompt."""

PROMPT = "USER: How would you rate the {task} of this image?\n<|image|>\nASSISTANT: The {task} of the image is"


@dataclass(frozen=True)
class Prompt:
    """Token ids of the text before the picture and after it."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Wording:
    """A checkpoint's tokens: one prompt a task, and the id of each level."""

    prompts: tuple[Prompt, ...]
    levels: tuple[int, ...]


def squared(frame: Frames, side: int) -> Frames:
    """Return a picture as the network sees it, before scaling: uint8 RGB [side, side, 3].

    It is padded to a square with CLIP's mean colour and resized by Pillow's bicubic filter.

    Args:
        frame: uint8 RGB [H, W, 3].
        side: in pixels.
    """
    from PIL import Image

    height, width = frame.shape[:2]
    if height != width:
        longest = max(height, width)
        padded = np.empty((longest, longest, 3), np.uint8)
        padded[:] = [int(255 * mean) for mean in CLIP_MEAN]
        top, left = (longest - height) // 2, (longest - width) // 2
        padded[top : top + height, left : left + width] = frame
        frame = padded
    if frame.shape[0] == side:
        return np.ascontiguousarray(frame)
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of a checkpoint.

    Raises:
        WeightsError: there is none.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise WeightsError(f"{path} cannot be read as JSON ({cause}). Fetch it again.") from cause
    if not isinstance(data, dict):
        raise WeightsError(f"{path} holds a JSON {type(data).__name__}, not an object.")
    return data


def check_pictures(folder: Path, side: int) -> None:
    """Refuse a checkpoint whose pictures are prepared otherwise than `squared` and CLIP's mean and deviation.

    Raises:
        WeightsError: names what its preprocessor_config.json states.
    """
    path = folder / "preprocessor_config.json"
    stated = read_json(path)
    expected = {
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
        "resample": 3,
        "size": side,
        "crop_size": side,
    }
    for key, value in expected.items():
        found = stated.get(key, value)
        if isinstance(found, dict):  # newer files: {"shortest_edge": 448}, {"height": 448, "width": 448}
            found = side if set(found.values()) == {side} else found
        if found != value:
            raise WeightsError(f"{path} states {key} = {found}; pictures of Q-Align are prepared with {value}.")


def read_wording(folder: Path, vocabulary: int) -> Wording:
    """Return the tokens of a checkpoint's own tokenizer, after checking that the levels are what the score needs.

    A prompt begins with the start token unless tokenizer_config.json says `add_bos_token: false`: a file that does not
    say was written when the start token was the rule, and the network was trained with it.

    Args:
        folder: holds tokenizer.model and tokenizer_config.json.
        vocabulary: rows of the network's head.

    Raises:
        WeightsError: a file is missing, or a level is not one token of its own.
    """
    import sentencepiece

    path = folder / "tokenizer.model"
    try:
        tokenizer = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except (OSError, RuntimeError) as cause:
        raise WeightsError(f"{path} cannot be read as a sentencepiece model ({cause}). Fetch it again.") from cause
    stated = read_json(folder / "tokenizer_config.json").get("add_bos_token")
    start = () if stated is False else (tokenizer.bos_id(),)
    prompts = []
    for task in TASKS:
        before, after = PROMPT.format(task=task).split("<|image|>")
        prompts.append(Prompt((*start, *tokenizer.encode(before)), tuple(tokenizer.encode(after))))
    levels = tuple(_level(tokenizer, word, path) for word in LEVELS)
    used = {*levels, *(token for prompt in prompts for token in (*prompt.before, *prompt.after))}
    if len(set(levels)) != len(LEVELS) or not used <= set(range(vocabulary)):
        raise WeightsError(
            f"{path} gives the levels {', '.join(LEVELS)} the tokens {levels}, of a vocabulary of {vocabulary}: "
            "each must be another one, and all tokens in the vocabulary. The tokenizer is of another checkpoint."
        )
    return Wording(tuple(prompts), levels)


def _level(tokenizer: Any, word: str, path: Path) -> int:
    """Return the token of a level: one, known, and the word again when decoded."""
    ids = tokenizer.encode(word)
    if len(ids) != 1 or ids[0] == tokenizer.unk_id() or tokenizer.decode(ids) != word:
        pieces = [tokenizer.id_to_piece(token) for token in ids]
        raise WeightsError(
            f"{path} splits the answer {word!r} into {pieces}; the score is read from one token a level: this is not "
            "the tokenizer of Q-Align."
        )
    return int(ids[0])
