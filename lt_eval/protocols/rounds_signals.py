"""What can be measured without a judge: rows of every turn, or of a whole conversation, in the run's rows.jsonl.

clip metrics        sync, motion ...: one row a turn
dialogue metrics    likeness ...: one row a conversation, turn 0
mentions            of each turn's transcript: the share of the facts it must mention, and whether it says what it
                    must not
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lt_eval import fingerprint
from lt_eval.datasets.scenarios import forbidden, mention_recall
from lt_eval.errors import SampleError, SpecError, UnscorableError, UsageError, reason_of
from lt_eval.interfaces import HasFindings, HasFootnotes, MayBeUnavailable
from lt_eval.measure import RETRIED, MetricPlan, load_metric, measure, plan_clip, plan_metric, remaining, unavailable
from lt_eval.records import Column, Dialogue, Failure, MediaPolicy, Row, Sample, Turn
from lt_eval.registry import create
from lt_eval.store import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lt_eval.datasets.scenarios import Scenario, ScenarioTurn
    from lt_eval.interfaces import DialogueMetric
    from lt_eval.measure import ClipResult, ClipTask
    from lt_eval.records import AnsweredTurn, Conversation
    from lt_eval.spec import ExecutionPolicy, MetricSpec
    from lt_eval.store import RunStore

DATASET = "Multi-round"

MENTIONS = "mentions"
MENTION_COLUMNS: Mapping[str, Column] = {
    "Mention recall": Column("higher", unit="share", minimum=0.0, maximum=1.0),
    "Forbidden": Column("lower", unit="share", minimum=0.0, maximum=1.0),
}
"""Of each answer: the share of the facts it must mention that it does; 1 where it says what it must not, else 0."""

POLICY = MediaPolicy()


@dataclass(frozen=True)
class Signals:
    """The metrics of a run, made once so that what is missing is told before any work is done.

    Attributes:
        clips: metrics of single clips.
        dialogues: metrics of conversations: name, object, fingerprint.
    """

    clips: tuple[MetricPlan, ...]
    dialogues: tuple[tuple[str, DialogueMetric, str], ...]

    def columns(self) -> dict[str, Column]:
        """Return every column in the order of the table."""
        found: dict[str, Column] = {}
        for _, metric in self.metrics():
            found.update(metric.columns)
        return found | dict(MENTION_COLUMNS)

    def owned(self) -> dict[str, list[str]]:
        """Return metric -> the columns that it fills."""
        return {name: list(metric.columns) for name, metric in self.metrics()} | {MENTIONS: list(MENTION_COLUMNS)}

    def metrics(self) -> list[tuple[str, Any]]:
        """Return (name, metric) in the order of the table."""
        clips: list[tuple[str, Any]] = [(plan.name, load_metric(plan)) for plan in self.clips]
        return clips + [(name, metric) for name, metric, _ in self.dialogues]


def plan_signals(metrics: Sequence[MetricSpec], offered: Mapping[str, Any]) -> Signals:
    """Make all metrics.

    Raises:
        UsageError: an unknown metric, a wrong option, missing weights, or a metric of sets of clips.
    """
    clips: list[MetricPlan] = []
    dialogues: list[tuple[str, DialogueMetric, str]] = []
    for spec in metrics:
        made = create("metrics", spec.name, spec.options, offered=offered)
        if callable(getattr(made, "score_dialogue", None)):
            metric = cast("DialogueMetric", made)
            dialogues.append((spec.name, metric, fingerprint.of_plugin(metric, spec.name, spec.options)))
        elif callable(getattr(made, "score", None)):
            clips.append(plan_metric(spec, offered))
        else:
            raise SpecError(
                f"metric {spec.name!r} compares sets of clips with references, and conversations have none. Use it "
                "with `lt-eval single`."
            )
    return Signals(tuple(clips), tuple(dialogues))


def measure_signals(
    signals: Signals,
    conversations: Sequence[Conversation],
    scenarios: Mapping[str, Scenario],
    store: RunStore,
    policy: ExecutionPolicy,
    progress: Callable[[str, int, int, str], None],
) -> list[Row]:
    """Measure what has no row yet, and return the rows of all conversations.

    Args:
        signals: the metrics.
        conversations: of the run.
        scenarios: by id.
        store: holds the rows of before, and keeps those of now.
        policy: where clips are measured.
        progress: told of every clip.
    """
    turns = [
        (conversation, number, turn)
        for conversation in conversations
        for number, turn in enumerate(conversation.turns)
        if turn.video is not None
    ]
    plans = [plan for plan in signals.clips if not unavailable(plan)]
    tasks = [_task(conversation, number, turn, plans) for conversation, number, turn in turns]
    places = {task.dialogue.id: (c.scenario, n) for task, (c, n, _) in zip(tasks, turns, strict=True)}

    def keep(result: ClipResult) -> None:
        store.append([_placed(row, places) for row in result.rows], result.features)

    if plans:
        measure(
            remaining(tasks, store.rows()),
            policy,
            keep,
            progress=lambda done, total, what: progress("measure", done, total, what),
        )
    done = store.rows()
    found = [done[key] for task in tasks for key in task.keys]
    found += _dialogue_rows(signals, conversations, store, done, progress)
    for conversation in conversations:
        for number, turn in enumerate(conversation.turns):
            row = mention_row(conversation, number, turn, scenarios[conversation.scenario].turns[number])
            found += [row] if row is not None else []
    owned = signals.owned()
    return [_naming_columns(row, owned[row.metric]) if row.failure else row for row in found]


def _naming_columns(row: Row, columns: Sequence[str]) -> Row:
    """Say in a failed row which columns lack a value for its reason; it has no values that would tell."""
    return replace(row, details={**row.details, "columns": list(columns)})


def _task(conversation: Conversation, number: int, turn: AnsweredTurn, plans: Sequence[MetricPlan]) -> ClipTask:
    """Return the task of one clip; its dialogue's id tells turns of one scenario apart until the rows are placed."""
    dialogue = Dialogue(f"{conversation.scenario}/turn-{number + 1}", (Turn(text=turn.transcript or ""),))
    assert turn.video is not None
    return plan_clip(DATASET, conversation.method, dialogue, turn.video, POLICY, plans)


