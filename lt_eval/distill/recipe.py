"""A recipe: every number of a distillation as one record, from a TOML file. See benchmarks/distill/.

base = "mini"                     # or "livetalk": Table 4 of the paper
[dmd]
teacher_guidance = 4.0
[generator.stream]                # changes to the generator's preset
rope = "absolute"
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lt_eval.distill.codec_stage import CodecOptions
from lt_eval.distill.conditions import CurateOptions
from lt_eval.distill.dmd_stage import DmdOptions
from lt_eval.distill.ode_stage import OdeOptions, PairOptions
from lt_eval.distill.public import Public, check_public
from lt_eval.distill.ranks import Ranks, check_divides
from lt_eval.distill.talkers import TalkerOptions
from lt_eval.distill.teacher_stage import TeacherOptions
from lt_eval.distill.training import LoopOptions, OptimiserOptions
from lt_eval.errors import SpecError
from lt_eval.generator.codec_config import MiniCodecConfig
from lt_eval.generator.config import VIDEO_FRAMES_PER_LATENT, GeneratorConfig
from lt_eval.generator.presets import changed, configure
from lt_eval.registry import suggestion
from lt_eval.spec import read_toml
from lt_eval.store import key_of


@dataclass(frozen=True)
class ConditionOptions:
    """What the student is asked for in training.

    Attributes:
        folder: of recorded people, portraits with speech, as `conditions.collection` reads it; empty to draw them.
        people: whose portraits and voices are drawn.
        damaged_share: share of the portraits that are damaged, as collections hold them.
        curated: whether only what passes curation is used.
        bounds: of curation.
        pairs: trajectories; each has a condition of its own as long as there are enough.
    """

    folder: str = ""
    people: TalkerOptions = field(
        default_factory=lambda: TalkerOptions(first_seed=7_200_000, people=384, held_out=0, windows=1)
    )
    damaged_share: float = 0.4
    curated: bool = True
    bounds: CurateOptions = field(default_factory=CurateOptions)
    pairs: int = 256


@dataclass(frozen=True)
class Recipe:
    """A distillation from nothing to a bundle.

    Attributes:
        name: of the bundle.
        preset: of the generator.
        generator: changes to it, as tables.
        seed: of everything random.
        material: people that the teacher is trained on; the held-out ones choose checkpoints.
        conditions: of trajectories and DMD.
        codec, teacher, pairs, ode, dmd: the stages.
        codec_weights: file of a codec that was trained before, which the codec stage then takes as it is; "builtin" is
            the one that comes with the package.
        shared: stage to the --out of another recipe, whose files of that stage are read in place and made by none of
            this one's runs. What continues from them is bound to their contents, not to where they lie.
        public: published weights that are taken instead of training.
        audio_weight: of losses that compare latents: an element counts 1 + audio_weight * R^2, R^2 being how much of it
            a linear function of the audio explains (`linear.audio_weights`). 0 is the plain mean square of the paper.
        recompute: whether teacher, critic and ODE initialisation keep what enters a layer alone and compute the rest
            again for gradients: large models need the memory more than the time.
        held_out_seconds: length of the clips that choose checkpoints.
        held_out_people: how many of the material's held-out people do so.
    """

    name: str = "mini"
    preset: str = "mini"
    generator: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    material: TalkerOptions = field(default_factory=TalkerOptions)
    conditions: ConditionOptions = field(default_factory=ConditionOptions)
    codec: CodecOptions = field(default_factory=CodecOptions)
    codec_weights: str = ""
    shared: Mapping[str, str] = field(default_factory=dict)
    public: Public = field(default_factory=Public)
    audio_weight: float = 0.0
    recompute: bool = False
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    pairs: PairOptions = field(default_factory=PairOptions)
    ode: OdeOptions = field(default_factory=OdeOptions)
    dmd: DmdOptions = field(default_factory=DmdOptions)
    held_out_seconds: float = 5.0
    held_out_people: int = 8

    def config(self) -> GeneratorConfig:
        """Return the generator that is trained.

        Raises:
            SpecError: the changes do not fit the preset.
        """
        return configure(self.preset, self.generator)


MINI = Recipe(audio_weight=30.0)
"""Everything from drawn people, for a few hours of two processor cores."""

LIVETALK = replace(
    MINI,
    name="livetalk",
    preset="livetalk",
    audio_weight=0.0,
    material=replace(MINI.material, size=512, fps=16.0),
    conditions=replace(MINI.conditions, people=replace(MINI.conditions.people, size=512, fps=16.0)),
    codec=replace(MINI.codec, people=replace(MINI.codec.people, size=512, fps=16.0)),
    ode=OdeOptions(LoopOptions(20_000, evaluate_every=1000), OptimiserOptions(4e-5), batch=64),
    dmd=DmdOptions(
        LoopOptions(1000, evaluate_every=50),
        OptimiserOptions(4e-6, beta1=0.0, weight_decay=0.01),
        OptimiserOptions(8e-7, beta1=0.0, weight_decay=0.01),
        batch=64,
    ),
)
"""Table 4 of the paper: rates, batch sizes and steps of its final configuration."""

SHAREABLE = ["curate", "codec", "teacher", "ode-pairs", "ode-init"]
"""Stages whose files another recipe may take: all that others continue from."""

BASES = {"mini": MINI, "livetalk": LIVETALK}

BUILTIN = "builtin"
"""As `codec_weights`: the codec that comes with the package."""

COUNTS = frozenset(
    {"batch", "steps", "log_every", "checkpoint_every", "crop", "size", "frames", "pieces", "windows", "people"}
    | {"pairs", "trajectory_steps", "ratio", "held_out_people", "change_pool"}
)
"""Fields of which there is at least one."""

DIVISORS = frozenset({"codec.change_scale", "codec.principal.motion"})
"""Values that something is divided by."""

SHARES = frozenset(
    {"ema", "beta1", "beta2", "drop_both", "drop_text", "drop_audio", "damaged_share", "decay_to", "tolerance"}
    | {"whole_share", "short_share", "face_share"}
)
"""Fields that are at most 1."""


def build(tables: Mapping[str, Any]) -> Recipe:
    """Return the recipe that tables describe.

    Raises:
        SpecError: an unknown key (with a suggestion), a wrong type, or values that do not go together.
    """
    tables = dict(tables)
    base = tables.pop("base", "mini")
    if base not in BASES:
        raise SpecError(f"base = {base!r}: no recipe is called so.{suggestion(str(base), BASES)}")
    generator = tables.pop("generator", {})
    if not isinstance(generator, Mapping):
        raise SpecError(f"generator = {generator!r}: a table [generator] of changes to the preset is needed.")
    recipe: Recipe = replace(changed(BASES[base], tables, what="A recipe"), generator=generator)
    check(recipe)
    return recipe


def check(recipe: Recipe) -> None:
    """Refuse values that do not go together before hours are spent on them.

    Raises:
        SpecError: names both values.
    """
    _check_numbers(recipe)
    config = recipe.config()
    check_public(config, recipe.public)
    for stage, folder in recipe.shared.items():
        if stage not in SHAREABLE:
            raise SpecError(f"shared.{stage}: no stage that can be shared is called so.{suggestion(stage, SHAREABLE)}")
        if not isinstance(folder, str) or not folder:
            raise SpecError(f"shared.{stage} is {folder!r}; it must be the --out of another recipe, as a text.")
    codec, teacher = (recipe.shared.get(stage) for stage in ("codec", "teacher"))
    if teacher is not None and codec != teacher:
        raise SpecError(
            f"shared.teacher is {teacher!r} and shared.codec {codec!r}; a teacher knows the latents of the codec that "
            "it was trained with. Name one folder for both."
        )
    drawn = {
        "material": recipe.material,
        "conditions.people": recipe.conditions.people,
        "codec.people": recipe.codec.people,
    }
    for name, people in drawn.items():
        if (people.size, people.fps) != (config.size, config.fps):
            raise SpecError(
                f"{name} is drawn at {people.size} pixels and {people.fps:g} fps, and the generator makes "
                f"{config.size} pixels at {config.fps:g} fps; they must be equal. Set {name}.size and {name}.fps."
            )
    least = (
        ("material.held_out", recipe.material.held_out, 1),
        ("material.people", recipe.material.people, recipe.material.held_out + 1),
        ("codec.people.held_out", recipe.codec.people.held_out, 1),
        ("codec.people.people", recipe.codec.people.people, recipe.codec.people.held_out + 1),
        ("ode.held_out", recipe.ode.held_out, 1),
        ("conditions.pairs", recipe.conditions.pairs, recipe.ode.held_out + 1),
    )  # fmt: skip
    for name, value, lowest in least:
        if value < lowest:
            raise SpecError(f"{name} is {value}; with the other values of this recipe it must be at least {lowest}.")
    if recipe.audio_weight and recipe.material.trained < 2:
        raise SpecError(
            f"audio_weight is {recipe.audio_weight:g} and material trains on {recipe.material.trained} people; half of "
            "them are to predict the other half, so there must be at least 2, or audio_weight 0."
        )
    for name, frames in (
        ("material.frames", recipe.material.frames),
        ("codec.pieces.frames", recipe.codec.pieces.frames),
    ):
        if frames % VIDEO_FRAMES_PER_LATENT != 1:
            raise SpecError(f"{name} is {frames}; a causal codec takes 1, 5, 9 ... 4 k + 1 frames.")
    _check_codec(recipe.codec, config)
    if recipe.pairs.trajectory_steps % config.stream.steps:
        raise SpecError(
            f"pairs.trajectory_steps is {recipe.pairs.trajectory_steps}; it must be a multiple of the student's "
            f"{config.stream.steps} steps, whose noise levels lie on the trajectory."
        )


def _check_codec(options: CodecOptions, config: GeneratorConfig) -> None:
    if options.crop > config.size or options.crop % config.codec.spatial:
        raise SpecError(
            f"codec.crop is {options.crop}; it must be a multiple of {config.codec.spatial} up to {config.size}."
        )
    if not isinstance(config.codec, MiniCodecConfig):
        return
    side, how = config.codec.spatial, options.principal
    seen = 3 * (side // min(how.change_pool, side)) ** 2
    if config.codec.change_components > seen:
        raise SpecError(
            f"codec.principal.change_pool is {how.change_pool}; seen so coarsely a square has {seen} values and "
            f"change_components is {config.codec.change_components}. Give a smaller pool, or fewer components."
        )
    if how.squares <= (channels := config.codec.linear_channels):
        raise SpecError(
            f"codec.principal.squares is {how.squares}; with the other values of this recipe it must be at least "
            f"{channels + 1}."
        )


def _check_numbers(record: Any, where: str = "") -> None:
    """Refuse numbers that no stage could use, field by field.

    Raises:
        SpecError: names the field and its bound.
    """
    for each in dataclasses.fields(record):
        value, name = getattr(record, each.name), where + each.name
        if dataclasses.is_dataclass(value):
            _check_numbers(value, f"{name}.")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        lowest = 1 if each.name in COUNTS else 0
        if not math.isfinite(value):
            raise SpecError(f"{name} is {value}; it must be finite.")
        if value < lowest:
            raise SpecError(f"{name} is {value}; it must be at least {lowest}.")
        if name in DIVISORS and not value:
            raise SpecError(f"{name} is {value}; it must be above 0.")
        if each.name in SHARES and value > 1:
            raise SpecError(f"{name} is {value}; it must be at most 1.")


def differing(found: Mapping[str, Any], mine: Mapping[str, Any], where: str = "") -> list[str]:
    """Return the dotted keys in which two recipes' `facts` differ, sorted."""
    names = []
    for key in sorted(found.keys() | mine.keys()):
        old, new = found.get(key), mine.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names += differing(old, new, f"{where}{key}.")
        elif key_of(old) != key_of(new):
            names.append(where + key)
    return names


