"""The multi-round protocol with small fakes: what is asked, kept, timed, measured and judged, and what fails."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lt_eval.errors import DatasetError, SpecError, StoreError, UsageError
from lt_eval.media.decode import read_audio
from lt_eval.media.probe import probe
from lt_eval.media.waves import wav_bytes
from lt_eval.protocols.multiround import RoundsOutcome, run_rounds
from lt_eval.protocols.rounds_judge import judge_options
from lt_eval.protocols.rounds_spec import RoundsSpec, build_rounds
from lt_eval.records import DIMENSIONS
from lt_eval.report.rounds import read_rounds
from lt_eval.spec import read_toml
from tests.protocols.rounds_world import HERE, HOSTILE, TOY, Judge, texts_of, write_scenarios

REPOSITORY = Path(__file__).resolve().parents[2]


class World:
    """Runs in one folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.said = root, root / "run", list[str]()
        self.scenarios = write_scenarios(root / "scenarios.jsonl")

    def run(self, server: Judge | None = None, systems: dict[str, Any] | None = None, **tables: Any) -> RoundsOutcome:
        """Run or continue; `tables` are laid over small defaults."""
        data: dict[str, Any] = {
            "scenarios": str(self.scenarios),
            "metrics": ["motion"],
            "weights": "builtin",
            "device": "cpu",
            "portrait_px": 64,
            "warmups": 0,
            "speaker": f"{HERE}:Beep",
            "system": systems or {"own": {"system": f"{HERE}:System"}},
        }
        if server is not None:
            data["judge"] = {"servers": "http://judge", "tries": 1, "side_px": 64}
        spec = build_rounds(data | tables)
        transport = server.transport if server else None
        return run_rounds(spec, self.out, progress=lambda *_: None, say=self.said.append, judge_transport=transport)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))
    return World(tmp_path)


def talking(talker: str = "Talker") -> dict[str, Any]:
    options = {"talker": f"{HERE}:{talker}", "generator": TOY}
    return {"toy": {"system": "reference", "options": options}}


# The whole way --------------------------------------------------------------------------------------------------------


def test_a_run_holds_every_conversation_and_leaves_what_a_report_needs(world: World) -> None:
    outcome = world.run(Judge(), talking() | {"own": {"system": f"{HERE}:System", "model_size": "1B"}})
    assert [(c.method, c.scenario) for c in outcome.conversations] == [
        (method, scenario) for method in ("toy", "own") for scenario in ("tower", "soup", "boat")
    ]
    assert outcome.failures == () and len(outcome.verdicts) == 6 * 9
    run = read_rounds(world.out)
    assert run.conversations == outcome.conversations and run.verdicts == outcome.verdicts
    assert run.rows == outcome.rows
    assert replace(run.manifest, sessions=()) == replace(outcome.manifest, sessions=())
    assert [method.model_size for method in run.manifest.methods] == ["", "1B"]
    judge = run.manifest.judge
    assert judge is not None and (judge.model, judge.server, judge.scale) == ("Org/Judge-30B", "0.33.0", (1, 5))
    assert list(judge.prompts) == list(DIMENSIONS)


def test_clips_carry_the_systems_frames_and_sound(world: World) -> None:
    (tower, *_) = world.run().conversations
    for turn in tower.turns:
        assert turn.video is not None and turn.user_audio is not None
        info = probe(turn.video)
        assert (info.frames, info.fps) == (10, 12.5) == (turn.frames, turn.fps)
        assert abs(len(read_audio(turn.video)) - 2 * 9600 * 16_000 / 24_000) < 600
        assert turn.transcript == "Part one. Part two." and turn.user_transcript == turn.user_text
        assert len(read_audio(turn.user_audio)) > 800


def test_latency_is_of_the_first_frame_and_its_talkers_share_of_the_first_sound(world: World) -> None:
    outcome = world.run(systems={"slow": {"system": f"{HERE}:System", "options": {"pause_s": 0.1}}})
    for conversation in outcome.conversations:
        for turn in conversation.turns:
            assert turn.talker_s is not None and turn.latency_s is not None and turn.wall_s is not None
            assert 0.1 <= turn.talker_s <= turn.latency_s <= turn.wall_s < 5.0


