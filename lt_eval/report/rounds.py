"""A multi-round run folder, as far as a report needs it. docs/multiround-report.md lists every key.

results/RUN/
    multiround.json        RoundsManifest: what was asked, of whom, how it was judged and transcribed
    conversations.jsonl    a Conversation a line (lt_eval.conversations)
    verdicts.jsonl         a Verdict a line; absent without a judge
    rows.jsonl             a Row a turn and signal-level metric, sample = scenario; absent where none was measured
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lt_eval.conversations import read_conversations, read_verdicts
from lt_eval.errors import StoreError
from lt_eval.records import Column, MethodInfo
from lt_eval.store import read_json, read_rows, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from lt_eval.records import Conversation, Row, Verdict

MANIFEST = "multiround.json"
FORMAT = 1


@dataclass(frozen=True)
class JudgeInfo:
    """How conversations were judged.

    Attributes:
        model: id of the judge's model, as the server names it.
        server: what serves it, with its version ("vllm 0.33.0").
        prompts: dimension -> hash of its rubric file.
        revision: of the model's weights, where known.
        scale: lowest and highest score.
        repeats: judgments a conversation and dimension.
        frames: most frames of a video that the judge was shown.
        size_px: longer side of these frames.
        temperature: of the judge.
        top_p: of the judge.
        seed: of its sampling.
        two_step: whether the score was asked for apart, after the rationale.
        expected: whether scores are means under the judge's probabilities.
    """

    model: str
    server: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    scale: tuple[int, int] = (1, 5)
    repeats: int = 1
    frames: int = 32
    size_px: int = 768
    temperature: float = 0.1
    top_p: float = 0.9
    seed: int = 0
    two_step: bool = False
    expected: bool = False


@dataclass(frozen=True)
class TranscriptInfo:
    """How both sides were transcribed; `user_wer` is of the user's lines against their known text of `user_words`."""

    backend: str
    model: str = ""
    user_wer: float | None = None
    user_words: int = 0


@dataclass(frozen=True)
class RoundsManifest:
    """What multiround.json holds.

    Attributes:
        methods: in the order of the table's rows.
        scenarios: ids, in the order of the set; all that were asked for, answered or not.
        dataset: the block's title in the table.
        scenario_set: where the scenarios are from: "builtin", or the file's name.
        scenario_hash: sha256 of that file.
        seed: of the run.
        judge: None where none was asked.
        no_judge: why there is none, as a clause ("no server was named").
        transcripts: None where nothing was transcribed.
        signals: column -> what its values in rows.jsonl mean.
        footnotes: what else a reader must know.
        sessions: as manifest.json of a single-round run has them: created, command, versions, hardware.
        finished: whether the run came to its end; what an unfinished one holds may be of other settings.
    """

    methods: tuple[MethodInfo, ...]
    scenarios: tuple[str, ...]
    dataset: str = "Multi-round"
    scenario_set: str = "builtin"
    scenario_hash: str = ""
    seed: int = 0
    judge: JudgeInfo | None = None
    no_judge: str = "no judge was asked"
    transcripts: TranscriptInfo | None = None
    signals: Mapping[str, Column] = field(default_factory=dict)
    footnotes: tuple[str, ...] = ()
    sessions: tuple[Mapping[str, Any], ...] = ()
    finished: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON types."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RoundsManifest:
        """Read a manifest as `to_json` wrote it; raises KeyError or TypeError on anything else."""
        if data["format"] != FORMAT:
            raise TypeError(f"format {data['format']!r} is not {FORMAT}")
        judge, transcripts = data.get("judge"), data.get("transcripts")
        known: dict[str, Any] = {key: value for key, value in data.items() if key != "format"}
        for key in ("scenarios", "footnotes", "sessions"):
            known[key] = tuple(known.get(key, ()))
        known["methods"] = tuple(MethodInfo(**method) for method in data["methods"])
        known["signals"] = {name: Column(**column) for name, column in data.get("signals", {}).items()}
        known["judge"] = JudgeInfo(**{**judge, "scale": tuple(judge.get("scale", (1, 5)))}) if judge else None
        known["transcripts"] = TranscriptInfo(**transcripts) if transcripts else None
        return RoundsManifest(**known)


@dataclass(frozen=True)
class RoundsRun:
    """What one multi-round run folder holds."""

    folder: Path
    manifest: RoundsManifest
    conversations: tuple[Conversation, ...]
    verdicts: tuple[Verdict, ...]
    rows: tuple[Row, ...] = ()


def is_rounds(folder: Path) -> bool:
    """Whether a folder is that of a multi-round run."""
    return (folder / MANIFEST).is_file()


def write_manifest(folder: Path, manifest: RoundsManifest) -> None:
    """Write multiround.json, whole or not at all."""
    write_json(folder / MANIFEST, manifest.to_json())


def read_manifest(folder: Path) -> RoundsManifest:
    """Read multiround.json.

    Raises:
        StoreError: it is absent, or not what lt-eval writes.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise StoreError(f"{folder}: holds no {MANIFEST}: name the folder that `lt-eval multiround` printed.")
    try:
        return RoundsManifest.from_json(read_json(path))
    except (KeyError, TypeError, AttributeError) as cause:
        raise StoreError(f"{path}: not what lt-eval wrote ({cause}). Run its command again.") from cause


def read_rounds(folder: Path) -> RoundsRun:
    """Read a multi-round run folder.

    Raises:
        StoreError: it is none, or a file of it is damaged.
    """
    manifest = read_manifest(folder)
    return RoundsRun(folder, manifest, read_conversations(folder), read_verdicts(folder), tuple(read_rows(folder)))
