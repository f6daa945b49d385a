"""The teacher as a generator: `--generator teacher`. Many steps, both directions in time, guided, and no streaming.

    generator = ManyStepGenerator(weights="OUT/teacher/teacher.safetensors")

It has the interface of the reference generator, and is what a few-step student is compared with: the paper's factor of
20, and how near the student comes to what it was distilled from.

A turn waits for all of its audio, samples all of its latents at once with `steps` Euler steps, decodes them, and gives
all frames as one chunk. A turn longer than the clips of training is sampled whole as well, at positions that the
teacher has never seen; it is not cut into windows, whose seams would be ours and not the teacher's. A session has no
memory: every turn begins at the portrait.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_eval.errors import ConditionError, SpecError, UsageError, WeightsError
from lt_eval.generator.cards import TEACHER, stage_of
from lt_eval.generator.reference import ReferenceGenerator
from lt_eval.generator.timeline import Timeline
from lt_eval.store import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from torch import Tensor

    from lt_eval.generator.config import GeneratorConfig
    from lt_eval.generator.lanes import Lane
    from lt_eval.generator.stream import Networks
    from lt_eval.records import Audio, Frames


@dataclass(frozen=True)
class ManyStepGenerator:
    """A bidirectional video diffusion transformer under classifier-free guidance: what a student is distilled from.

    What is None keeps the preset's value.

    Attributes:
        preset: mini, nano (tests), livetalk (1.3B) or teacher (14B).
        config: a TOML file of changes to the preset, as the reference generator's.
        weights: "random": seeded networks, which make noise; else the path of a bundle, such as the
            teacher/teacher.safetensors of a distillation, or of a public checkpoint.
        codec_weights: path of the codec's checkpoint, where `weights` is no bundle.
        audio_weights: path of facebook/wav2vec2-base-960h, where the preset hears with it.
        text_encoder: folder of umt5-xxl's encoder, where the preset reads with it.
        codec: mini, wan or tiny.
        steps: Euler steps of a turn, on the schedule with the preset's shift.
        guidance: scale over prompt and audio together, in the convention without + w (with - without): 1 is none, and
            costs half.
        look_ahead: video frames of audio that a frame hears beyond its own.
        size: side of the picture in pixels.
        device: auto, cpu, cuda, cuda:1 ...
        dtype: float32 or bfloat16.
        threads: on a CPU.
        weights_seed: of seeded networks.
    """

    preset: str = "mini"
    config: str = ""
    weights: str = "random"
    codec_weights: str = ""
    audio_weights: str = ""
    text_encoder: str = ""
    codec: str | None = None
    steps: int = 48
    guidance: float = 4.5
    look_ahead: int | None = None
    size: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    threads: int = 1
    weights_seed: int = 0

    def __post_init__(self) -> None:
        if self.weights in ("official", "builtin"):
            raise WeightsError(
                f"weights is {self.weights!r}, and no teacher comes with the package. Train one (lt-eval distill "
                "teacher) and give the path of its teacher/teacher.safetensors, or random for noise."
            )
        if self.steps < 1:
            raise SpecError(f"steps is {self.steps}; the teacher needs at least 1.")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise SpecError(f"guidance is {self.guidance}; it must be 0 or more, and 1 is no guidance.")
        assert self._parts

    @functools.cached_property
    def _parts(self) -> ReferenceGenerator:
        """The streaming generator of the same networks, which knows how to check options and load weights."""
        streaming = {item.name for item in fields(ReferenceGenerator)}
        mine = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "steps"}
        return ReferenceGenerator(**{name: value for name, value in mine.items() if name in streaming})

    @property
    def settings(self) -> GeneratorConfig:
        """The whole configuration: the preset, then the file, then the options."""
        return self._parts.settings

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self._parts.fps

    @property
    def sample_rate(self) -> int:
        """Audio rate in Hz."""
        return self._parts.sample_rate

    @property
    def streams(self) -> bool:
        """No: all frames come at the end."""
        return False

    @property
    def description(self) -> dict[str, Any]:
        """What decides its speed, as JSON types."""
        shared = ("preset", "dtype", "size", "codec", "look_ahead_frames", "threads", "weights")
        whole = self._parts.description
        return {name: whole[name] for name in shared} | {"steps": self.steps, "guidance": self.guidance}

    @property
    def footnotes(self) -> tuple[str, ...]:
        """What a reader of its numbers must know, one sentence each."""
        config = self.settings
        notes = [
            f"teacher: preset {config.name}, {config.size}x{config.size} at {config.fps:g} fps, {self.steps} steps "
            f"over the whole clip in both directions, guidance {self.guidance:g} (1 is none), codec "
            f"{config.codec.kind}."
        ]
        if self.weights == "random":
            notes.append("teacher: its weights are random, not trained, and its clips are noise.")
        if stage_of(self._parts.sources.transformer) not in ("", TEACHER):
            notes.append(
                "teacher: its weights are a student's, which was trained to stream in a few steps and not for many in "
                "both directions."
            )
        return tuple(notes)

    @property
    def fingerprint(self) -> str:
        """What its clips depend on: options, code, weights and torch."""
        return key_of("many-step-1", self.steps, self.guidance, self._parts.fingerprint)

    def networks(self) -> Networks:
        """Return the networks, loaded once, by whoever comes first."""
        return self._parts.networks()

    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> ManyStepSession:
        """Open a conversation with the person in `portrait`, uint8 RGB [H, W, 3].

        Raises:
            ConditionError: the portrait is no picture, or the prompt no text.
        """
        from lt_eval.generator.lanes import Lane
        from lt_eval.generator.stream import checked_portrait

        if not isinstance(prompt, str):
            raise ConditionError(f"the prompt is of type {type(prompt).__name__}. It must be a text; '' is fine.")
        picture, networks = checked_portrait(portrait), self.networks()
        return ManyStepSession(self, picture, prompt, seed, Lane(networks.device, self.threads))


class ManyStepSession:
    """Turns of one person; use it as a context manager."""

    def __init__(self, generator: ManyStepGenerator, portrait: Frames, prompt: str, seed: int, lane: Lane) -> None:
        self._generator, self._portrait, self._prompt, self._seed = generator, portrait, prompt, seed
        self._lane = lane
        self._turns = 0
        self._closed = False

    def __enter__(self) -> ManyStepSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        """Yield one uint8 [T, H, W, 3] when the whole turn is made; nothing happens before it is asked for.

        Args:
            speech: chunks of float32 [T] mono in -1..1, of any length, at `sample_rate`.
            text: what is said; this generator does not use it.

        Raises:
            ConditionError: the audio is no audio, or has no sample.
            UsageError: the session is closed.
        """
        from lt_eval.generator.audio_windows import checked_audio

        if self._closed:
            raise UsageError("this session is closed. Open another one with generator.session(...).")
        turn, self._turns = self._turns, self._turns + 1
        heard = [checked_audio(chunk) for chunk in speech]
        samples = np.concatenate(heard) if heard else np.zeros(0, np.float32)
        if not len(samples):
            raise ConditionError("the audio of this turn has no sample. Give at least one; silence is fine.")
        yield self._lane.run(functools.partial(self._make, samples, turn))

    def _make(self, speech: Audio, turn: int) -> Frames:
        import torch

        generator, networks = self._generator, self._generator.networks()
        timeline = Timeline(generator.fps, generator.sample_rate, networks.config.stream.block_frames)
        shown = timeline.shown(len(speech))
        with torch.inference_mode():
            latents = self._sampled(networks, timeline, speech, shown, turn)
            return self._lane.to_host(_decoded(networks, latents, shown))

    def _sampled(self, networks: Networks, timeline: Timeline, speech: Audio, shown: int, turn: int) -> Tensor:
        """Return the latents of a turn of `shown` frames, float32 [1, C, F, h, w]."""
        from lt_eval.generator.audio_windows import latent_features
        from lt_eval.generator.conditions import Conditions
        from lt_eval.generator.sampler import Guidance, sample_sequence
        from lt_eval.generator.stream import block_generator, to_video
        from lt_eval.media.picture import fit
        from lt_eval.records import MediaPolicy

        config, generator = networks.config, self._generator
        frames = 1 + -(-(shown - 1) // networks.codec.temporal)
        portrait = to_video(fit(self._portrait, MediaPolicy(size=config.size)), networks.device)
        heard = latent_features(networks.hearing, speech, 0, range(frames), timeline)[None].to(networks.device)
        told, nothing = (networks.reading(prompt).to(networks.device) for prompt in (self._prompt, ""))
        return sample_sequence(
            networks.transformer,
            Conditions(networks.codec.encode(portrait).float(), told, heard),
            frames,
            [block_generator(self._seed, turn)],
            steps=generator.steps,
            shift=config.stream.shift,
            negative_text=nothing,
            guidance=Guidance(generator.guidance, generator.guidance),
            anchor_first_latent=config.stream.anchor_first_latent,
        ).states[-1]


def _decoded(networks: Networks, latents: Tensor, shown: int) -> Tensor:
    """Return uint8 [shown, H, W, 3] on the networks' device, a block at a time, as the decoder's memory allows."""
    import torch

    from lt_eval.generator.stream import to_frames

    decoder = networks.codec.decoder()
    pieces = torch.split(latents, networks.config.stream.block_frames, dim=2)
    return torch.cat([to_frames(decoder.push(piece)) for piece in pieces])[:shown]
