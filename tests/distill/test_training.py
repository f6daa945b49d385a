"""The loop: exact resume, averages, convergence, rates."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lt_eval.distill.training import (
    Average,
    LoopOptions,
    Optimiser,
    OptimiserOptions,
    Progressed,
    Stateful,
    converged,
    generator_of,
    outcome,
    read_log,
    train,
)
from lt_eval.errors import StoreError

ADAM = OptimiserOptions(1e-2, warmup_steps=3, decay_to=0.1)


def fit(folder: Path, steps: int = 24, *, die_at: int = -1, pause_s: float = 0.0, identity: str = "a") -> Progressed:
    """Fit a line to noise that depends on the step alone; raise at step `die_at`."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimiser, average = Optimiser(model.parameters(), ADAM, steps), Average(model, 0.9, start=5)

    def step(number: int) -> dict[str, float]:
        if number == die_at:
            raise KeyboardInterrupt
        time.sleep(pause_s)
        x = torch.randn(4, 3, generator=generator_of(1, "fit", number))
        loss = (model(x) - x[:, :2]).square().mean()
        optimiser.begin(number)
        norm = float(optimiser.follow(loss))
        average.update()
        return {"loss": float(loss.detach()), "norm": norm}

    def evaluate(number: int) -> dict[str, float]:
        x = torch.randn(64, 3, generator=generator_of(1, "held out", 0))
        with torch.no_grad():
            return {"loss": float((model(x) - x[:, :2]).square().mean())}

    def keep(number: int) -> None:
        torch.save(average.weights(), folder / "best.pt")

    options = LoopOptions(steps, log_every=2, checkpoint_every=5, evaluate_every=6)
    state: dict[str, Stateful] = {"model": model, "optimiser": optimiser, "average": average}
    now = train(folder, options, state, step, evaluate=evaluate, better=keep, identity=identity)
    torch.save({"model": model.state_dict(), "average": average.weights()}, folder / "end.pt")
    return now


def same_weights(one: Path, other: Path, name: str) -> bool:
    first, second = (flat(torch.load(folder / name)) for folder in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def flat(tree: dict[str, Any]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for key, value in tree.items():
        parts = flat(value) if isinstance(value, dict) else {"": value}
        found |= {f"{key}.{inner}": tensor for inner, tensor in parts.items()}
    return found


@pytest.mark.parametrize("die_at", [1, 5, 13, 23])
def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path, die_at: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(whole)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, die_at=die_at)
    assert outcome(broken) is None
    fit(broken)
    assert same_weights(whole, broken, "end.pt") and same_weights(whole, broken, "best.pt")
    assert (whole / "log.jsonl").read_bytes() == (broken / "log.jsonl").read_bytes()


def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(whole)
    code = "import sys; from pathlib import Path; from tests.distill.test_training import fit; "
    code += "fit(Path(sys.argv[1]), pause_s=0.05)"
    process = subprocess.Popen([sys.executable, "-c", code, str(killed)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while not (killed / "state.pt").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait(timeout=30)
    assert (killed / "state.pt").is_file() and outcome(killed) is None
    fit(killed)
    assert same_weights(whole, killed, "end.pt")
    assert (whole / "log.jsonl").read_bytes() == (killed / "log.jsonl").read_bytes()


def test_a_torn_line_of_the_log_is_written_again(tmp_path: Path) -> None:
    fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "torn", die_at=13)
    log = tmp_path / "torn" / "log.jsonl"
    log.write_text(log.read_text()[:-7])
    fit(tmp_path / "torn")
    assert log.read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    fit(tmp_path)
    before = (tmp_path / "end.pt").read_bytes()
    assert fit(tmp_path, die_at=0).step == 24
    assert (tmp_path / "end.pt").read_bytes() == before


def test_another_recipe_is_not_continued(tmp_path: Path) -> None:
    fit(tmp_path)
    with pytest.raises(StoreError, match="another recipe"):
        fit(tmp_path, identity="b")


def test_a_checkpoint_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"no")
    with pytest.raises(StoreError, match=r"state\.pt: not a checkpoint"):
        fit(tmp_path)


def test_a_stage_without_a_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no log"):
        read_log(tmp_path)


def test_steps_differ_and_repeat() -> None:
    draw = [float(torch.rand((), generator=generator_of(0, "a", step))) for step in range(50)]
    assert len(set(draw)) == 50
    assert draw[7] == float(torch.rand((), generator=generator_of(0, "a", 7)))
    assert draw[7] != float(torch.rand((), generator=generator_of(1, "a", 7)))


def test_convergence_needs_patience_and_forgives_noise() -> None:
    assert not converged([3.0, 2.0, 1.0], 2, 0.01)
    assert not converged([1.0, 1.0], 2, 0.01)
    assert converged([1.0, 0.999, 1.2], 2, 0.01)
    assert not converged([1.0, 0.9, 1.2], 2, 0.01)
    assert not converged([1.0] * 99, 0, 0.01)


def test_what_is_there_before_the_first_step_can_be_measured_and_kept(tmp_path: Path) -> None:
    kept: list[int] = []
    values = iter((1.0, 3.0, 2.0))
    now = train(
        tmp_path,
        LoopOptions(4, evaluate_every=2),
        {},
        lambda number: {"loss": 0.0},
        evaluate=lambda number: {"loss": next(values)},
        better=kept.append,
        before=True,
    )
    assert now.held_out == [(0, 1.0), (2, 3.0), (4, 2.0)] and kept == [0]
    assert [line["step"] for line in read_log(tmp_path) if "held_out" in line] == [0, 2, 4]


def test_a_stage_ends_when_it_has_converged(tmp_path: Path) -> None:
    held_out = iter([3.0, 2.0, 2.0, 2.0, 2.0])
    kept: list[int] = []
    now = train(
        tmp_path,
        LoopOptions(100, evaluate_every=3, patience=2),
        {},
        lambda step: {"loss": 0.0},
        evaluate=lambda step: {"loss": next(held_out)},
        better=kept.append,
    )
    assert (now.step, now.reason, kept) == (12, "converged", [3, 6])
    assert outcome(tmp_path) == {"steps": 12, "reason": "converged", "seconds": pytest.approx(0, abs=5)}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "held_out" in line] == [3, 6, 9, 12]


def test_the_average_starts_late_and_follows_its_law() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, 0.9, start=3)
    expected = 0.0
    for update in range(1, 8):
        with torch.no_grad():
            model.weight.fill_(float(update))
        average.update()
        expected = float(update) if update <= 3 else 0.9 * expected + 0.1 * update
        assert float(average.weights()["weight"]) == pytest.approx(expected)


def test_rates_rise_fall_and_stay() -> None:
    rates = [ADAM.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1e-2 / 4, rel=1e-3) and rates[-1] == pytest.approx(1e-3)
    assert max(rates) == pytest.approx(1e-2, rel=0.01) and rates[50:] == sorted(rates[50:], reverse=True)
    assert {OptimiserOptions(1e-3).rate(step, 10) for step in range(10)} == {1e-3}


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    optimiser = Optimiser(model.parameters(), ADAM, 10)
    optimiser.begin(0)
    norm = float(optimiser.follow(model(torch.full((1, 2), torch.inf)).sum()))
    assert norm != norm or norm == float("inf")
    assert torch.equal(model.weight, before)
