"""Rubric files: what a dimension means, what each level means, and the form of the answer.

`ScoreFormat` owns both the instruction that a prompt ends with and the parser of the reply, so the two cannot drift
apart: a file whose answer section is not the instruction, word for word, is refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lt_eval.errors import SpecError
from lt_eval.records import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROMPTS = Path(__file__).with_name("prompts")

_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_OPENED = re.compile(r"\\boxed\b")
_NUMBER = re.compile(r"[+-]?\d+(\.0+)?")
_LEVEL = re.compile(r"^- (\d+): \S", re.MULTILINE)
_TITLE = re.compile(r"# (?P<title>.+) \((?P<code>[A-Z]+)\)\n")


class UnparsableError(ValueError):
    """A reply that holds no score of the asked form; the message says what it holds instead."""


class Parsed(NamedTuple):
    """A score and the text before it."""

    score: float
    rationale: str


@dataclass(frozen=True)
class ScoreFormat:
    r"""Integers from `minimum` to `maximum` in `\boxed{}`."""

    minimum: int = 1
    maximum: int = 5

    @property
    def instruction(self) -> str:
        """What every rubric file ends with."""
        return (
            "Give your reasons first, in at most eight sentences, and name the turns they rest on. Then close with "
            "your score, an\n"
            f"integer from {self.minimum} to {self.maximum}, alone on the last line and in exactly this form:\n\n"
            "\\boxed{score}\n"
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """Every score as text, ascending."""
        return tuple(map(str, range(self.minimum, self.maximum + 1)))

    @property
    def regex(self) -> str:
        """A pattern of the score alone, for servers that constrain their output."""
        return rf"\\boxed\{{({'|'.join(self.choices)})\}}"

    def parse(self, text: str) -> Parsed:
        r"""Return the score in the last `\boxed{}` of a reply.

        Raises:
            UnparsableError: none, unfinished, not one integer, out of range, or the template itself.
        """
        opened = [match.start() for match in _OPENED.finditer(text)]
        if not opened:
            raise UnparsableError("no \\boxed{} in the reply")
        match = _BOXED.match(text, opened[-1])
        if match is None:
            raise UnparsableError("the last \\boxed{ is not closed")
        content = match[1].strip()
        if content == "score":
            raise UnparsableError("the template \\boxed{score} was repeated instead of a score")
        if not _NUMBER.fullmatch(content):
            raise UnparsableError(f"\\boxed{{{content[:40]}}} is not one integer")
        score = float(content)
        if not self.minimum <= score <= self.maximum:
            raise UnparsableError(f"\\boxed{{{content}}} is not from {self.minimum} to {self.maximum}")
        return Parsed(score, text[: match.start()].strip())


@dataclass(frozen=True)
class Rubric:
    """One dimension's prompt.

    Attributes:
        dimension: its code, as in `DIMENSIONS`.
        title: its name.
        text: the file, whole: what the judge reads.
        format: of the answer.
        sha256: of the file.
    """

    dimension: str
    title: str
    text: str
    format: ScoreFormat
    sha256: str


def load_rubrics(folder: Path | str = "", dimensions: Sequence[str] = DIMENSIONS) -> dict[str, Rubric]:
    """Read one rubric file a dimension, DIMENSION.md.

    Args:
        folder: of the files; "" is the one that comes with lt-eval.
        dimensions: which to read, in this order.

    Raises:
        SpecError: a file is absent or not of the form that docs/judge.md describes.
    """
    place = Path(folder).expanduser() if folder else PROMPTS
    return {dimension: _read(place / f"{dimension}.md", dimension) for dimension in dimensions}


def prompt_hashes(rubrics: Mapping[str, Rubric]) -> dict[str, str]:
    """Return dimension -> sha256 of its rubric file, for a manifest."""
    return {dimension: rubric.sha256 for dimension, rubric in rubrics.items()}


def _read(path: Path, dimension: str) -> Rubric:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as cause:
        raise SpecError(
            f"{path}: the rubric of {dimension} cannot be read ({cause}). Each judged dimension needs its file."
        ) from cause
    title = _TITLE.match(text)
    if title is None or title["code"] != dimension:
        raise SpecError(f"{path}: a rubric begins with '# Title ({dimension})'; this begins {text[:60]!r}.")
    levels = sorted(int(number) for number in _LEVEL.findall(text))
    if len(levels) < 2 or levels != list(range(levels[0], levels[-1] + 1)):
        raise SpecError(
            f"{path}: levels {levels} must be consecutive integers, each once, as lines like '- 3: what it means'."
        )
    form = ScoreFormat(levels[0], levels[-1])
    if not text.endswith("\n## Answer\n\n" + form.instruction):
        raise SpecError(f"{path}: a rubric ends with exactly this section:\n\n## Answer\n\n{form.instruction}")
    return Rubric(dimension, title["title"], text, form, hashlib.sha256(data).hexdigest())
