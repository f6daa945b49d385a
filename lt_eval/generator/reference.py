"""The generator that lt-eval brings along, as a plugin like any other: `--generator reference`.

    generator = ReferenceGenerator()                          # mini: 256x256 at 25 fps on two processor cores
    with generator.session(portrait, prompt="A person talks.", seed=0) as session:
        for frames in session.speak(chunks_of_audio):         # uint8 [T, H, W, 3], as soon as they exist
            show(frames)
        for frames in session.speak(more):                    # goes on from what was said
            show(frames)

How many frames a turn has: its seconds times fps, rounded, at least one (`timeline`). After a turn that was left early
the session goes on from the last block that was made, wherever the listener was.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval import fingerprint
from lt_eval.errors import ConditionError, SpecError, UsageError, WeightsError
from lt_eval.generator.cards import TEACHER, stage_of
from lt_eval.generator.presets import BUNDLED, configure
from lt_eval.generator.timeline import Timeline
from lt_eval.registry import suggestion
from lt_eval.spec import read_toml
from lt_eval.store import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from lt_eval.generator.config import GeneratorConfig
    from lt_eval.generator.lanes import Lanes
    from lt_eval.generator.networks import Sources
    from lt_eval.generator.stream import Networks, Stream
    from lt_eval.generator.turn import Turn
    from lt_eval.records import Audio, Frames


@dataclass(frozen=True)
class ReferenceGenerator:
    """A few-step causal video diffusion transformer that streams a talking avatar (LiveTalk, arXiv 2512.23576).

    What is None keeps the preset's value.

    Attributes:
        preset: mini, nano (tests), livetalk (1.3B) or teacher (14B).
        config: a TOML file of changes to the preset: size, fps and the tables model, stream, codec and audio.
        weights: "builtin": the bundle that comes with the package, or seeded networks, which make noise, where the
            preset has none; "random": seeded networks in any case; else the path of a bundle or a public checkpoint.
        codec_weights: path of the codec's checkpoint, where `weights` is no bundle.
        audio_weights: path of facebook/wav2vec2-base-960h, where the preset hears with it.
        text_encoder: folder of umt5-xxl's encoder, where the preset reads with it.
        codec: mini, wan or tiny.
        rope: absolute or relative.
        sink: blocks kept for ever as identity anchors.
        rolling: latest blocks kept beside them.
        window_includes_current: whether the block in work is one of `rolling`.
        steps: denoising steps a block.
        look_ahead: video frames of audio that a block waits for beyond its own.
        size: side of the picture in pixels.
        device: auto, cpu, cuda, cuda:1 ...
        dtype: float32 or bfloat16.
        threads: of each of the two lanes, denoiser and decoder, on a CPU.
        weights_seed: of seeded networks.
    """

    preset: str = "mini"
    config: str = ""
    weights: str = "builtin"
    codec_weights: str = ""
    audio_weights: str = ""
    text_encoder: str = ""
    codec: str | None = None
    rope: str | None = None
    sink: int | None = None
    rolling: int | None = None
    window_includes_current: bool | None = None
    steps: int | None = None
    look_ahead: int | None = None
    size: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    threads: int = 1
    weights_seed: int = 0
    _loading: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.weights == "official":
            raise WeightsError(
                "There are no official weights of the reference generator. Use weights = builtin, or the path of a "
                "checkpoint in the layout of Wan2.1 with OmniAvatar's audio, and codec_weights, audio_weights and "
                "text_encoder for the networks around it."
            )
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type == "str" and not isinstance(value, str):
                raise SpecError(f"{item.name} is {value!r}; it must be a text.")
        if self.dtype not in ("float32", "bfloat16"):
            raise SpecError(f"dtype is {self.dtype!r}; it must be float32 or bfloat16.")
        if self.threads < 1:
            raise SpecError(f"threads is {self.threads}; each lane needs at least 1.")
        assert self.settings

    @functools.cached_property
    def settings(self) -> GeneratorConfig:
        """The whole configuration: the preset, then the file, then the options."""
        changes = read_toml(Path(self.config)) if self.config else {}
        preset = changes.pop("preset", self.preset)
        stream = {
            "rope": self.rope,
            "sink_blocks": self.sink,
            "rolling_blocks": self.rolling,
            "window_includes_current": self.window_includes_current,
            "steps": self.steps,
        }
        options: dict[str, Any] = {
            "stream": stream,
            "audio": {"look_ahead_frames": self.look_ahead},
            "codec": {"kind": self.codec},
            "size": self.size,
        }
        return configure(preset, _merged(changes, options))

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.settings.fps

    @property
    def sample_rate(self) -> int:
        """Audio rate in Hz."""
        return self.settings.audio.sample_rate_hz

    @property
    def block_frames(self) -> tuple[int, int]:
        """Frames of the first block, and of every later one."""
        timeline = Timeline(self.fps, self.sample_rate, self.settings.stream.block_frames)
        return len(timeline.frames(0)), len(timeline.frames(1))

    @property
    def description(self) -> dict[str, Any]:
        """What decides its speed, as JSON types."""
        config, stream = self.settings, self.settings.stream
        return {
            "preset": config.name,
            "dtype": self.dtype,
            "size": config.size,
            "steps": stream.steps,
            "window": f"{stream.sink_blocks} sink + {stream.rolling_blocks} rolling blocks, current one "
            + ("included" if stream.window_includes_current else "beside them"),
            "rope": stream.rope,
            "codec": config.codec.kind,
            "look_ahead_frames": config.audio.look_ahead_frames,
            "threads": self.threads,
            "weights": "random" if self.sources.transformer is None else self.sources.transformer.name,
        }

    def denoise_only(self, portrait: Frames, speech: Audio, *, prompt: str = "", seed: int = 0) -> Iterator[int]:
        """Make the latents of a turn and no pixel; see `stages`."""
        from lt_eval.generator import stages

        return stages.denoise_only(self.networks(), portrait, speech, prompt=prompt, seed=seed, threads=self.threads)

    def decode_only(self, portrait: Frames, speech: Audio, *, prompt: str = "", seed: int = 0) -> Iterator[int]:
        """Decode random latents of a turn's length; see `stages`."""
        from lt_eval.generator import stages

        return stages.decode_only(self.networks(), portrait, speech, prompt=prompt, seed=seed, threads=self.threads)

    @functools.cached_property
    def sources(self) -> Sources:
        """Where the weights come from.

        Raises:
            WeightsError: a path that does not exist.
        """
        from lt_eval.generator.networks import Sources

        bundle = BUNDLED / f"{self.settings.name}.safetensors"
        main: Path | None = Path(self.weights)
        if self.weights in ("builtin", "random"):
            main = bundle if self.weights == "builtin" and bundle.is_file() else None
        codec, audio, text = (_path(name) for name in (self.codec_weights, self.audio_weights, self.text_encoder))
        for path in (main, codec, audio, text):
            if path is not None and not path.exists():
                hint = suggestion(str(path), ["builtin", "random"]) if path == main else ""
                raise WeightsError(f"There are no weights at {path}.{hint} Check the path.")
        return Sources(main, codec, audio, text, self.weights_seed)

    @property
    def footnotes(self) -> tuple[str, ...]:
        """What a reader of its numbers must know, one sentence each."""
        config = self.settings
        stream = config.stream
        notes = [
            f"reference generator: preset {config.name}, {config.size}x{config.size} at {config.fps:g} fps, "
            f"{stream.steps} steps, {stream.sink_blocks} sink and {stream.rolling_blocks} rolling blocks, "
            f"rope {stream.rope}, codec {config.codec.kind}, look-ahead {config.audio.look_ahead_frames} frames."
        ]
        if self.sources.transformer is None:
            notes.append("reference generator: its weights are random, not trained, and its clips are noise.")
        if stage_of(self.sources.transformer) == TEACHER:
            notes.append(
                "reference generator: its weights are a teacher's, which was trained for many steps in both directions "
                "and not to stream in a few."
            )
        return tuple(notes)

    @property
    def fingerprint(self) -> str:
        """What its clips depend on: options, code, weights and torch."""
        options = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        code = [fingerprint.of_file(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
        named = (self.sources.transformer, self.sources.codec, self.sources.audio, self.sources.text)
        return key_of("reference-1", options, self.settings, code, [_digest(path) for path in named], _torch_version())

    @functools.cached_property
    def _loaded(self) -> Networks:
        from lt_eval.generator.networks import DTYPES, load_networks, resolve_device

        return load_networks(self.settings, self.sources, resolve_device(self.device), DTYPES[self.dtype])

    def networks(self) -> Networks:
        """Return the networks, loaded once, by whoever comes first."""
        with self._loading:
            return self._loaded

    def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> ReferenceSession:
        """Open a conversation with the person in `portrait`, uint8 RGB [H, W, 3].

        Raises:
            ConditionError: the portrait is no picture, or the prompt no text.
        """
        if not isinstance(prompt, str):
            raise ConditionError(f"the prompt is of type {type(prompt).__name__}. It must be a text; '' is fine.")
        from lt_eval.generator.lanes import Lane, Lanes
        from lt_eval.generator.stream import Stream

        networks = self.networks()
        lanes = Lanes(*(Lane(networks.device, self.threads) for _ in range(2)))
        return ReferenceSession(lanes.denoise.run(lambda: Stream(networks, portrait, prompt, seed)), lanes)


class ReferenceSession:
    """One conversation; use it as a context manager. Any number of them may be open at once."""

    def __init__(self, stream: Stream, lanes: Lanes) -> None:
        self._stream: Stream | None = stream
        self._lanes = lanes
        self._turn: Turn | None = None

    def __enter__(self) -> ReferenceSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the turn, if one is going on, and let go of everything."""
        if self._turn is not None:
            self._turn.close()
        self._stream = None

    def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
        """Yield uint8 [T, H, W, 3] as soon as they exist; nothing happens before the first is asked for.

        The speech is read in a thread of its own, about one block ahead of what is being made of it. Leaving the
        iterator, or the next `speak`, ends a turn that is going on.

        Args:
            speech: chunks of float32 [T] mono in -1..1, of any length, at `sample_rate`.
            text: what is said; this generator does not use it.

        Raises:
            ConditionError: the audio is no audio, or has no sample.
            UsageError: the session is closed, or an error broke it.
        """
        from lt_eval.generator.turn import Turn

        if self._turn is not None:
            self._turn.close()
        if self._stream is None:
            raise UsageError("this session is closed. Open another one with generator.session(...).")
        turn = self._turn = Turn(self._stream, speech, self._lanes)
        try:
            yield from turn
        finally:
            turn.close()
            if turn.broken:
                self._stream = None


def _merged(changes: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the changes with what the options set, None being not set."""
    merged = dict(changes)
    for name, value in options.items():
        if isinstance(value, dict):
            given = {key: found for key, found in value.items() if found is not None}
            if given:
                table = merged.get(name, {})
                merged[name] = {**table, **given} if isinstance(table, dict) else table
        elif value is not None:
            merged[name] = value
    return merged


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _digest(path: Path | None) -> str | list[str]:
    if path is None or path.is_file():
        return fingerprint.of_file(path)
    return [fingerprint.of_file(file) for file in sorted(path.rglob("*")) if file.is_file()]


def _torch_version() -> str:
    from importlib.metadata import version

    return version("torch")
