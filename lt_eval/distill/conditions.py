"""Curating the conditions of distillation: which portraits are good enough, and what can be made better.

LiveTalk paper, section 3.3: blurred, dark or small faces among the reference images destabilise on-policy distillation.
Portraits are measured (brightness, sharpness, face), refused with a reason, or handed to hooks first: image restoration
and the rewriting of prompts towards motion. `damaged` makes the opposite, for the ablation.

A condition set is a folder: `conditions.jsonl`, `portraits/ID.png`, and after curation `curation.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lt_eval.errors import DatasetError, SpecError
from lt_eval.media.still import read_image
from lt_eval.store import atomic_write, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.records import Box, Frames

FACE_SIDE_PX = 128
"""Faces are compared at this size, so that a large picture of a blurred face is not sharper than a small one."""

Restore = Callable[["Frames"], "Frames"]
"""uint8 RGB [H, W, 3] to the same, of any size: super-resolution, deblurring, regeneration."""

Refine = Callable[["Frames", str], str]
"""(portrait, prompt) to a prompt that tells of motion and expression."""


@dataclass(frozen=True)
class Condition:
    """What a student is given in training: a person, a prompt, and speech.

    Attributes:
        id: names it.
        portrait: PNG or JPEG.
        prompt: of motion.
        speech: audio file; None where `seed` stands for a procedural voice.
        seed: of the procedural talker that the condition was made from; None for recorded people.
        face: the face in fractions of the portrait, where it is known.
    """

    id: str
    portrait: Path
    prompt: str
    speech: Path | None = None
    seed: int | None = None
    face: Box | None = None


@dataclass(frozen=True)
class CurateOptions:
    """Bounds of what is kept.

    The defaults were set between 60 clean procedural portraits and the same ones damaged, and keep sharp photographs.
    They stay below the darkest skin in even light: brightness tells a dark picture from a light one, not people apart.

    Attributes:
        brightness_min, brightness_max: mean luma of the face, 0..1.
        contrast_min: standard deviation of the face's luma, 0..1.
        sharpness_min: variance of the Laplacian of the face at 128 pixels, in squared grey levels of 0..255.
        noise_max: median absolute response to a noise filter in the face, in grey levels.
        face_min: the face's longer side as a share of the picture's shorter one.
        restore: "module:function", a Restore applied to portraits whose fault can be mended; empty for none.
        refine: "module:function", a Refine applied to every prompt that is kept; empty for none.
    """

    brightness_min: float = 0.18
    brightness_max: float = 0.8
    contrast_min: float = 0.06
    sharpness_min: float = 75.0
    noise_max: float = 3.0
    face_min: float = 0.15
    restore: str = ""
    refine: str = ""


@dataclass(frozen=True)
class Measures:
    """A portrait in numbers; units as in CurateOptions. `face` is 0 where none was found."""

    brightness: float
    contrast: float
    sharpness: float
    noise: float
    face: float


@dataclass(frozen=True)
class Verdict:
    """What became of one condition: kept or not, why, and whether it was restored first."""

    id: str
    kept: bool
    reasons: tuple[str, ...]
    restored: bool
    measures: Measures


def measure(portrait: Frames, face: Box | None = None) -> Measures:
    """Measure a portrait, uint8 RGB [H, W, 3]. Without a stated face the largest frontal one is looked for."""
    height, width = portrait.shape[:2]
    found = face if face is not None else largest_face(portrait)
    if found is None:
        return Measures(*_of_patch(portrait), face=0.0)
    left, right = (round(np.clip(x, 0, 1) * width) for x in (found[0], found[2]))
    top, bottom = (round(np.clip(y, 0, 1) * height) for y in (found[1], found[3]))
    if right - left < 8 or bottom - top < 8:
        return Measures(*_of_patch(portrait), face=0.0)
    side = max(right - left, bottom - top) / min(height, width)
    return Measures(*_of_patch(portrait[top:bottom, left:right]), face=side)


def _of_patch(patch: Frames) -> tuple[float, float, float, float]:
    grey = cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2GRAY)
    scale = FACE_SIDE_PX / max(grey.shape)
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var())
    # A mask that edges and slopes leave at zero (Immerkaer 1996): what is left in flat skin is noise.
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64) / 6
    noise = float(np.median(np.abs(cv2.filter2D(grey.astype(np.float64), cv2.CV_64F, mask))))
    return float(grey.mean() / 255), float(grey.std() / 255), sharpness, noise


def largest_face(portrait: Frames) -> Box | None:
    """Return the largest frontal face that OpenCV's cascade finds, in fractions, or None."""
    from lt_eval.media.haar import frontal_faces
    from lt_eval.records import Box

    squares = frontal_faces(portrait, 320, 0.1)
    if not len(squares):
        return None
    x, y, w, h = max(squares.tolist(), key=lambda square: square[2] * square[3])
    return Box(x, y, x + w, y + h)


