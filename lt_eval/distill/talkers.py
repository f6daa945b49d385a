"""Training material: people of the procedural talker, drawn when they are needed.

Person n has the seed `first_seed + n`; another seed is another face, voice, manner and text. What is held out are the
last people of the range. A drawn window is kept on disk, since every stage looks at it many times.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from lt_eval import fingerprint
from lt_eval.execution import ExecutionPolicy, WorkerLost, map_tasks
from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.store import atomic_write, key_of
from lt_eval.synthetic.motion import Pose
from lt_eval.synthetic.talker import perform

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.records import Audio, Box, Frames
    from lt_eval.synthetic.talker import Performance

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class TalkerOptions:
    """Who is trained on.

    Attributes:
        first_seed: of person 0.
        people: how many, held-out ones included.
        held_out: how many of them, the last ones, are never trained on.
        windows: windows drawn of each person.
        frames: video frames a window; 4 k + 1.
        size: side in pixels.
        fps: frames a second.
        motion: how far heads move from where they are at the start of a window, as a share of what is natural.
    """

    first_seed: int = 7_000_000
    people: int = 400
    held_out: int = 16
    windows: int = 2
    frames: int = 81
    size: int = 256
    fps: float = 25.0
    motion: float = 1.0

    @property
    def trained(self) -> int:
        """People that are trained on."""
        return self.people - self.held_out


class Window(NamedTuple):
    """A piece of a performance.

    Attributes:
        frames: uint8 RGB [T, size, size, 3].
        audio: float32 [S] mono 16 kHz of just these frames.
        prompt: of the person's motion.
        boxes: the face in every frame, in fractions.
    """

    frames: Frames
    audio: Audio
    prompt: str
    boxes: tuple[Box, ...]


@functools.cache
def drawing() -> str:
    """Return the hash of the code that draws and speaks: what it made before it was changed is not used again."""
    import lt_eval.synthetic

    home = Path(str(lt_eval.synthetic.__file__)).parent
    return key_of([fingerprint.of_file(path) for path in sorted(home.glob("*.py"))])[:8]


@functools.lru_cache(maxsize=8)
def _performance(options: TalkerOptions, person: int, seconds: float) -> Performance:
    show = perform(options.first_seed + person, seconds, options.size, options.fps)
    if options.motion == 1:
        return show
    poses = np.array(show.poses)
    starts = poses[np.arange(len(poses)) // options.frames * options.frames]
    calmer = starts + options.motion * (poses - starts)
    return dataclasses.replace(show, poses=[Pose(*map(float, pose)) for pose in calmer])


def draw(options: TalkerOptions, person: int, window: int) -> Window:
    """Draw one window. The windows of a person are consecutive pieces of one long performance.

    Raises:
        ValueError: there is no such person or window.
    """
    if not (0 <= person < options.people and 0 <= window < options.windows):
        raise ValueError(f"there is no window {window} of person {person} among {options.people} x {options.windows}.")
    seconds = options.windows * options.frames / options.fps
    show = _performance(options, person, seconds)
    start = window * options.frames
    frames = np.stack([show.draw(start + index) for index in range(options.frames)])
    first, last = (round(at / options.fps * SAMPLE_RATE_HZ) for at in (start, start + options.frames))
    boxes = tuple(show.box(start + index) for index in range(options.frames))
    return Window(frames, show.audio[first:last], show.prompt, boxes)


@dataclass(frozen=True)
class DrawWindows:
    """Draws all windows of a person: what a drawing process does.

    Attributes:
        options: who they are.
    """

    options: TalkerOptions

    def __call__(self, person: int) -> list[Window]:
        """Return them in order."""
        return [draw(self.options, person, window) for window in range(self.options.windows)]


def by_processes(function: Callable[[S], T], tasks: Sequence[S], workers: int) -> Iterator[tuple[int, T]]:
    """Yield (number of the task, what the function makes of it) in completion order, made by so many processes.

    Raises:
        RuntimeError: processes died over one task again and again.
    """
    if workers == 1:  # here, without a change to the threads of the training that goes on
        yield from ((number, function(task)) for number, task in enumerate(tasks))
        return
    for number, made in map_tasks(function, tasks, ExecutionPolicy(workers=workers)):
        if isinstance(made, WorkerLost):
            raise RuntimeError(f"{tasks[number]} cannot be drawn: {made.message}")
        yield number, made


@dataclass(frozen=True)
class PieceOptions:
    """Short pieces of pictures alone, for a codec.

    Attributes:
        frames: video frames a piece; 4 k + 1.
        pieces: pieces kept of each person.
    """

    frames: int = 9
    pieces: int = 4


@dataclass(frozen=True)
class DrawPieces:
    """Draws the pieces of a person.

    Attributes:
        options: who they are.
        wanted: how many and how long.
    """

    options: TalkerOptions
    wanted: PieceOptions

    def __call__(self, person: int) -> NDArray[np.uint8]:
        """Return uint8 RGB [pieces, T, size, size, 3]."""
        options, frames = self.options, self.wanted.frames
        show = _performance(options, person, 20.0)
        rng = np.random.Generator(np.random.PCG64([options.first_seed + person, 17]))
        starts = [int(rng.integers(len(show) - frames)) for _ in range(self.wanted.pieces)]
        return np.stack([[show.draw(index) for index in range(start, start + frames)] for start in starts])


def pieces(
    options: TalkerOptions,
    wanted: PieceOptions,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    workers: int = 1,
) -> NDArray[np.uint8]:
    """Return pieces of everybody, uint8 RGB [people, pieces, T, size, size, 3], as a map of a file made once.

    Pieces lie spread over twenty seconds of a performance, so that one person is seen in several poses. `workers`
    processes draw.
    """
    name = (
        f"pieces-{options.first_seed}-{options.people}-{options.size}-{options.fps:g}-{wanted.pieces}x{wanted.frames}"
        f"-{drawing()}" + (f"-motion-{options.motion:g}" if options.motion != 1 else "")
    )
    path = folder / f"{name}.npy"
    if not path.is_file():
        shape = (options.people, wanted.pieces, wanted.frames, options.size, options.size, 3)
        with atomic_write(path, "wb") as file:
            np.lib.format.write_array_header_2_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            begin, each = file.tell(), math.prod(shape[1:])
            everybody = by_processes(DrawPieces(options, wanted), range(options.people), workers)
            for done, (person, made) in enumerate(everybody, 1):
                file.seek(begin + person * each)
                file.write(np.ascontiguousarray(made).data)
                progress(done, options.people)
    found: NDArray[np.uint8] = np.load(path, mmap_mode="c")
    return found