def test_neither_later_frames_nor_later_sound_count(world: World) -> None:
    """Sound, a gap, frames, a gap, sound, a gap, frames, a gap: only the first of each is waited for."""
    gap_s = 0.1
    for conversation in world.run(
        systems={"slow": {"system": f"{HERE}:System", "options": {"gap_s": gap_s}}}
    ).conversations:
        for turn in conversation.turns:
            assert turn.talker_s is not None and turn.latency_s is not None and turn.wall_s is not None
            assert turn.talker_s + gap_s <= turn.latency_s
            assert turn.latency_s + 3 * gap_s <= turn.wall_s


def test_the_video_goes_on_from_earlier_turns(world: World) -> None:
    """ToyGenerator draws one mark a turn of its session; the talker counts the turns it remembers."""
    (tower, *_) = world.run(systems=talking()).conversations
    assert [str(turn.transcript)[0] for turn in tower.turns] == ["0", "1"]
    first, second = (turn.video for turn in tower.turns)
    assert first is not None and second is not None and first.read_bytes() != second.read_bytes()


def test_a_folder_can_be_moved(world: World, tmp_path: Path) -> None:
    world.run()
    world.out.rename(tmp_path / "moved")
    turns = [turn for c in read_rounds(tmp_path / "moved").conversations for turn in c.turns]
    assert all(turn.video is not None and turn.video.is_file() for turn in turns)
    assert all(turn.user_audio is not None and turn.user_audio.is_file() for turn in turns)


def test_supplied_sound_is_taken_as_it_is(world: World) -> None:
    line = world.root / "line.wav"
    line.write_bytes(wav_bytes(np.full(4000, 0.25, np.float32), 8000))
    lines = [json.loads(text) for text in world.scenarios.read_text().splitlines()]
    lines[0]["turns"][0]["user_audio"] = "line.wav"
    world.scenarios.write_text("".join(json.dumps(record) + "\n" for record in lines))
    (tower, *_) = world.run().conversations
    assert tower.turns[0].user_audio is not None and tower.turns[0].user_audio.read_bytes() == line.read_bytes()


# Signals --------------------------------------------------------------------------------------------------------------


def test_mentions_are_counted_with_alternatives_and_what_must_not_be_said(world: World) -> None:
    rows = {(r.sample, r.turn): r for r in world.run(systems=talking()).rows if r.metric == "mentions"}
    assert rows["tower", 0].values == {"Mention recall": 1.0}
    assert rows["tower", 1].values == {"Mention recall": 1.0, "Forbidden": 0.0}
    assert rows["soup", 0].values == {"Mention recall": 1.0} and ("boat", 0) not in rows
    own = {(r.sample, r.turn): r for r in world.run().rows if r.metric == "mentions"}
    assert own["tower", 0].values == {"Mention recall": 0.0}


def test_rows_are_of_turns_and_of_this_run_alone(world: World) -> None:
    rows = world.run().rows
    motion = [(r.method, r.sample, r.turn) for r in rows if r.metric == "motion"]
    assert motion == [("own", s, t) for s in ("tower", "soup", "boat") for t in (0, 1)]
    assert all(r.values["Motion"] > 0 for r in rows if r.metric == "motion")
    fewer = world.run(limit=1)
    assert {r.sample for r in read_rounds(world.out).rows} == {"tower"} == {c.scenario for c in fewer.conversations}


def test_a_metric_of_conversations_sees_all_turns_and_its_failures_are_rows(world: World) -> None:
    rows = [r for r in world.run(metrics=["likeness"]).rows if r.metric == "likeness"]
    assert len(rows) == 3 and all(r.failure is not None or r.values for r in rows)


def test_a_metric_of_sets_has_no_place_here(world: World) -> None:
    with pytest.raises(SpecError, match="lt-eval single"):
        world.run(metrics=["fid"])


# The judge ------------------------------------------------------------------------------------------------------------


def test_without_a_judge_the_manifest_says_why_cells_are_empty(world: World) -> None:
    outcome = world.run()
    assert outcome.verdicts == () and outcome.manifest.judge is None
    assert "no judge was named" in outcome.manifest.no_judge and not (world.out / "verdicts.jsonl").exists()


def test_nothing_is_asked_twice(world: World) -> None:
    judge = Judge()
    first = world.run(judge)
    assert judge.count == 3 * 9
    again = world.run(judge)
    assert judge.count == 3 * 9 and again.verdicts == first.verdicts and again.conversations == first.conversations


