"""Several processes: they train as one does, continue after a kill, and continue what another number of them began."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lt_eval.distill.ranks import ALONE, Ranks, check_divides, joined
from lt_eval.distill.recipe import build, check_shares
from lt_eval.distill.stages import STAGES
from lt_eval.distill.training import outcome, read_log
from lt_eval.errors import LtEvalError, SpecError
from lt_eval.spec import merge
from tests.distill import ranked
from tests.distill.nano import batch, denoiser
from tests.distill.test_command import RECIPE

REPOSITORY = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def two_processes(*words: object, cwd: Path = REPOSITORY) -> subprocess.Popen[str]:
    """Start two processes and what supervises them."""
    more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "LT_EVAL_CACHE": str(cwd / "cache")}
    return subprocess.Popen(
        [*TORCHRUN, *map(str, words)],
        cwd=cwd,
        env=os.environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def children(parent: int) -> list[int]:
    """Return the processes that another one started."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [pid for pid, above in pairs if above == parent]


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    ranked.run(folder, ALONE)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left of which one was killed after step 5 of DMD; the newest checkpoint is that of step 4."""
    folder = tmp_path_factory.mktemp("killed")
    process = two_processes("tests.distill.ranked", folder, 5)
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0 and (folder / "ode.safetensors").is_file(), said
    assert outcome(folder / "dmd") is None and torch.load(folder / "dmd" / "state.pt")["now"]["step"] == 4
    return folder


@pytest.fixture(scope="module")
def two(killed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, continued by two processes."""
    folder = Path(shutil.copytree(killed, tmp_path_factory.mktemp("two") / "run"))
    finished(two_processes("tests.distill.ranked", folder))
    return folder


def same_log(first: Path, second: Path) -> None:
    """Assert that two logs tell of the same steps, in numbers that differ by rounding alone."""
    for mine, other in zip(read_log(first), read_log(second), strict=True):
        assert numbers(mine) == pytest.approx(numbers(other), rel=1e-5, abs=1e-6)


def numbers(line: dict[str, Any]) -> dict[str, float]:
    held_out: dict[str, float] = line.get("held_out", {})
    return {name: value for name, value in line.items() if name != "held_out"} | held_out


def same_weights(first: Path, second: Path) -> None:
    mine, other = load_file(first), load_file(second)
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        # Adam divides by a gradient's own size: one of rounding alone moves a parameter as far as any other
        torch.testing.assert_close(value, other[name], rtol=0, atol=2e-4)


@pytest.mark.parametrize("stage", ["teacher", "ode", "dmd"])
def test_two_processes_train_as_one_does(stage: str, one: Path, two: Path) -> None:
    same_log(one / stage, two / stage)
    same_weights(one / f"{stage}.safetensors", two / f"{stage}.safetensors")


def test_two_processes_make_the_trajectories_of_one(one: Path, two: Path) -> None:
    """Three at a time: of the second process's two, the last is made for nothing."""
    for name in ("states", "reference", "audio"):
        mine, other = (np.load(folder / "pairs" / f"{name}.npy") for folder in (one, two))
        np.testing.assert_allclose(mine, other, atol=2e-3)
    assert (one / "pairs" / "pairs.json").read_bytes() == (two / "pairs" / "pairs.json").read_bytes()


def test_a_killed_run_goes_on_exactly(killed: Path, two: Path) -> None:
    """Step 5 was done before the kill and again after it."""
    before, after = read_log(killed / "dmd"), read_log(two / "dmd")
    assert before[-1]["step"] == 5 and before == after[: len(before)]
    assert after[-1]["step"] == 6 and outcome(two / "dmd") is not None


def test_one_process_continues_what_two_began(killed: Path, one: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(killed, tmp_path / "alone"))
    ranked.distil(folder, ALONE)
    same_log(one / "dmd", folder / "dmd")
    same_weights(one / "dmd.safetensors", folder / "dmd.safetensors")


def test_each_process_holds_half(one: Path, two: Path) -> None:
    whole = json.loads((one / "rank-0.json").read_text())["held"]
    halves = [json.loads((two / f"rank-{rank}.json").read_text())["held"] for rank in range(2)]
    assert sum(halves) == whole and max(halves) < 0.6 * whole