def check_shares(recipe: Recipe, stages: Collection[str], ranks: Ranks) -> None:
    """Refuse batches that the processes cannot split evenly, of those stages that several work on.

    Raises:
        SpecError: names batch and processes.
    """
    for stage, table in (("teacher", "teacher"), ("ode-init", "ode"), ("dmd", "dmd")):
        taken = stage in recipe.shared or (stage == "teacher" and recipe.public.teacher.files)
        if stage in stages and not taken:
            check_divides(f"{table}.batch", getattr(recipe, table).batch, ranks.world)


def read_recipe(path: Path) -> Recipe:
    """Return the recipe of a TOML file.

    Raises:
        SpecError: the file cannot be read, or as `build`.
    """
    return build(read_toml(path))


def facts(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as JSON types, for hashes and cards, without the places of what it shares.

    What came to recipes later is left out where nothing is made of it, so that earlier folders are still known.
    """
    found = {name: value for name, value in dataclasses.asdict(recipe).items() if name != "shared"}
    if recipe.public == Public():
        del found["public"]
    for name in ("recompute", "audio_weight"):
        if not found[name]:
            del found[name]
    if not recipe.conditions.folder:
        del found["conditions"]["folder"]
    for people in (found["material"], found["conditions"]["people"], found["codec"]["people"]):
        if people["motion"] == 1:
            del people["motion"]
    return found