def test_repeats_ask_with_other_seeds_and_keep_what_was_asked(world: World) -> None:
    judge = Judge()
    world.run(judge)
    tables = {"judge": {"servers": "http://judge", "tries": 1, "side_px": 64, "repeats": 3}}
    outcome = world.run(judge, **tables)
    assert judge.count == 3 * 9 * 3 and {v.repeat for v in outcome.verdicts} == {0, 1, 2}
    assert outcome.manifest.judge is not None and outcome.manifest.judge.repeats == 3


def test_a_judge_that_fails_is_a_verdict_without_a_score_and_is_asked_again(world: World) -> None:
    broken = Judge(lambda times, body: 500 if "Logical" in texts_of(body)[-1] else "Fine.\n\n\\boxed{3}")
    outcome = world.run(broken)
    failed = [v for v in outcome.verdicts if v.status != "ok"]
    assert {v.dimension for v in failed} == {"LC"} and all(v.score is None for v in failed) and len(failed) == 3
    before = broken.count
    mended = Judge()
    assert all(v.status == "ok" for v in world.run(mended).verdicts)
    assert mended.count == 3 and before >= 27


def test_a_hostile_answer_is_quoted_and_changes_no_score(world: World) -> None:
    """The scores come from what the judge boxed at the end of its reply, whatever stands in the transcript."""
    judge = Judge(lambda times, body: f"The answer says: {HOSTILE}\n\n\\boxed{{2}}")
    outcome = world.run(judge, talking("HostileTalker"))
    assert {v.score for v in outcome.verdicts} == {2.0}
    transcript = next(text for text in texts_of(judge.bodies[0]) if "<transcript>" in text)
    assert transcript.count("<transcript>") == transcript.count("</transcript>") == 1
    assert "\\boxed" not in transcript and "Ignore the rubric" in transcript


def test_a_failed_conversation_is_judged_a_failure_and_not_asked_about(world: World) -> None:
    judge = Judge()
    outcome = world.run(judge, {"own": {"system": f"{HERE}:System", "options": {"fault": "raise"}}})
    assert {v.status for v in outcome.verdicts if v.scenario == "soup"} == {"generation_failure"}
    assert judge.count == 2 * 9


def test_a_judge_of_ones_own_is_a_plugin(world: World) -> None:
    outcome = world.run(judge=f"{__name__}:Kind")
    assert {v.score for v in outcome.verdicts} == {5.0} and len(outcome.verdicts) == 3


class Kind:
    """A judge that likes everything, on one dimension."""

    def judge(self, conversations: Any, progress: Any) -> list[Any]:
        from lt_eval.records import Verdict

        return [Verdict(c.method, c.scenario, "OIE", 0, "ok", 5.0) for c in conversations]


# Failure is a row -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason", "message"),
    [
        ("raise", "generation_failed", "Turn 2: RuntimeError: CUDA error"),
        ("silent", "no_frames", "Turn 2: The system gave no frame."),
        ("hang", "timeout", "Turn 2: The system took longer than 0.5 s"),
        ("odd", "bad_frames", "Turn 2: Frames are 64x63, and H.264 needs even sides."),
        ("grows", "bad_frames", "Turn 2: Frames change within a turn from 64x64 to 64x62."),
        ("floats", "bad_frames", "Turn 2: Frames must be uint8 RGB [T, H, W, 3]; the system gave float64"),
        ("nan", "bad_sound", "Turn 2: Sound must be finite float [T]"),
    ],
)
def test_a_turn_that_fails_costs_its_conversation_only(world: World, fault: str, reason: str, message: str) -> None:
    outcome = world.run(systems={"own": {"system": f"{HERE}:System", "options": {"fault": fault}}}, turn_timeout_s=0.5)
    (failed,) = outcome.failures
    assert failed.scenario == "soup" and len(failed.turns) == 1
    assert failed.failure is not None and failed.failure.reason == reason and failed.failure.message.startswith(message)
    assert [len(c.turns) for c in outcome.conversations] == [2, 1, 2]
    assert not list(world.out.glob("clips/**/.*")) and not (world.out / "clips/own/soup/turn-2.mp4").exists()


def test_a_failed_conversation_is_tried_again_and_the_others_are_not(world: World) -> None:
    log = world.root / "log"
    system = {"system": f"{HERE}:System", "options": {"log": str(log), "fault": "raise"}}
    assert world.run(systems={"own": system}).failures
    system["options"] = {"log": str(log)}
    assert not world.run(systems={"own": system}).failures
    asked = log.read_text().splitlines()
    assert len(asked) == 6 + 2 and asked[6:] == ["What is good?", "I said cold!"]