def faults(measures: Measures, options: CurateOptions) -> tuple[str, ...]:
    """Return the bounds that a portrait breaks, by name; none where it is good."""
    checks = {
        "no_face": measures.face == 0.0,
        "small_face": 0.0 < measures.face < options.face_min,
        "dark": measures.brightness < options.brightness_min,
        "bright": measures.brightness > options.brightness_max,
        "flat": measures.contrast < options.contrast_min,
        "blurred": measures.sharpness < options.sharpness_min,
        "noisy": measures.noise > options.noise_max,
    }
    return tuple(name for name, broken in checks.items() if broken)


_MENDABLE = {"dark", "bright", "flat", "blurred", "noisy"}


def curate(
    conditions: Iterable[Condition],
    options: CurateOptions,
    out: Path,
    *,
    restore: Restore | None = None,
    refine: Refine | None = None,
    progress: Callable[[int, str], None] = lambda done, what: None,
) -> list[Verdict]:
    """Write the set of those conditions that are good enough, and a report of all.

    Args:
        conditions: any number; pictures are read one at a time.
        options: the bounds.
        out: folder of the new set.
        restore: applied to a portrait whose fault can be mended; it must then pass, or it is refused.
        refine: applied to the prompts that are kept.
        progress: told (how many are done, id).

    Raises:
        SpecError: a hook returned something else than it should.
        DatasetError: none was kept.
    """
    kept: list[Condition] = []
    verdicts: list[Verdict] = []
    for done, condition in enumerate(conditions, 1):
        portrait = read_image(condition.portrait)
        measures, restored = measure(portrait, condition.face), False
        reasons = faults(measures, options)
        if reasons and restore is not None and set(reasons) <= _MENDABLE:
            portrait, restored = _picture(restore(portrait)), True
            measures = measure(portrait, condition.face)
            reasons = faults(measures, options)
        verdicts.append(Verdict(condition.id, not reasons, reasons, restored, measures))
        if not reasons:
            prompt = refine(portrait, condition.prompt) if refine is not None else condition.prompt
            kept.append(_written(condition, portrait, str(prompt), out))
        progress(done, condition.id)
    write_json(out / "curation.json", report(verdicts, options))
    if not kept:
        (out / "conditions.jsonl").unlink(missing_ok=True)  # of an earlier curation, which later stages would take
        raise DatasetError(f"{out}: none of {len(verdicts)} conditions passed: {_counts(verdicts)}. Widen the bounds.")
    write_conditions(out, kept)
    return verdicts


def _picture(value: Any) -> Frames:
    picture = np.asarray(value)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise SpecError(
            f"the restore hook returned {picture.dtype} {list(picture.shape)}; a portrait is uint8 RGB [H, W, 3]."
        )
    return picture


def _written(condition: Condition, portrait: Frames, prompt: str, out: Path) -> Condition:
    path = out / "portraits" / f"{condition.id}.png"
    write_picture(path, portrait)
    return Condition(condition.id, path, prompt, condition.speech, condition.seed, condition.face)