def _placed(row: Row, places: Mapping[str, tuple[str, int]]) -> Row:
    scenario, number = places[row.sample]
    return replace(row, sample=scenario, turn=number)


def _dialogue_rows(
    signals: Signals,
    conversations: Sequence[Conversation],
    store: RunStore,
    done: Mapping[str, Row],
    progress: Callable[[str, int, int, str], None],
) -> list[Row]:
    found = []
    whole = [conversation for conversation in conversations if conversation.failure is None]
    for count, conversation in enumerate(whole, 1):
        for name, metric, identity in signals.dialogues:
            files = [fingerprint.of_file(turn.video) for turn in conversation.turns]
            words = [turn.transcript for turn in conversation.turns]
            place = (conversation.method, conversation.scenario)
            key = key_of("dialogue-1", *place, name, identity, fingerprint.of_decoding(), POLICY, files, words)
            row = done.get(key)
            if row is None or (row.failure is not None and row.failure.reason in RETRIED):
                row = dialogue_row(name, metric, conversation, key)
                store.append([row], {})
            found.append(row)
        progress("conversations", count, len(whole), f"{conversation.method}/{conversation.scenario}")
    return found


def dialogue_row(name: str, metric: DialogueMetric, conversation: Conversation, key: str) -> Row:
    """Score one conversation. What is wrong with it becomes the row's failure.

    Raises:
        UsageError: no other conversation would fare better.
    """
    from contextlib import ExitStack

    from lt_eval.media.clip import MediaClip

    row = Row(DATASET, conversation.method, conversation.scenario, 0, name, key)
    words = "\n".join(f"user: {turn.user_text}\nanswer: {turn.transcript or ''}" for turn in conversation.turns)
    turns = tuple(Turn(text=turn.transcript or "", question=turn.user_text) for turn in conversation.turns)
    try:
        with ExitStack() as stack:
            samples = [
                Sample(
                    conversation.method,
                    Dialogue(conversation.scenario, turns),
                    number,
                    stack.enter_context(MediaClip(cast("Path", turn.video), POLICY)),
                )
                for number, turn in enumerate(conversation.turns)
            ]
            values = {k: float(v) for k, v in metric.score_dialogue(samples, words).items()}
        strange = [k for k, v in values.items() if not np.isfinite(v) or k not in metric.columns]
        if strange:
            raise UnscorableError("not_finite", f"{strange[0]} = {values[strange[0]]} is no value of a column.")
        return replace(row, values=values)
    except UsageError:
        raise
    except SampleError as error:
        return replace(row, failure=Failure(reason_of(error), str(error)))
    except Exception as error:  # a plugin's bug on one conversation must not cost the others
        failure = Failure("metric_error", f"{name}: {type(error).__name__}: {error}")
        return replace(row, failure=failure, details={"traceback": traceback.format_exc()})


def mention_row(conversation: Conversation, number: int, turn: AnsweredTurn, asked: ScenarioTurn) -> Row | None:
    """Return how an answer's words meet what its turn asks for; None where nothing must or must not be said."""
    if not asked.must_mention and not asked.must_not:
        return None
    key = key_of("mentions-1", conversation.method, conversation.scenario, number, asked, turn.transcript)
    row = Row(DATASET, conversation.method, conversation.scenario, number, MENTIONS, key, clip=str(turn.video or ""))
    if turn.transcript is None:
        return replace(row, failure=Failure("no_transcript", "The answer has no transcript, and none was made."))
    recall = mention_recall(asked, turn.transcript)
    values = {} if recall is None else {"Mention recall": recall}
    if asked.must_not:
        values["Forbidden"] = float(bool(forbidden(asked, turn.transcript)))
    return replace(row, values=values)


def footnotes_of(signals: Signals, rows: Sequence[Row]) -> list[str]:
    """Return what a reader must know of the signal-level columns."""
    columns = signals.owned()
    notes = [
        "Mention recall: share of the facts that a turn's answer must mention whose words stand in its transcript. "
        "Forbidden: share of turns whose answer says what it must not.",
    ]
    for name, metric in signals.metrics():
        if why := metric.unavailable if isinstance(metric, MayBeUnavailable) else "":
            notes.append(f"{', '.join(columns[name])}: {why}.")
        if isinstance(metric, HasFootnotes):
            notes.extend(metric.footnotes)
        if isinstance(metric, HasFindings):
            notes.extend(metric.findings([row.details for row in rows if row.metric == name and not row.failure]))
    return notes