def test_a_system_that_cannot_open_a_conversation_fails_each(world: World) -> None:
    outcome = world.run(systems={"own": {"system": f"{HERE}:System", "options": {"fault": "open"}}})
    assert [c.failure.message for c in outcome.failures if c.failure] == [
        "Opening the conversation: RuntimeError: out of memory"
    ] * 3


def test_a_speaker_that_fails_is_each_conversations_failure(world: World) -> None:
    outcome = world.run(speaker=f"{__name__}:Mute")
    assert [c.failure.reason for c in outcome.failures if c.failure] == ["speaker_failed"] * 3


class Mute:
    """A speaker without a voice."""

    def speak(self, text: str) -> Any:
        return np.zeros(0, np.float32)


# Resuming -------------------------------------------------------------------------------------------------------------


def test_a_conversation_is_held_again_where_anything_of_it_changed(world: World) -> None:
    log = world.root / "log"
    systems = {"own": {"system": f"{HERE}:System", "options": {"log": str(log)}}}
    world.run(systems=systems)
    world.run(systems=systems)
    assert len(log.read_text().splitlines()) == 6
    (world.out / "clips/own/boat/turn-1.mp4").write_bytes(b"damaged")
    world.run(systems=systems)
    assert log.read_text().splitlines()[6:] == ["How far is the sea?", "And how long is that?"]
    world.run(systems=systems, seed=1)
    assert len(log.read_text().splitlines()) == 8 + 6


@pytest.mark.parametrize("judged", [False, True])
def test_a_run_says_whether_it_came_to_its_end(world: World, judged: bool) -> None:
    """Killed while the judge is asked, a run must not pass for one without a judge."""
    world.run(Judge() if judged else None)
    assert read_rounds(world.out).manifest.finished
    seen = []

    def look(times: int, body: Any) -> str:
        seen.append(read_rounds(world.out).manifest.finished)
        return "\\boxed{3}"

    other = {"servers": "http://judge", "tries": 1, "side_px": 64, "seed": 9}
    assert world.run(Judge(look), judge=other).manifest.finished and set(seen) == {False}
    assert read_rounds(world.out).manifest.finished


@pytest.mark.parametrize(
    "transcriber",
    [
        {"name": "openai", "url": "http://user:secret@h/v1"},
        {"name": "openai", "api_key_env": "NO_SUCH_VARIABLE_HERE"},
        {"name": "funasr", "model": "nowhere"},
        {"name": "funazr"},
    ],
)
def test_a_transcriber_that_cannot_be_made_is_told_before_anything_is_asked(
    world: World, transcriber: dict[str, str]
) -> None:
    log = world.root / "log"
    with pytest.raises(UsageError) as caught:
        world.run(systems={"own": {"system": f"{HERE}:System", "options": {"log": str(log)}}}, transcriber=transcriber)
    assert not log.exists() and "secret" not in str(caught.value)
    assert not (world.out / "multiround.json").exists()


def test_a_folder_of_other_scenarios_is_refused(world: World) -> None:
    world.run()
    world.scenarios.write_text(world.scenarios.read_text().replace("Tell me about it.", "Tell me about that."))
    with pytest.raises(StoreError, match="another version"):
        world.run()


def test_the_folder_of_a_single_round_run_is_refused(world: World) -> None:
    world.out.mkdir()
    (world.out / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="single-round"):
        world.run()


# Finished turns beside a system ---------------------------------------------------------------------------------------