def test_a_checkpoint_holds_whole_tensors(one: Path, two: Path) -> None:
    mine, other = (torch.load(folder / "dmd" / "state.pt")["state"] for folder in (one, two))
    assert {k: v.shape for k, v in mine["student"].items()} == {k: v.shape for k, v in other["student"].items()}
    moments, others = mine["adam critic"]["state"], other["adam critic"]["state"]
    assert moments.keys() == others.keys()
    assert all(moments[key][name].shape == others[key][name].shape for key in moments for name in moments[key])


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_goes_from_nothing_to_a_bundle_and_survives_a_kill(tmp_path: Path) -> None:
    (tmp_path / "nano.toml").write_text(RECIPE)
    words = ("lt_eval", "distill", "all", "--recipe", "nano.toml", "--out", "out", "--device", "cpu")
    process = two_processes(*words, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "teacher" / "log.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    for worker in children(process.pid):  # they are in sessions of their own
        os.kill(worker, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert (tmp_path / "out" / "codec" / "codec.safetensors").is_file()
    assert not (tmp_path / "out" / "nano.safetensors").exists()
    said = finished(two_processes(*words, cwd=tmp_path)).splitlines()
    assert said.count("out") == 1 and sum("Best at step" in line for line in said) == 1  # the first process speaks
    assert (tmp_path / "out" / "nano.safetensors").is_file()
    for stage in ("teacher", "ode", "dmd"):
        steps = [line["step"] for line in read_log(tmp_path / "out" / stage) if "held_out" not in line]
        assert steps == [1] and outcome(tmp_path / "out" / stage) == pytest.approx(
            {"steps": 4, "reason": "steps", "seconds": 0}, abs=300
        )


# Without processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "setting"),
    [("teacher", {"teacher": {"batch": 3}}), ("ode-init", {"ode": {"batch": 3}}), ("dmd", {"dmd": {"batch": 3}})],
)
def test_a_batch_that_does_not_divide_is_refused(stage: str, setting: dict[str, Any]) -> None:
    recipe, both = build(merge(tomllib.loads(RECIPE), setting)), Ranks(0, 2)
    with pytest.raises(SpecError, match=r"\.batch is 3 and 2 processes share it.* Set it to 2 or 4"):
        check_shares(recipe, STAGES, both)
    check_shares(recipe, [other for other in STAGES if other != stage], both)
    check_shares(recipe, STAGES, ALONE)


def test_parts_are_all_clips_in_order() -> None:
    clips, everyones = batch(6, frames=3), torch.arange(6)
    parts = [Ranks(rank, 3) for rank in range(3)]
    assert [prompt for ranks in parts for prompt in ranks.share(clips).prompts] == list(clips.prompts)
    assert torch.equal(torch.cat([ranks.own(everyones) for ranks in parts]), everyones)
    with pytest.raises(SpecError, match="is 4 and 3 processes"):
        check_divides("a batch", 4, 3)


def test_random_numbers_are_parts_of_those_of_one_process() -> None:
    def drawn(ranks: Ranks, many: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [ranks.uniform((many,), generator), ranks.normal((many, 2), generator)]

    whole, halves = drawn(ALONE, 6), [drawn(Ranks(rank, 2), 3) for rank in range(2)]
    for number, numbers_of_all in enumerate(whole):
        assert torch.equal(torch.cat([half[number] for half in halves]), numbers_of_all)


def test_a_frozen_copy_takes_weights_over_and_leaves_the_model() -> None:
    model, other = denoiser(1), denoiser(2)
    taken = model.with_weights({name: value.clone() for name, value in other.state_dict().items()})
    assert not any(parameter.requires_grad for parameter in taken.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in taken.state_dict().items())


def test_alone_is_what_is_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "1"):
        monkeypatch.delenv("WORLD_SIZE", raising=False) if value is None else monkeypatch.setenv("WORLD_SIZE", value)
        with joined("cpu") as ranks:
            assert ranks == ALONE and not torch.distributed.is_initialized()


@pytest.mark.parametrize(("device", "why"), [("cuda:1", "take cpu or cuda"), ("cuda", "found none left")])
def test_a_process_without_a_gpu_is_told_so(device: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1000")
    monkeypatch.setenv("LOCAL_RANK", "999")
    with pytest.raises(LtEvalError, match=why), joined(device):
        pass
