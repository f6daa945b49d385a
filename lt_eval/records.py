"""The nouns: plain frozen records that every layer may hold.

Arrays, shapes as written everywhere in the project:

    Audio     float32 [T]            mono, -1..1, at the stated sample rate
    Frames    uint8   [T, H, W, 3]   RGB, on the host
    Features  float32 [N, D]         one row a frame (FID) or a window (FVD)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from lt_eval.interfaces import Clip

    Audio = NDArray[np.float32]
    Frames = NDArray[np.uint8]
    Features = NDArray[np.float32]
else:

    def __getattr__(name: str) -> Any:
        """Make the array types importable outside type checking too, at the price of numpy only when asked for."""
        kinds = {"Audio": "float32", "Frames": "uint8", "Features": "float32"}
        if name not in kinds:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import numpy as np
        from numpy.typing import NDArray

        return NDArray[getattr(np, kinds[name])]


GROUND_TRUTH = "ground-truth"
"""The method name of the reference clips themselves."""

SAMPLE_RATE_HZ = 16_000
"""The one audio rate of the project: what SyncNet, wav2vec2 and Paraformer were trained on."""

Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Column:
    """What a number in a table means.

    `fixed_by_reference` is true where ground truth has no value of its own (FID, FVD: a distance to itself);
    `minimum` and `maximum` bound what is possible, where something does. With the unit "share", means of clips whose
    values are all 0 or 1 get score intervals.
    """

    better: Better
    unit: str = ""
    digits: int = 2
    fixed_by_reference: bool = False
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class MediaPolicy:
    """How every clip of a run is read, generated and reference alike.

    Attributes:
        fps: frames a second after resampling; None keeps each file's own timestamps ("native").
        size: side in pixels of a square canonical frame; None keeps the file's own size.
        fit: how a frame becomes square: "crop" the centre, "letterbox" with black, or "squash".
        skip_first_frame: leave out frame 0, which many generators copy from the given portrait.
        decoder: "pyav", or "decord" (extra) with the same frames.
    """

    fps: float | None = 25.0
    size: int | None = None
    fit: Literal["crop", "letterbox", "squash"] = "crop"
    skip_first_frame: bool = False
    decoder: Literal["pyav", "decord"] = "pyav"


class Box(NamedTuple):
    """A rectangle in fractions of the frame, 0..1, right and bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Turn:
    """One answer of an avatar: what it hears and says, and the true clip where there is one.

    Attributes:
        speech: the audio that drives the avatar.
        text: the words spoken, where known.
        question: what the user said before this turn (multi-round).
        reference: the real clip, where there is one.
        content: the part of the frame that is picture, not letterbox bars.
        faces: JSON file with `fps` and `faces`, the face box of each frame of the reference, where the data set states
            them; clips of methods show the same person in the same place, and share them.
    """

    speech: Path | None = None
    text: str = ""
    question: str = ""
    reference: Path | None = None
    content: Box | None = None
    faces: Path | None = None


@dataclass(frozen=True)
class Dialogue:
    """One item of a data set: a person, a prompt and one or more turns."""

    id: str
    turns: tuple[Turn, ...]
    portrait: Path | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Sample:
    """What a ClipMetric scores: one clip of one method, with what it was made from."""

    method: str
    dialogue: Dialogue
    turn: int
    clip: Clip


@dataclass(frozen=True)
class Score:
    """What a ClipMetric may return instead of bare values.

    Attributes:
        values: one a column.
        details: what the values were made of, as JSON types (per frame, per face track); kept in the row, not averaged.
    """

    values: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why there is no value: a short code for counting, a message for reading."""

    reason: str
    message: str


@dataclass(frozen=True)
class Row:
    """One metric on one clip. Either it has values or features, or it has a failure."""

    dataset: str
    method: str
    sample: str
    turn: int
    metric: str
    key: str
    values: Mapping[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    features: str = ""
    clip: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON types."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Row:
        """Read a row as `to_json` wrote it."""
        failure = data.get("failure")
        return Row(**{**data, "failure": Failure(**failure) if failure else None})


DIMENSIONS = ("EA", "NI", "MVC", "CN", "SR", "IC", "LC", "CU", "OIE")
"""The nine judged dimensions, in the order of the paper's Table 2."""


