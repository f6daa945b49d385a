"""A folder of finished turns: what is right passes, and everything that is wrong is said, with its line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lt_eval.datasets.scenarios import Scenario, load_scenarios
from lt_eval.errors import SpecError, StoreError
from lt_eval.systems.results import MANIFEST, ResultsFolder, inside, problems_of
from tests.clips import write_clips


def row(scenario: str, *turns: Any, **more: Any) -> dict[str, Any]:
    return {"method": "sora", "scenario_id": scenario, "status": "ok", "turns": list(turns), **more}


def turn(video: str, **more: Any) -> dict[str, Any]:
    return {"video": video, "transcript": "Hello.", "latency_s": 60.5, "fps": 25, "frames": 20, **more}


GOOD = [
    row("tower", turn("sora/a.mp4"), turn("sora/b.mp4", first_frame_s=3.0)),
    row("soup", turn("sora/a.mp4"), status="failed", error="quota exceeded"),
]


@pytest.fixture
def scenarios(tmp_path: Path) -> tuple[Scenario, ...]:
    persona = {"name": "Ann", "description": "A guide."}
    turns = [{"user": "Hello?", "emotion": "curious"}, {"user": "And now?", "emotion": "curious"}]
    lines = [{"id": name, "domain": "x", "persona": persona, "turns": turns} for name in ("tower", "soup", "boat")]
    path = tmp_path / "scenarios.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_scenarios(path)


def folder_of(tmp_path: Path, rows: list[Any]) -> Path:
    folder = tmp_path / "results"
    write_clips(folder / "sora", ["a", "b"])
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_good_folder_passes_and_says_what_it_holds(tmp_path: Path, scenarios: tuple[Scenario, ...]) -> None:
    problems, notes = problems_of(folder_of(tmp_path, GOOD), scenarios, decode=True)
    assert problems == []
    assert notes == ["sora: 2 conversations, 2 of 3 scenarios.", "sora: no conversation for boat."]


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ('{"method": "sora",', "line 1: not JSON"),
        ("[1]", "line 1: a JSON object is needed"),
        (row("towr", turn("sora/a.mp4")), "line 1: there is no scenario 'towr'. Did you mean 'tower'?"),
        (row("tower", turn("sora/a.mp4")), "line 1: scenario 'tower' has 2 turns, and 1 are given"),
        (row("soup", *[turn("sora/a.mp4")] * 3, status="failed"), "line 1: scenario 'soup' has 2 turns, and 3"),
        (row("tower", turn("sora/c.mp4"), turn("sora/b.mp4")), "turn 1: there is no file 'sora/c.mp4'"),
        (row("tower", turn("../a.mp4"), turn("sora/b.mp4")), "turn 1: the path '../a.mp4' leaves the folder"),
        (row("tower", turn("/etc/passwd"), turn("sora/b.mp4")), "'/etc/passwd' leaves the folder"),
        (row("tower", turn("sora/../../x"), turn("sora/b.mp4")), "leaves the folder"),
        (row("tower", turn("sora/a.mp4\0"), turn("sora/b.mp4")), "leaves the folder"),
        (row("tower", turn("sora"), turn("sora/b.mp4")), "turn 1: 'sora' is not a file"),
        (row("tower", turn("sora/a.mp4", frames=21), turn("sora/b.mp4")), "frames = 21, and the file has 20"),
        (row("tower", turn("sora/a.mp4", fps=30), turn("sora/b.mp4")), "fps = 30, and the file has 25"),
        (row("tower", turn("sora/a.mp4", latency_s=-1), turn("sora/b.mp4")), "latency_s = -1: a number of at least 0"),
        (row("tower", turn("sora/a.mp4", first_frame_s=99), turn("sora/b.mp4")), "later than latency_s"),
        (row("tower", turn("sora/a.mp4", latncy_s=1), turn("sora/b.mp4")), "Did you mean 'latency_s'?"),
        (row("tower", turn("sora/a.mp4", frames=True), turn("sora/b.mp4")), "frames = True: a whole number"),
        (row("tower", turn("sora/a.mp4", transcript=5), turn("sora/b.mp4")), "transcript = 5: a text is needed"),
        (row("tower", {}, turn("sora/b.mp4")), "turn 1: video = None"),
        (row("tower", "x"), "turn 1 = 'x': an object is needed"),
        (row("tower", turn("sora/a.mp4"), turn("sora/b.mp4"), status="done"), "status = 'done'"),
        (row("tower", turn("sora/a.mp4"), turn("sora/b.mp4"), method="../x"), "it cannot be"),
        ({"method": "sora", "scenario_id": "tower"}, "turns = None: a list of turns is needed"),
        ({"scenario_id": 3, "turns": []}, "method = None: a text is needed"),
    ],
)
def test_everything_that_can_be_wrong_is_said(
    tmp_path: Path, scenarios: tuple[Scenario, ...], line: Any, finding: str
) -> None:
    problems, _ = problems_of(folder_of(tmp_path, [line]), scenarios)
    assert any(finding in problem for problem in problems), problems
    assert all(problem.startswith("line 1: ") for problem in problems)


def test_all_problems_are_said_at_once(tmp_path: Path, scenarios: tuple[Scenario, ...]) -> None:
    rows = ["{", GOOD[0], GOOD[0], row("boat", turn("no.mp4"), turn("../no.mp4"))]
    problems, _ = problems_of(folder_of(tmp_path, rows), scenarios)
    assert [problem.partition(":")[0] for problem in problems] == ["line 1", "line 3", "line 4", "line 4"]
    assert "already in line 2" in problems[1]


def test_a_link_may_not_leave_the_folder_but_may_stay_in_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, GOOD)
    (tmp_path / "secret.mp4").write_bytes((folder / "sora" / "a.mp4").read_bytes())
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "in.mp4").symlink_to(folder / "sora" / "a.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    for name in ("out.mp4", "up/secret.mp4"):
        with pytest.raises(ValueError, match="link that leaves"):
            inside(folder, name)
    with pytest.raises(ValueError, match="no file"):
        inside(folder, "loop.mp4")
    assert inside(folder, "in.mp4").is_file()


@pytest.mark.parametrize(
    ("content", "finding"), [(b"", "is empty"), (b"no video at all" * 9, "not a video"), (None, "cut off")]
)
def test_videos_that_cannot_be_read_are_said(
    tmp_path: Path, scenarios: tuple[Scenario, ...], content: bytes | None, finding: str
) -> None:
    folder = folder_of(tmp_path, GOOD)
    clip = folder / "sora" / "b.mp4"
    clip.write_bytes(clip.read_bytes()[:-200] if content is None else content)
    problems, _ = problems_of(folder, scenarios)
    assert len(problems) == 1 and finding in problems[0] and problems[0].startswith("line 1: turn 2: sora/b.mp4")


def test_a_silent_answer_needs_a_transcript(tmp_path: Path, scenarios: tuple[Scenario, ...]) -> None:
    from lt_eval.media.encode import encode
    from tests.clips import moving_frames

    silent = {"video": "sora/silent.mp4"}
    folder = folder_of(tmp_path, [row("tower", silent, silent | {"transcript": "Hello."})])
    encode(folder / "sora" / "silent.mp4", moving_frames(1), 25.0)
    problems, _ = problems_of(folder, scenarios)
    assert problems == ["line 1: turn 1: sora/silent.mp4: has no sound, and no transcript says what was answered."]


def test_no_folder_and_no_manifest_are_no_findings_but_errors(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        problems_of(tmp_path / "absent", [])
    with pytest.raises(StoreError, match="docs/multiround"):
        problems_of(tmp_path, [])
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe")
    with pytest.raises(StoreError, match="UTF-8"):
        problems_of(tmp_path, [])
    (tmp_path / MANIFEST).write_bytes(b"\n")
    assert problems_of(tmp_path, [])[0] == ["the manifest is empty: it needs one line for each conversation."]


# As a system ----------------------------------------------------------------------------------------------------------


def test_finished_turns_become_a_conversation(tmp_path: Path, scenarios: tuple[Scenario, ...]) -> None:
    folder = folder_of(tmp_path, GOOD)
    tower, soup, boat = (ResultsFolder(os.fspath(folder)).conversation(s, "Sora 2") for s in scenarios)
    assert tower.failure is None and [t.user_text for t in tower.turns] == ["Hello?", "And now?"]
    assert [(t.latency_s, t.wall_s, t.frames) for t in tower.turns] == [(60.5, 60.5, 20), (3.0, 60.5, 20)]
    assert {c.method for c in (tower, soup, boat)} == {"Sora 2"}
    assert soup.failure is not None and soup.failure.message == "quota exceeded" and len(soup.turns) == 1
    assert boat.failure is not None and boat.failure.reason == "missing_conversation"


def test_a_bad_video_fails_its_conversation_only(tmp_path: Path, scenarios: tuple[Scenario, ...]) -> None:
    folder = folder_of(tmp_path, [GOOD[0], row("boat", turn("sora/a.mp4"), turn("sora/a.mp4"))])
    (folder / "sora" / "b.mp4").write_bytes(b"")
    system = ResultsFolder(os.fspath(folder))
    tower = system.conversation(scenarios[0], "sora")
    assert tower.failure is not None and tower.failure.reason == "bad_result" and "turn 2" in tower.failure.message
    assert system.conversation(scenarios[2], "sora").failure is None


def test_several_methods_must_be_told_apart(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [GOOD[0], GOOD[0] | {"method": "veo"}])
    with pytest.raises(SpecError, match="several methods"):
        ResultsFolder(os.fspath(folder))
    with pytest.raises(SpecError, match=r"no method 'vio'\. Did you mean 'veo'"):
        ResultsFolder(os.fspath(folder), method="vio")
    assert ResultsFolder(os.fspath(folder), method="veo")


def test_a_broken_manifest_stops_a_run_and_names_the_command_that_says_all(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"2 findings in all.*lt-eval validate"):
        ResultsFolder(os.fspath(folder_of(tmp_path, ["{", "["])))
