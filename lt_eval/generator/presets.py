"""The generators that have a name, and how options change them. No torch here.

mini       256x256 at 25 fps, in real time on two processor cores
nano       64x64, for tests
livetalk   512x512 at 16 fps, the paper's: Wan2.1-1.3B's shape with OmniAvatar's audio
teacher    OmniAvatar-14B's shape
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lt_eval.errors import SpecError, WeightsError
from lt_eval.generator.audio_config import LIVETALK_AUDIO, AudioConfig
from lt_eval.generator.codec_config import MiniCodecConfig, WanCodecConfig, codec_config
from lt_eval.generator.config import GeneratorConfig, ModelConfig, StreamConfig
from lt_eval.registry import suggestion
from lt_eval.spec import read_toml

BUNDLED = Path(__file__).parent / "weights"
"""What comes with the package: NAME.safetensors of a whole generator, NAME-codec.safetensors of a codec alone."""

MINI = GeneratorConfig(
    name="mini",
    model=ModelConfig(
        dim=256,
        layers=6,
        heads=4,
        ffn_dim=736,
        latent_channels=96,
        text_dim=64,
        text_tokens=8,
        freq_dim=128,
        audio_features=256,
        audio_hidden=64,
        audio_layers=(1, 2, 3, 4),
        prompt_table=1024,
        prior_side=8,
    ),
    # trained on clips of seconds and run for minutes: positions stay where training was
    stream=StreamConfig(rope="relative", timestep_rounding=None),
    codec=MiniCodecConfig(
        latent_channels=96,
        change_components=12,
        widths=(176, 128, 128, 64),
        decoder_blocks=(3, 1, 1, 1),
        encoder_blocks=(1, 1, 1, 1),
    ),
    # lips close before a sound is heard
    audio=AudioConfig(look_ahead_frames=2),
    size=256,
    fps=25.0,
)
"""6.4 M parameters and 5.9 M of the codec, 32 x in space: 48 tokens a block, in real time on two processor cores."""

NANO = GeneratorConfig(
    name="nano",
    model=ModelConfig(
        dim=32,
        layers=2,
        heads=2,
        ffn_dim=64,
        latent_channels=16,
        text_dim=16,
        text_tokens=4,
        freq_dim=16,
        audio_features=32,
        audio_hidden=8,
        audio_layers=(0, 1),
        prompt_table=64,
    ),
    stream=MINI.stream,
    codec=MiniCodecConfig(widths=(16, 16, 8), decoder_blocks=(1, 1, 1), encoder_blocks=(1, 1, 1)),
    audio=AudioConfig(mel_bands=8, rows=4),
    size=64,
    fps=25.0,
)

_WAN_TEXT_AND_AUDIO: dict[str, Any] = {
    "latent_channels": 16,
    "text_dim": 4096,
    "text_tokens": 512,
    "freq_dim": 256,
    "audio_features": LIVETALK_AUDIO.frame_dim,
    "audio_hidden": 32,
}

LIVETALK_1_3B = GeneratorConfig(
    name="livetalk",
    model=ModelConfig(
        dim=1536, layers=30, heads=12, ffn_dim=8960, audio_layers=tuple(range(2, 16)), **_WAN_TEXT_AND_AUDIO
    ),
    stream=StreamConfig(),
    codec=WanCodecConfig(),
    audio=LIVETALK_AUDIO,
    size=512,
    fps=16.0,
)
"""1.42 B parameters, 3072 tokens a block. Its codec may be replaced by the tiny one, which has the same latents."""

TEACHER_14B = dataclasses.replace(
    LIVETALK_1_3B,
    name="teacher",
    model=ModelConfig(
        dim=5120, layers=40, heads=40, ffn_dim=13824, audio_layers=tuple(range(2, 21)), **_WAN_TEXT_AND_AUDIO
    ),
)

PRESETS = {config.name: config for config in (MINI, NANO, LIVETALK_1_3B, TEACHER_14B)}


def bundled_codec(preset: str) -> Path:
    """Return the trained codec of a preset that comes with the package.

    Raises:
        WeightsError: none does.
    """
    path = BUNDLED / f"{preset}-codec.safetensors"
    if not path.is_file():
        suffix = "-codec.safetensors"
        known = ", ".join(sorted(found.name.removesuffix(suffix) for found in BUNDLED.glob(f"*{suffix}")))
        raise WeightsError(
            f"No trained codec of {preset!r} comes with the package, only of: {known}. Leave codec_weights out to "
            "train one, or give the path of a file."
        )
    return path


def configure(preset: str = "mini", changes: Mapping[str, Any] | None = None) -> GeneratorConfig:
    """Return a preset with some of its fields changed.

    Args:
        preset: name of one of `PRESETS`.
        changes: as TOML gives them: `size`, `fps`, and the tables `model`, `stream`, `codec` and `audio`. A codec of
            another `kind` starts from that kind's defaults.

    Raises:
        SpecError: there is no such preset, table or field, a value is of the wrong type, or they do not go together.
    """
    if preset not in PRESETS:
        raise SpecError(f"No generator is called {preset!r}.{suggestion(preset, PRESETS)}")
    changes = dict(changes or {})
    codec = changes.pop("codec", {})
    config = PRESETS[preset]
    if isinstance(codec, Mapping) and codec.get("kind", config.codec.kind) != config.codec.kind:
        rest = {name: value for name, value in codec.items() if name != "kind"}
        config = dataclasses.replace(config, codec=codec_config(codec["kind"], rest))
    elif codec:
        changes["codec"] = {name: value for name, value in _table(codec, "codec").items() if name != "kind"}
    found: GeneratorConfig = changed(config, changes, "")
    return found


def read_config(path: Path) -> GeneratorConfig:
    """Return the generator that a TOML file describes: `preset = "mini"` and the changes to it.

    Raises:
        SpecError: the file cannot be read, or as `configure`.
    """
    data = read_toml(path)
    return configure(data.pop("preset", "mini"), data)


def changed(record: Any, changes: Mapping[str, Any], where: str = "", what: str = "A generator") -> Any:
    """Return a frozen record with fields replaced; what is a record itself is changed field by field.

    Raises:
        SpecError: an unknown field (with a suggestion), or a value of another type than the one it replaces.
    """
    known = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    if isinstance(record, GeneratorConfig):
        known.pop("name")  # it says which preset this was
    replaced: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in known:
            place = f"The table {where.rstrip('.')}" if where else what
            raise SpecError(f"{place} has no field {name!r}.{suggestion(name, known)}")
        old, path = known[name], where + name
        if dataclasses.is_dataclass(old):
            replaced[name] = changed(old, _table(value, path, old), f"{path}.")
        else:
            replaced[name] = _value(old, value, path)
    return dataclasses.replace(record, **replaced)


def _value(old: Any, value: Any, where: str) -> Any:
    """Return a value in the type of the one that it replaces."""
    if isinstance(old, tuple) and isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if where == "stream.timestep_rounding" and (value is None or isinstance(value, str)):
        return value if value != "none" else None  # TOML has no null
    if type(value) is not type(old):
        rule = "true or false" if isinstance(old, bool) else f"a value of type {type(old).__name__}, such as {old!r}"
        raise SpecError(f"{where} is {value!r}; it must be {rule}.")
    return value


def _table(value: Any, where: str, record: Any = None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        fields = [] if record is None else [field.name for field in dataclasses.fields(record)]
        known = f" Set one of them: {', '.join(f'{where}.{name}' for name in fields)}." if fields else ""
        raise SpecError(f"{where} is {value!r}; it must be a table of fields.{known}")
    return value
