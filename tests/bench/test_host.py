"""A generator in a process of its own: what it does wrong has a reason and an end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lt_eval.bench import work
from lt_eval.bench.host import Host
from lt_eval.bench.work import Drive
from lt_eval.errors import SpecError, UnknownNameError, UnscorableError, UsageError, WeightsError

if TYPE_CHECKING:
    from lt_eval.interfaces import Generator

ODD, BROKEN = "tests.bench.odd:Odd", "tests.bench.odd:Broken"
DRIVE = Drive(seconds=0.4, size=32, kind="noise")
PATIENT_S = 60.0


def process_id(generator: Generator, tell: Callable[[str], None]) -> int:
    return os.getpid()


def refuse(generator: Generator, tell: Callable[[str], None]) -> None:
    raise WeightsError("weights of the teacher are missing")


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def odd() -> Iterator[Callable[..., Host]]:
    """Makes hosts, and closes them whatever happens."""
    made: list[Host] = []

    def make(mode: str = "", timeout_s: float = PATIENT_S, **options: object) -> Host:
        made.append(Host(ODD, {"mode": mode, **options}, {"device": "cpu"}, timeout_s=timeout_s))
        return made[-1]

    yield make
    for host in made:
        host.close()


def test_a_generator_is_described_and_timed_in_its_own_process(odd: Callable[..., Host]) -> None:
    host = odd()
    loaded = host.load()
    assert (loaded.fps, loaded.sample_rate, loaded.streams, loaded.has_stages) == (25.0, 16_000, True, False)
    assert loaded.settings["dtype"] == "uint8" and loaded.load_s > 0 and loaded.identity
    assert host.call(process_id) != os.getpid() == os.getpid()
    run = host.call(work.timed_run, DRIVE, 0)
    assert run.timeline.frames == 32 and run.memory["host_mib"] > 10
    assert host.call(work.timed_run, DRIVE, 0).timeline.frames == 32


@pytest.mark.parametrize(
    ("mode", "code", "words"),
    [
        ("raise", "generation_failed", r"RuntimeError: out of ideas \(odd.py, line \d+\)"),
        ("leave", "generation_failed", "SystemExit: 3"),
        ("grow", "generation_invalid", "change from"),
    ],
)
def test_what_a_generator_does_wrong_has_a_reason_and_it_can_go_on(
    odd: Callable[..., Host], tmp_path: Path, mode: str, code: str, words: str
) -> None:
    host = odd(mode, once=str(tmp_path / "happened"))
    before = host.call(process_id)
    with pytest.raises(UnscorableError, match=words) as caught:
        host.call(work.timed_run, DRIVE, 0)
    assert caught.value.code == code
    assert host.call(work.timed_run, DRIVE, 1).timeline.frames == 32
    assert host.call(process_id) == before


def test_a_crash_is_named_by_its_signal_and_the_next_turn_has_a_fresh_process(
    odd: Callable[..., Host], tmp_path: Path
) -> None:
    host = odd("crash", once=str(tmp_path / "happened"))
    with pytest.raises(UnscorableError, match="SIGABRT while it was generating"):
        host.call(work.timed_run, DRIVE, 0)
    assert host.call(work.timed_run, DRIVE, 0).timeline.frames == 32


def test_a_generator_that_hangs_is_ended_after_the_time_out_and_the_next_turn_runs(
    odd: Callable[..., Host], tmp_path: Path
) -> None:
    host = odd("hang", once=str(tmp_path / "happened"))
    process = host.call(process_id)
    begin = time.monotonic()
    with pytest.raises(UnscorableError, match=r"no sign of life for 1 s.*--generator-timeout SECONDS") as caught:
        host.call(work.timed_run, DRIVE, 0, timeout_s=1.0)
    assert caught.value.code == "generation_timeout" and time.monotonic() - begin < 30
    assert is_gone(process)
    assert host.call(work.timed_run, DRIVE, 0).timeline.frames == 32


def test_slow_chunks_are_signs_of_life(odd: Callable[..., Host]) -> None:
    """Eight chunks of 0.25 s take longer than the time-out, and none of them does."""
    host = odd(delay_s=0.25)
    host.load()
    assert host.call(work.timed_run, DRIVE, 0, timeout_s=1.5).timeline.frames == 32


def test_closing_ends_the_process_even_in_mid_turn(odd: Callable[..., Host]) -> None:
    host = odd("hang")
    process = host.call(process_id)
    with pytest.raises(UnscorableError):
        host.call(work.timed_run, DRIVE, 0, timeout_s=0.5)
    second = host.call(process_id)
    host.close()
    assert is_gone(process) and is_gone(second)


def test_what_a_generator_has_started_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with Host("tests.bench.odd:Spawning", {"mode": "hang", "note": str(note)}, {}, timeout_s=PATIENT_S) as host:
        host.load()
        with pytest.raises(UnscorableError, match="no sign of life"):
            host.call(work.timed_run, DRIVE, 0, timeout_s=1.5)
    child, deadline = int(note.read_text()), time.monotonic() + 10
    while not is_gone(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_gone(child)


def test_speeds_on_another_device_are_those_of_another_generator() -> None:
    found = []
    for name in ("tests.bench.odd:Somewhere", ODD):
        for device in ("cpu", "meta"):
            with Host(name, {}, {"device": device}, timeout_s=PATIENT_S) as host:
                found.append(host.load())
    assert [one.device for one in found] == ["cpu", "meta", "", ""]
    assert found[0].identity != found[1].identity and found[2].identity == found[3].identity


def test_a_process_killed_from_outside_is_said_so(odd: Callable[..., Host]) -> None:
    host = odd()
    os.kill(host.call(process_id), signal.SIGKILL)
    with pytest.raises(UnscorableError, match=r"SIGKILL \(out of memory, perhaps\)"):
        host.call(work.timed_run, DRIVE, 0)


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("tests.bench.odd:Nobody", {}, UnknownNameError, "cannot be imported"),
        (ODD, {"moed": "hang"}, SpecError, "Did you mean 'mode'"),
        (BROKEN, {}, UsageError, "cannot be made: RuntimeError: no such device"),
        (BROKEN, {"how": "hang"}, UsageError, "cannot be made: no sign of life for 3 s while it was being made"),
    ],
)
def test_a_generator_that_cannot_be_made_is_a_users_error(
    name: str, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with Host(name, options, {}, timeout_s=3.0) as host, pytest.raises(error, match=words) as caught:
        host.load()
    assert type(caught.value) is error


def test_an_error_of_ours_comes_by_its_own_class(odd: Callable[..., Host]) -> None:
    with pytest.raises(WeightsError, match="of the teacher"):
        odd().call(refuse)