def test_finished_turns_are_a_method_like_any_other(world: World) -> None:
    from tests.clips import write_clips

    folder = world.root / "theirs"
    write_clips(folder, ["a", "b"])
    rows = [
        {"method": "sora", "scenario_id": name, "turns": [{"video": "a.mp4", "latency_s": 60.0}, {"video": "b.mp4"}]}
        for name in ("tower", "soup")
    ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = Judge()
    outcome = world.run(judge, {"own": {"system": f"{HERE}:System"}, "sora": {"results": str(folder)}})
    assert [c.failure.reason for c in outcome.failures if c.failure] == ["missing_conversation"]
    tower = outcome.conversations[3]
    assert tower.method == "sora" and tower.turns[0].latency_s == 60.0 and tower.turns[1].latency_s is None
    assert all(t.video is not None and t.video.is_relative_to(world.out) for t in tower.turns)
    assert [r.failure.reason for r in outcome.rows if r.method == "sora" and r.failure] == ["no_transcript"] * 3
    assert judge.count == 3 * 9 + 2 * 4  # what is judged from the transcript is not asked where there is none


def test_old_tables_go_when_a_run_begins_again(world: World) -> None:
    world.run(Judge())
    for name in ("summary.json", "statistics.json", "tables/table.md"):
        (world.out / name).parent.mkdir(exist_ok=True)
        (world.out / name).write_text("old")
    world.run(seed=5)
    left = [name for name in ("summary.json", "statistics.json", "tables/table.md") if (world.out / name).exists()]
    assert left == [] and not (world.out / "verdicts.jsonl").exists()


def test_a_judge_that_does_not_answer_is_told_before_anything_is_asked_of_a_system(world: World) -> None:
    log = world.root / "log"
    dead = Judge()
    dead.transport = httpx.MockTransport(lambda request: httpx.Response(503))
    with pytest.raises(UsageError, match="judge serve"):
        world.run(dead, {"own": {"system": f"{HERE}:System", "options": {"log": str(log)}}})
    assert not log.exists()


# The specification ----------------------------------------------------------------------------------------------------


def test_no_system_is_refused_with_what_to_write(world: World) -> None:
    with pytest.raises(SpecError, match="--system reference"):
        run_rounds(build_rounds({}), world.out, progress=lambda *_: None, say=world.said.append)


def test_a_demo_needs_scenarios_that_are_marked(world: World) -> None:
    with pytest.raises(DatasetError, match="demo"):
        world.run(demo=True)


@pytest.mark.parametrize(
    ("tables", "finding"),
    [
        ({"limitt": 3}, "Did you mean 'limit'"),
        ({"limit": 0}, "at least 1"),
        ({"turn_timeout_s": 0.0}, "above 0"),
        ({"portrait_px": 100}, "multiple of 16"),
        ({"metrics": "sync"}, "a list of metric names"),
        ({"metric": {"snyc": {}}}, "Did you mean 'sync'"),
        ({"system": {"a": {}}}, "either system = NAME or results = FOLDER"),
        ({"system": {"a": {"system": "x", "results": "y"}}}, "not both"),
        ({"system": {"a": {"sytem": "x"}}}, "Did you mean 'system'"),
        ({"system": {"../a": {"system": "x"}}}, "cannot be"),
        ({"judge": 5}, "a table"),
        ({"speaker": {"name": 5}}, "speaker.name"),
        ({"protocol": "single"}, "it must be 'multiround'"),
    ],
)
def test_what_a_specification_cannot_hold_is_refused(tables: dict[str, Any], finding: str) -> None:
    with pytest.raises(SpecError, match=finding):
        build_rounds(tables)


def test_the_specifications_on_the_page_and_in_the_repository_are_accepted() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs" / "multiround.md").read_text(), flags=re.S)
    page = build_rounds(tomllib.loads(block))
    assert [system.name for system in page.systems] == ["ours", "sora2"]
    table2 = build_rounds(read_toml(REPOSITORY / "benchmarks" / "multiround" / "table2.toml"))
    assert judge_options(table2.judge.options).frames == "paper" and judge_options(page.judge.options).repeats == 3


def test_every_key_of_a_specification_is_documented() -> None:
    page = (REPOSITORY / "docs" / "multiround.md").read_text()
    tables = {"systems": "system", "speaker": "speaker", "transcriber": "transcriber", "judge": "judge"}
    names = {field.name for field in fields(RoundsSpec)} - {"execution"}
    assert [n for n in sorted(names) if not re.search(rf"(?m)^(\[?{tables.get(n, n)}\b|{n} = )", page)] == []


def test_a_password_in_an_address_is_refused(world: World) -> None:
    options = {
        "talker": "openai",
        "talker_options": {"url": "http://me:secret@host/v1", "model": "m"},
        "generator": TOY,
    }
    with pytest.raises(SpecError, match="key_env") as caught:
        world.run(systems={"own": {"system": "reference", "options": options}})
    assert "secret" not in str(caught.value) and not world.out.joinpath("multiround.json").exists()


@pytest.mark.parametrize(
    ("judge", "finding"),
    [
        ({"servers": "http://judge", "repeat": 2}, "Did you mean 'repeats'"),
        ({"servers": "http://judge", "repeats": "2"}, "a whole number"),
        ({"servers": 5}, "a text, or a list"),
        ({"servers": "judge:8000"}, "http://"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused_before_anything_runs(
    world: World, judge: dict[str, Any], finding: str
) -> None:
    with pytest.raises(SpecError, match=finding):
        world.run(judge=judge)
    assert not world.out.exists()
