"""People that no recipe has seen, as a data set of `lt-eval single`, and the methods that a student is compared with.

ROOT/
    clips/ID.mp4  speech/ID.wav  portraits/ID.png  faces/ID.json   the truth, and what a generator is given of it
    frozen/ID.mp4                                                  the portrait for the length of the speech
    items/ID.json                                                  written last: a person with it is whole
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_eval.cli.report import publish
from lt_eval.distill.conditions import write_picture
from lt_eval.distill.held_out import SYNC
from lt_eval.distill.recipe import Recipe, read_recipe
from lt_eval.distill.talkers import drawing
from lt_eval.errors import LtEvalError, SpecError
from lt_eval.media.encode import encode
from lt_eval.media.waves import wav_bytes
from lt_eval.progress import Progress
from lt_eval.protocols.single import Outcome, run
from lt_eval.records import Dialogue, Turn
from lt_eval.registry import targets
from lt_eval.spec import build
from lt_eval.store import atomic_write, key_of, only_writer, read_json, write_json
from lt_eval.synthetic.talker import make_clip

FIRST_SEED = 7_900_000
"""Of the people that are measured on. No recipe and no builtin network was trained on, or chosen by, seeds near it."""

IDENTITY = ("identity",)
"""Metrics that are added where they are registered."""


@dataclass(frozen=True)
class People:
    """Drawn people who say sentences of their own, with true clips and face boxes; made on first use.

    Args:
        root: folder of the files.
        first_seed: person n has the seed first_seed + n.
        people: how many.
        seconds: of each clip.
        size: side in pixels.
        fps: frames a second.
    """

    root: str
    first_seed: int = FIRST_SEED
    people: int = 16
    seconds: float = 5.0
    size: int = 256
    fps: float = 25.0

    @property
    def version(self) -> str:
        """Changes with the code that draws and with every option."""
        return key_of(drawing(), self.first_seed, self.people, self.seconds, self.size, self.fps)[:16]

    @property
    def frozen(self) -> Path:
        """Folder of the portraits that never move."""
        return Path(self.root) / "frozen"

    def draw(self) -> None:
        """Make what is missing."""
        assert self._dialogues

    def __len__(self) -> int:
        return self.people

    def __getitem__(self, index: int, /) -> Dialogue:
        return self._dialogues[index]

    @functools.cached_property
    def _dialogues(self) -> tuple[Dialogue, ...]:
        root = Path(self.root)
        with only_writer(root), Progress() as progress:
            found = []
            for number in range(self.people):
                found.append(self._dialogue(root, self.first_seed + number))
                progress("draw people", number + 1, self.people)
        return tuple(found)

    def _dialogue(self, root: Path, seed: int) -> Dialogue:
        name = f"person-{seed}"
        record = root / "items" / f"{name}.json"
        made_from = key_of(drawing(), seed, self.seconds, self.size, self.fps)
        if not record.is_file() or read_json(record)["made_from"] != made_from:
            record.unlink(missing_ok=True)  # from here on its files are of two kinds
            said = self._made(root, name, seed)
            write_json(record, {"made_from": made_from, **said})
        facts = read_json(record)
        turn = Turn(
            speech=root / "speech" / f"{name}.wav",
            text=facts["transcript"],
            reference=root / "clips" / f"{name}.mp4",
            faces=root / "faces" / f"{name}.json",
        )
        return Dialogue(name, (turn,), portrait=root / "portraits" / f"{name}.png", prompt=facts["prompt"])

    def _made(self, root: Path, name: str, seed: int) -> dict[str, str]:
        """Write all files of one person but the record; return what they say and how they move."""
        clip = make_clip(seed, self.seconds, self.size, self.fps)
        encode(root / "clips" / f"{name}.mp4", clip.frames, self.fps, clip.audio)
        still = np.repeat(clip.frames[:1], len(clip.frames), axis=0)
        encode(self.frozen / f"{name}.mp4", still, self.fps, clip.audio)
        write_picture(root / "portraits" / f"{name}.png", clip.frames[0])
        with atomic_write(root / "speech" / f"{name}.wav", "wb") as file:
            file.write(wav_bytes(clip.audio))
        write_json(root / "faces" / f"{name}.json", {"fps": self.fps, "faces": clip.boxes.tolist()})
        return {"transcript": clip.transcript, "prompt": clip.prompt}


def seeds_of(recipe: Recipe) -> dict[str, range]:
    """Return the seeds of all people that a recipe draws, held-out ones included, by the key of their options."""
    drawn = {
        "material": recipe.material,
        "conditions.people": recipe.conditions.people,
        "codec.people": recipe.codec.people,
    }
    return {name: range(options.first_seed, options.first_seed + options.people) for name, options in drawn.items()}


def refuse_seen(people: People, recipes: Mapping[str, Recipe]) -> None:
    """Refuse people whom a recipe has trained on, or chosen checkpoints by.

    Raises:
        SpecError: names the recipe and its key.
    """
    mine = range(people.first_seed, people.first_seed + people.people)
    for name, recipe in recipes.items():
        for key, theirs in seeds_of(recipe).items():
            if max(mine.start, theirs.start) < min(mine.stop, theirs.stop):
                raise SpecError(
                    f"people with the seeds {mine.start} to {mine.stop - 1} are measured, and {key} of {name} has "
                    f"{theirs.start} to {theirs.stop - 1}: they have been seen. Choose another first seed."
                )


def known_recipes(folder: Path = Path(__file__).parent) -> dict[str, Recipe]:
    """Return the recipes beside this file by name."""
    return {path.name: read_recipe(path) for path in sorted(folder.glob("*.toml"))}


def flat(tables: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested tables as (dotted key, value as TOML writes it); None is left out."""
    found: list[tuple[str, str]] = []
    for name, value in tables.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}.")
        elif value is not None:
            found.append((f"{prefix}{name}", json.dumps(value)))
    return found