@dataclass(frozen=True)
class AnsweredTurn:
    """One finished turn of a conversation: what the user said, and the video that answered.

    Attributes:
        user_text: the user's words as the scenario has them.
        user_audio: the spoken line; None where it was never spoken.
        video: the answer; None where the system gave none.
        user_transcript: what the transcriber heard of the user; "" is nothing heard, None is not transcribed.
        transcript: the words of the answer, given or transcribed; "" is nothing heard, None is not transcribed.
        latency_s: from the end of the user's speech to the first frame on the host; None where not measured.
        talker_s: the talker's share of the latency, up to its first sound.
        wall_s: from the end of the user's speech to the last frame on the host.
        frames: how many frames the answer has.
        fps: frames a second at which the answer is played.
    """

    user_text: str
    user_audio: Path | None = None
    video: Path | None = None
    user_transcript: str | None = None
    transcript: str | None = None
    latency_s: float | None = None
    talker_s: float | None = None
    wall_s: float | None = None
    frames: int | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Conversation:
    """All turns of one scenario with one method, in order; `failure` says why turns are missing."""

    method: str
    scenario: str
    turns: tuple[AnsweredTurn, ...]
    failure: Failure | None = None


@dataclass(frozen=True)
class Verdict:
    """One judgment of one conversation on one dimension. `score` is None unless `status` is "ok".

    Attributes:
        status: ok, parse_error, truncated, refused, transport_error, not_applicable or generation_failure.
        score: on the rubric's scale.
        expected: the mean of the scale under the judge's probabilities, where it was asked for them.
        rationale: what the judge wrote before the score.
        reply: key of the raw reply in the reply store; "" where none came.
        message: what went wrong, for reading.
    """

    method: str
    scenario: str
    dimension: str
    repeat: int
    status: Literal[
        "ok", "parse_error", "truncated", "refused", "transport_error", "not_applicable", "generation_failure"
    ]
    score: float | None = None
    expected: float | None = None
    rationale: str = ""
    reply: str = ""
    message: str = ""


@dataclass(frozen=True)
class Cell:
    """One number of a table, in long form. `value` is None where there is none, and `note` then says why.

    `low` and `high` bound the 95 % interval; `n` of `total` clips went into the value.
    """

    dataset: str
    method: str
    column: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    total: int = 0
    unit: str = ""
    better: Better = "neither"
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """`method` minus `baseline` on the clips both were scored on, with its 95 % interval."""

    dataset: str
    method: str
    baseline: str
    column: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class MethodInfo:
    """A row of a table. `published` marks figures transcribed from a paper, never compared with measured ones."""

    name: str
    model_size: str = ""
    published: bool = False


@dataclass(frozen=True)
class Summary:
    """Everything a report shows of one data set. Plain data: written as summary.json, read without torch.

    Attributes:
        dataset: its name as a table prints it.
        methods: in the order of the table's rows.
        columns: in the order of the table's columns.
        cells: one per method and column.
        differences: paired, of each method with the first one that is not ground truth.
        floors: column -> the value that two samples of the same distribution would give at this N.
        contributions: method -> column -> sample id -> the clip's value, or its pull on a set metric.
        footnotes: what a reader must know of each column: mode, weights, preprocessing, policy.
        keys: of the rows that it was made from; a run folder also holds rows of earlier settings.
        marks: column -> method -> "best" or "second", of columns where ranks were tested; others are marked by value.
    """

    dataset: str
    methods: tuple[MethodInfo, ...]
    columns: Mapping[str, Column]
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...] = ()
    floors: Mapping[str, float] = field(default_factory=dict)
    contributions: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    footnotes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    marks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON types."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Summary:
        """Read a summary as `to_json` wrote it."""
        return Summary(
            dataset=data["dataset"],
            methods=tuple(MethodInfo(**m) for m in data["methods"]),
            columns={name: Column(**c) for name, c in data["columns"].items()},
            cells=tuple(Cell(**c) for c in data["cells"]),
            differences=tuple(Difference(**d) for d in data["differences"]),
            floors=dict(data["floors"]),
            contributions=data["contributions"],
            footnotes=tuple(data["footnotes"]),
            keys=tuple(data["keys"]),
            marks=data.get("marks", {}),
        )
