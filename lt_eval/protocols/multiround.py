"""The multi-round protocol: a user and an avatar in conversation. Table 2 of the paper, read from top to bottom.

    scenarios -> the user's lines, spoken -> each system answers, turn by turn -> clips, timed
              -> transcripts of both sides -> signal-level rows -> verdicts of the judge -> a run folder for reports

Every step can be stopped at any moment and goes on where it was: finished conversations, transcripts, rows and replies
of the judge are kept.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lt_eval import fingerprint, provenance
from lt_eval.conversations import VERDICTS, write_conversations, write_verdicts
from lt_eval.datasets.scenarios import load_scenarios
from lt_eval.errors import DatasetError, SampleError, SpecError, StoreError, reason_of
from lt_eval.interfaces import HasFootnotes
from lt_eval.protocols.rounds_answers import Stage, Units, hold, portrait_of, spoken_lines, take_in
from lt_eval.protocols.rounds_judge import VLM, ask_judge, check_judge, judge_options
from lt_eval.protocols.rounds_signals import DATASET, footnotes_of, measure_signals, plan_signals
from lt_eval.protocols.rounds_spec import NO_JUDGE, RoundsSpec, SystemSpec
from lt_eval.protocols.rounds_transcripts import check_transcriber, transcribe
from lt_eval.records import Conversation, Failure, MethodInfo
from lt_eval.registry import create
from lt_eval.report.rounds import RoundsManifest, read_manifest, write_manifest
from lt_eval.store import RunStore
from lt_eval.systems.results import ResultsFolder
from lt_eval.systems.speakers import make_voice

if TYPE_CHECKING:
    import httpx

    from lt_eval.datasets.scenarios import Scenario
    from lt_eval.interfaces import System
    from lt_eval.records import Column, Row, Verdict
    from lt_eval.spec import MetricSpec

Progress = Callable[[str, int, int, str], None]
"""Told (stage, done, in all, what was done last)."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class RoundsOutcome:
    """A finished run: what was asked and how, all conversations, the rows measured, the verdicts given."""

    manifest: RoundsManifest
    conversations: tuple[Conversation, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Conversation, ...]:
        """Conversations that are not whole."""
        return tuple(conversation for conversation in self.conversations if conversation.failure)


def run_rounds(
    spec: RoundsSpec,
    out: Path,
    *,
    progress: Progress,
    say: Say,
    judge_transport: httpx.AsyncBaseTransport | None = None,
) -> RoundsOutcome:
    """Run, or continue, the multi-round protocol in the folder `out`.

    Args:
        spec: what to run.
        out: the run folder; what an earlier, interrupted run finished there is kept.
        progress: told of everything finished.
        say: told what a user should know.
        judge_transport: another way to the judge's servers than the network (tests).

    Raises:
        UsageError: the spec, the scenarios, a system, the judge or the folder cannot be used.
    """
    spec = _resolved(spec)
    scenarios = _scenarios(spec)
    if spec.judge.name == VLM:
        judge_options(spec.judge.options)
    check_transcriber(spec.transcriber)
    signals = plan_signals(spec.metrics, {"weights": spec.weights, "device": spec.device, "seed": spec.seed})
    with RunStore(out) as store:
        _refuse_other_scenarios(out, spec)
        if spec.judge.name != NO_JUDGE:
            check_judge(spec.judge, out, judge_transport)
        systems = [(system, make_system(system, spec)) for system in spec.systems]
        manifest = _manifest(spec, scenarios, systems, signals.columns(), out)
        _take_back_tables(out)
        write_manifest(out, manifest)
        held = _conversations(spec, systems, scenarios, out, progress, say)
        heard = transcribe(held, spec.transcriber, progress)
        write_conversations(out, heard.conversations)
        by_id = {scenario.id: scenario for scenario in scenarios}
        rows = measure_signals(signals, heard.conversations, by_id, store, spec.execution, progress)
        store.replace_rows(rows)
        manifest = replace(
            manifest, transcripts=heard.info, footnotes=(*manifest.footnotes, *footnotes_of(signals, rows))
        )
        verdicts: tuple[Verdict, ...] = ()
        if spec.judge.name != NO_JUDGE:
            judged = ask_judge(spec.judge, heard.conversations, out, progress, judge_transport)
            verdicts = judged.verdicts
            manifest = replace(manifest, judge=judged.info)
            write_verdicts(out, verdicts)
        manifest = replace(manifest, finished=True)
        write_manifest(out, manifest)
    return RoundsOutcome(manifest, heard.conversations, tuple(rows), verdicts, heard.problems)