def write_picture(path: Path, picture: Frames) -> None:
    """Write uint8 RGB [H, W, 3] as PNG, atomically."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    with atomic_write(path, "wb") as file:
        file.write(data.tobytes())


def _counts(verdicts: Sequence[Verdict]) -> str:
    counts = Counter(reason for verdict in verdicts for reason in verdict.reasons)
    return ", ".join(f"{reason} {n}" for reason, n in counts.most_common()) or "nothing refused"


def report(verdicts: Sequence[Verdict], options: CurateOptions) -> dict[str, Any]:
    """Return the report of a curation as JSON types: totals, refusals by reason, every verdict."""
    return {
        "given": len(verdicts),
        "kept": sum(verdict.kept for verdict in verdicts),
        "restored": sum(verdict.restored and verdict.kept for verdict in verdicts),
        "refused": dict(Counter(reason for verdict in verdicts for reason in verdict.reasons).most_common()),
        "options": asdict(options),
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def write_conditions(folder: Path, conditions: Iterable[Condition]) -> None:
    """Write `conditions.jsonl`; portraits below the folder are named relative to it."""
    with atomic_write(folder / "conditions.jsonl") as file:
        for condition in conditions:
            line = asdict(condition)
            for key in ("portrait", "speech"):
                path = line[key]
                if path is not None:
                    inside = path.is_relative_to(folder)
                    line[key] = (path.relative_to(folder) if inside else path.absolute()).as_posix()
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_conditions(folder: Path) -> Iterator[Condition]:
    """Yield the conditions of a folder.

    Raises:
        DatasetError: the folder has no conditions, or a line is none.
    """
    from lt_eval.records import Box

    path = folder / "conditions.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as cause:
        raise DatasetError(f"{path}: cannot be read ({cause.strerror}). Make it: lt-eval distill curate.") from cause
    seen: set[str] = set()
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            name = line["id"]
            if not isinstance(name, str) or not name or Path(name).name != name or name in seen:
                raise ValueError(f"id {name!r} must be a plain file name, and occur once")
            seen.add(name)
            condition = Condition(
                id=name,
                portrait=folder / line["portrait"],
                prompt=line["prompt"],
                speech=folder / line["speech"] if line.get("speech") else None,
                seed=line.get("seed"),
                face=Box(*line["face"]) if line.get("face") else None,
            )
        except (ValueError, KeyError, TypeError) as cause:
            raise DatasetError(
                f"{path}, line {number}: no condition ({cause!r}). A line holds id, portrait and prompt."
            ) from cause
        yield condition


def collection(folder: Path) -> list[Condition]:
    """Return the conditions of recorded people.

    Args:
        folder: a condition set, or plain files: NAME.png or .jpg, the speech NAME.wav, .flac, .mp3 or .m4a, and, where
            there is one, the prompt NAME.txt.

    Raises:
        DatasetError: it holds none, or a portrait has no speech.
    """
    if (folder / "conditions.jsonl").is_file():
        return list(read_conditions(folder))
    found = []
    for portrait in sorted(file for kind in PORTRAITS for file in folder.glob(f"*{kind}")):
        speech = next((file for kind in SPEECH if (file := portrait.with_suffix(kind)).is_file()), None)
        if speech is None:
            raise DatasetError(f"{portrait} has no speech beside it: add {portrait.stem}{' or '.join(SPEECH)}.")
        text = portrait.with_suffix(".txt")
        prompt = " ".join(text.read_text(encoding="utf-8").split()) if text.is_file() else ""
        found.append(Condition(portrait.stem, portrait, prompt, speech))
    if not found:
        raise DatasetError(f"{folder} holds no conditions: neither conditions.jsonl nor portraits ({PORTRAITS}).")
    return found


PORTRAITS = (".png", ".jpg", ".jpeg")
SPEECH = (".wav", ".flac", ".mp3", ".m4a")


def hook(target: str) -> Any:
    """Return the function behind "module:function", or None for "".

    Raises:
        SpecError: it cannot be imported or is no function.
    """
    if not target:
        return None
    import importlib

    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as cause:
        raise SpecError(f"hook {target!r} cannot be imported: {cause}. Write it as module:function.") from cause
    if not callable(found):
        raise SpecError(f"hook {target!r} is of type {type(found).__name__}; it must be a function.")
    return found


DAMAGES = ("dark", "bright", "blur", "noise", "small", "jpeg")


def damaged(portrait: Frames, rng: np.random.Generator, kind: str | None = None) -> Frames:
    """Return a portrait as careless collections hold them, uint8 RGB of the same shape.

    Args:
        portrait: uint8 RGB [H, W, 3].
        rng: decides kind and strength.
        kind: one of DAMAGES; None draws one.
    """
    kind = kind if kind is not None else DAMAGES[int(rng.integers(len(DAMAGES)))]
    height, width = portrait.shape[:2]
    strength = float(rng.uniform(0.5, 1.0))
    values = portrait.astype(np.float32)
    if kind == "dark":
        values = values * (0.45 - 0.3 * strength)
    elif kind == "bright":
        values = 255 - (255 - values) * (0.4 - 0.3 * strength)
    elif kind == "blur":
        values = _float32(cv2.GaussianBlur(values, (0, 0), width / 256 * (3 + 5 * strength)))
    elif kind == "noise":
        values = values + rng.normal(0, 20 + 30 * strength, values.shape).astype(np.float32)
    elif kind == "small":
        least = max(8, round(width * (0.2 - 0.1 * strength)))
        values = _float32(cv2.resize(cv2.resize(values, (least, least), interpolation=cv2.INTER_AREA), (width, height)))
    elif kind == "jpeg":
        small = cv2.resize(portrait, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, round(14 - 10 * strength)])
        values = _float32(cv2.resize(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), (width, height)))
    else:
        raise ValueError(f"there is no damage {kind!r}; known: {', '.join(DAMAGES)}.")
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _float32(picture: Any) -> NDArray[np.float32]:
    return np.asarray(picture, np.float32)