def generator_config(recipe: Recipe, path: Path) -> str:
    """Write the generator of a recipe as the file that the option `config` of generators takes; return its path."""
    lines = [f"{key} = {value}" for key, value in flat({"preset": recipe.preset, **recipe.generator})]
    with atomic_write(path) as file:
        file.write("\n".join(lines) + "\n")
    return str(path.absolute())


def score(
    people: People, methods: Mapping[str, Mapping[str, Any]], out: Path, *, device: str, seed: int = 0
) -> Outcome:
    """Run the single-round protocol of `lt-eval single` over some methods, builtin weights; write its tables and page.

    Args:
        people: whom.
        methods: name to the table of a method in a specification: clips, or generator and options.
        out: the run folder; a run that was stopped is continued.
        device: of generators and metrics.
        seed: of generation and bootstrap.
    """
    metrics = ["fid", "fvd", "sync", *[name for name in IDENTITY if name in targets("metrics")]]
    tables = {
        "dataset": {"name": "people:People", **{name: getattr(people, name) for name in People.__dataclass_fields__}},
        "weights": "builtin",
        "metrics": metrics,
        "metric": {"sync": SYNC},
        "media": {"fps": people.fps},
        "method": methods,
        "device": device,
        "seed": seed,
    }
    with Progress() as progress:
        outcome = run(build(tables), out, progress=progress, say=progress.say)
    publish(out)
    return outcome


def value_of(outcome: Outcome, method: str, column: str) -> float | None:
    """Return a cell of the table; a column is named without what it says of weights and mode."""
    return next(
        (c.value for c in outcome.summary.cells if c.method == method and c.column.split(" (")[0] == column), None
    )


def at_least(name: str, value: float, lowest: float) -> None:
    """Refuse a number of the command line that is too small.

    Raises:
        SpecError: names both.
    """
    if not value >= lowest:
        raise SpecError(f"{name} is {value:g}; at least {lowest:g} is needed.")


def without_traceback(script: Callable[[], int]) -> int:
    """Run a script; a mistake of its user becomes one sentence on stderr and exit status 2."""
    try:
        return script()
    except LtEvalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted. The same command goes on from here.", file=sys.stderr)
        return 130


def clips_of(folder: Path) -> dict[str, str]:
    """Return the table of a method whose clips lie in a folder."""
    return {"clips": str(folder.absolute())}