def _resolved(spec: RoundsSpec) -> RoundsSpec:
    if not spec.systems and spec.demo:
        spec = replace(spec, systems=(SystemSpec("reference", system="reference"),))
    if not spec.systems:
        raise SpecError(
            "No system was named. Use --system reference, --system NAME=module:Class, or --system NAME=FOLDER for "
            "finished turns; --demo runs the reference system on a fresh machine."
        )
    names = [system.name for system in spec.systems]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f"system {name!r} is given twice; every row of the table needs a name of its own.")
    if spec.demo:
        spec = replace(spec, metrics=tuple(map(_for_short_answers, spec.metrics)))
    if spec.weights == "auto":
        spec = replace(spec, weights="builtin" if spec.demo else "official")
    if spec.device == "cpu" or spec.execution.executor == "ray":
        return spec
    from lt_eval.metrics.nets.inference import resolve_device

    return replace(spec, device=resolve_device(spec.device))


def _for_short_answers(metric: MetricSpec) -> MetricSpec:
    """The demo's answers last three to five seconds; SyncNet's own rule, over 100 frames, would leave most out."""
    if metric.name != "sync" or "min_track" in metric.options:
        return metric
    return replace(metric, options={**metric.options, "min_track": 50})


def _scenarios(spec: RoundsSpec) -> tuple[Scenario, ...]:
    found = load_scenarios(Path(spec.scenarios) if spec.scenarios else None)
    if spec.demo:
        found = tuple(scenario for scenario in found if scenario.demo)
        if not found:
            raise DatasetError(f'{spec.scenarios}: no scenario is marked "demo": true. Leave out --demo.')
    return found[: spec.limit]


def _scenario_hash(spec: RoundsSpec) -> str:
    from importlib.resources import as_file, files

    if spec.scenarios:
        return fingerprint.of_file(Path(spec.scenarios))
    with as_file(files("lt_eval.datasets") / "multiround" / "scenarios.jsonl") as builtin:
        return fingerprint.of_file(builtin)


def _refuse_other_scenarios(out: Path, spec: RoundsSpec) -> None:
    """A folder holds one set of scenarios; another version of it would mix conversations of both."""
    if not (out / "multiround.json").is_file():
        if (out / "manifest.json").is_file():
            raise StoreError(f"{out}: holds a single-round run. Choose another --out.")
        return
    held = read_manifest(out).scenario_hash
    if held != _scenario_hash(spec):
        raise StoreError(
            f"{out}: holds a run on other scenarios, or another version of them. Choose another --out, or delete that "
            "folder."
        )


def _take_back_tables(out: Path) -> None:
    """Remove what earlier settings were summarised to, until this run is finished."""
    old = [out / name for name in ("summary.json", "statistics.json", VERDICTS, "report/index.html")]
    for path in (*old, *out.glob("tables/*")):
        path.unlink(missing_ok=True)


def _manifest(
    spec: RoundsSpec,
    scenarios: Sequence[Scenario],
    systems: Sequence[tuple[SystemSpec, Any]],
    columns: Mapping[str, Column],
    out: Path,
) -> RoundsManifest:
    sessions = read_manifest(out).sessions if (out / "multiround.json").is_file() else ()
    notes = [f"A turn's limit is {spec.turn_timeout_s:g} s; the user's whole line is at hand when its clock starts."]
    talkers = [system.options.get("talker", "scripted") for system in spec.systems if system.system == "reference"]
    if "scripted" in talkers:
        notes.append("A scripted talker answers from the scenario's own facts: its words say nothing of a model.")
    for system_spec, system in systems:
        if isinstance(system, HasFootnotes):
            notes += [f"{system_spec.name}: {note}" for note in system.footnotes]
    return RoundsManifest(
        methods=tuple(MethodInfo(system.name, system.model_size) for system in spec.systems),
        scenarios=tuple(scenario.id for scenario in scenarios),
        dataset=DATASET,
        scenario_set=Path(spec.scenarios).name if spec.scenarios else ("builtin, demo" if spec.demo else "builtin"),
        scenario_hash=_scenario_hash(spec),
        seed=spec.seed,
        no_judge="no judge was named (--judge URL)",
        signals=columns,
        footnotes=tuple(notes),
        sessions=(*sessions, {**provenance.describe(), "spec": spec.to_json()}),
        finished=False,
    )


# Conversations --------------------------------------------------------------------------------------------------------


