"""Steps that a GPU repeats as a graph: what is drawn for them, and that they are the same steps."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from lt_eval.distill.codec_stage import CodecOptions, Crops, codec_loss
from lt_eval.distill.denoiser import Denoiser, dropped, without_words
from lt_eval.distill.dmd_stage import DmdOptions, critic_loss, student_loss
from lt_eval.distill.graphs import Repeated, _Buffered, _Captured, _fill, _Noting, numbers
from lt_eval.distill.material import Batch
from lt_eval.distill.ode_stage import ode_batch_loss
from lt_eval.distill.ranks import ALONE, Ranks
from lt_eval.distill.rollout import rollout
from lt_eval.distill.teacher_stage import TeacherOptions, teacher_loss
from lt_eval.distill.training import Optimiser, OptimiserOptions, generator_of
from lt_eval.generator.codec import create_codec
from lt_eval.generator.codec_config import MiniCodecConfig
from lt_eval.generator.mini_codec import MiniCodec
from tests.distill.nano import batch, denoiser

MINI_CODEC = MiniCodecConfig(
    latent_channels=7, change_components=1, widths=(8, 8), decoder_blocks=(1, 1), encoder_blocks=(1, 1), patch=2
)


def losses(model: Denoiser, clips: Batch, draws: Ranks, generator: torch.Generator) -> dict[str, Tensor]:
    """Return what a step of the teacher and one of the student draw and come to."""
    made = rollout(model, clips, [generator], exit_step=2, ranks=draws)
    return {
        "teacher": teacher_loss(model, clips, TeacherOptions(), generator, draws),
        "student": student_loss(denoiser(1), denoiser(2), clips, made, DmdOptions(), generator, draws),
    }


def test_a_step_from_buffers_is_the_step_that_draws() -> None:
    model = denoiser()
    clips = model.in_numbers(batch(2, frames=6))
    drawn = losses(model, clips, ALONE, generator_of(0, "s", 0))
    noting = _Noting()
    noted = losses(model, clips, noting, generator_of(0, "s", 0))
    known = _Captured(noted=noting.noted, buffers=[torch.empty(shape) for _, shape in noting.noted])
    assert {law for law, _ in noting.noted} == {"uniform", "normal"}
    _fill(known, generator_of(0, "s", 0))
    again = losses(model, clips, _Buffered(buffers=list(known.buffers)), generator_of(9, "unused", 0))
    for name, value in drawn.items():
        assert torch.equal(noted[name], value) and torch.equal(again[name], value)


def test_a_step_takes_nothing_from_the_host_and_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either would end a capture; a processor does not mind, so the ways there are closed."""
    model, teacher, critic = denoiser(), denoiser(1).frozen(), denoiser(2)
    clips, generator = model.in_numbers(batch(2, frames=6)), generator_of(0, "s", 0)
    states = clips.latents[:, None].expand(-1, 5, -1, -1, -1, -1)
    given, sigmas = torch.zeros(2, 2, dtype=torch.int64), torch.linspace(1, 0, 5)
    shown = Crops(torch.rand(2, 3, 5, 16, 16), torch.ones(2, 1, 1, 16, 16))
    codec = create_codec(MINI_CODEC, 0)
    assert isinstance(codec, MiniCodec)

    def closed(*_: object, **__: object) -> None:
        raise AssertionError("the host was asked")

    with monkeypatch.context() as patched:
        for name in ("tensor", "as_tensor", "from_numpy"):
            patched.setattr(torch, name, closed)
        for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
            patched.setattr(Tensor, name, closed)
        teacher_loss(model, clips, TeacherOptions(), generator)
        ode_batch_loss(model, states, clips, sigmas, given)
        for exit_step in range(4):
            made = rollout(model, clips, [generator], exit_step=exit_step)
            student_loss(teacher, critic, clips, made, DmdOptions(), generator)
            critic_loss(critic, clips, made.detach(), DmdOptions(), generator)
        codec_loss(codec, shown, CodecOptions(model=MINI_CODEC), generator)
    with pytest.raises(AssertionError, match="the host was asked"), monkeypatch.context() as patched:
        patched.setattr(Tensor, "tolist", closed)
        teacher_loss(model, batch(2, frames=6), TeacherOptions(), generator)  # words are dropped one by one


def test_prompts_in_numbers_say_what_words_do() -> None:
    model, clips = denoiser(), batch(3, frames=3)
    told = model.in_numbers(clips)
    assert isinstance(told.prompts, Tensor) and model.in_numbers(told) is not None
    torch.testing.assert_close(model.read(told.prompts), model.read(clips.prompts), rtol=0, atol=1e-6)
    torch.testing.assert_close(model.read(without_words(told)), model.read(without_words(clips)))
    gone, kept = torch.tensor([True, False, False]), torch.zeros(3, dtype=torch.bool)
    words, figures = (dropped(shown, gone, kept).prompts for shown in (clips, told))
    torch.testing.assert_close(model.read(figures), model.read(words), rtol=0, atol=1e-6)
    assert isinstance(told.part([2]).prompts, Tensor) and len(told.part([2]).prompts) == 1


def test_elsewhere_a_step_is_called_as_it_is() -> None:
    def step(inputs: Batch, draws: Ranks, generator: torch.Generator) -> Mapping[str, Tensor]:
        assert draws is ALONE
        return {"mean": inputs.latents.mean() + ranks_free(generator)}

    def ranks_free(generator: torch.Generator) -> Tensor:
        return torch.rand((), generator=generator)

    repeated, clips = Repeated(step, ALONE, torch.device("cpu")), batch(1, frames=3)
    found = [numbers(repeated(clips, generator_of(0, "x", number))) for number in (0, 1, 0)]
    assert found[0] == found[2] != found[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_step_trains_as_one_that_is_not() -> None:
    device, found = torch.device("cuda"), []
    for captured in (False, True):
        model = denoiser().to(device)
        optimiser = Optimiser(model.parameters(), OptimiserOptions(1e-3, clip_norm=1.0), 6)

        def update(clips: Batch, draws: Ranks, generator: torch.Generator) -> dict[str, Tensor]:
            loss = teacher_loss(model, clips, TeacherOptions(bf16=False), generator, draws)  # noqa: B023
            return {"loss": loss.detach(), "norm": optimiser.follow(loss)}  # noqa: B023

        repeated = Repeated(update, ALONE, device)
        logged = []
        for number in range(6):
            optimiser.begin(number)
            clips = model.in_numbers(batch(4, frames=6, seed=number))
            generator = generator_of(0, "t", number, device)
            logged.append(numbers(repeated(clips, generator) if captured else update(clips, ALONE, generator)))
        found.append(logged)
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