def _conversations(
    spec: RoundsSpec,
    systems: Sequence[tuple[SystemSpec, Any]],
    scenarios: Sequence[Scenario],
    out: Path,
    progress: Progress,
    say: Say,
) -> list[Conversation]:
    """Hold every conversation that is not finished, one after another: a timed system has the machine for itself."""
    for half_written in out.glob("clips/*/*/.*.partial"):
        half_written.unlink()
    stages = _stages(spec, scenarios, out, progress)
    found = []
    for system_spec, system in systems:
        if isinstance(system, ResultsFolder):
            for number, scenario in enumerate(scenarios, 1):
                found.append(take_in(system.conversation(scenario, system_spec.name), out))
                progress("take in", number, len(scenarios), f"{system_spec.name}/{scenario.id}")
        else:
            found += _with_system(spec, system_spec, system, scenarios, stages, out, progress, say)
    return found


def _stages(
    spec: RoundsSpec, scenarios: Sequence[Scenario], out: Path, progress: Progress
) -> dict[str, Stage | Failure]:
    """Make every scenario ready; one whose lines cannot be spoken is a failure of each conversation about it."""
    if all(system.results is not None for system in spec.systems):
        return {}
    voice = make_voice(spec.speaker.name, spec.speaker.options, role="user")
    found: dict[str, Stage | Failure] = {}
    for number, scenario in enumerate(scenarios, 1):
        try:
            lines = spoken_lines(scenario, voice, out)
            found[scenario.id] = Stage(scenario, lines, portrait_of(scenario, spec.portrait_px), spec.seed)
        except SampleError as error:
            found[scenario.id] = Failure(reason_of(error), str(error))
        progress("user's lines", number, len(scenarios), scenario.id)
    return found


def make_system(system: SystemSpec, spec: RoundsSpec) -> Any:
    """Return the system of one row of the table.

    Raises:
        UsageError: no such system, or it cannot be made with these options.
    """
    offered = {"scenarios": spec.scenarios, "device": spec.device, "seed": spec.seed, "speaker": spec.speaker.name}
    if system.results is not None:
        return create("systems", "results-folder", {"root": system.results, **system.options}, offered=offered)
    return create("systems", str(system.system), system.options, offered=offered)


def _with_system(
    spec: RoundsSpec,
    system_spec: SystemSpec,
    system: System,
    scenarios: Sequence[Scenario],
    stages: dict[str, Stage | Failure],
    out: Path,
    progress: Progress,
    say: Say,
) -> list[Conversation]:
    method, units = system_spec.name, Units(out)
    identity = fingerprint.of_plugin(system, str(system_spec.system), system_spec.options)
    keys = {name: stage.key(method, identity) for name, stage in stages.items() if isinstance(stage, Stage)}
    done = {name: kept for name, key in keys.items() if (kept := units.read(method, name, key)) is not None}
    if done:
        say(f"{method}: {len(done)} of {len(scenarios)} conversations were held before and are kept.")
    todo = [stage for name in keys if name not in done and isinstance(stage := stages[name], Stage)]
    for _ in range(spec.warmups if todo else 0):
        system = _warmed(spec, system_spec, system, todo[0])
    for number, stage in enumerate(todo, 1):
        name = stage.scenario.id
        held = hold(system, method, stage, out, spec.turn_timeout_s)
        units.write(held.conversation, keys[name], held.arrivals_s)
        done[name] = held.conversation
        if held.conversation.failure:
            say(f"{method}/{name} failed: {held.conversation.failure.reason}")
        if held.is_stuck:
            system = cast("System", make_system(system_spec, spec))  # the old one is still busy with the old turn
        progress("converse", number, len(todo), f"{method}/{name}")
    return [done.get(scenario.id) or _unheard(method, scenario, stages[scenario.id]) for scenario in scenarios]


def _warmed(spec: RoundsSpec, system_spec: SystemSpec, system: System, stage: Stage) -> System:
    """Hold a first turn without a clock, so that compilation and first allocations are not timed."""
    with tempfile.TemporaryDirectory(prefix="lt-eval-warm-") as folder, contextlib.suppress(StoreError):
        held = hold(system, system_spec.name, stage, Path(folder), spec.turn_timeout_s, turns=1)
        if held.is_stuck:
            return cast("System", make_system(system_spec, spec))
    return system


def _unheard(method: str, scenario: Scenario, stage: Stage | Failure) -> Conversation:
    assert isinstance(stage, Failure)
    return Conversation(method, scenario.id, (), stage)
