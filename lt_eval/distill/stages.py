"""The stages in order, each from files of the ones before: what `lt-eval distill STAGE` runs.

    OUT/
        recipe.json              what is made here; another recipe needs another folder
        conditions/found/        portraits and prompts as a collection has them
        conditions/kept/         those that passed curation, and curation.json
        codec/ teacher/ ode/ dmd/   log.jsonl, state.pt, done.json, and what came out as safetensors
        pairs/                   trajectories
        NAME.safetensors         the bundle, for lt-eval generate --set weights=... ; NAME.md is its card
        plots.html plots/        what the logs say, as curves

Big intermediate files (drawn pictures, latents) go to the cache folder, keyed by what they were made from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lt_eval import fingerprint
from lt_eval.distill.asked import chosen_conditions, conditions_hash, conditions_of, run_curate
from lt_eval.distill.card import write_bundle
from lt_eval.distill.codec_stage import train_codec
from lt_eval.distill.denoiser import Denoiser
from lt_eval.distill.dmd_stage import random_batches, train_dmd
from lt_eval.distill.held_out import longer, measure_student, prepare_held_out
from lt_eval.distill.linear import audio_weights
from lt_eval.distill.ode_stage import Pairs, known_pairs, make_pairs, train_ode
from lt_eval.distill.placing import (
    codec_file,
    embed,
    material_of,
    placed,
    start_hash,
    start_of,
    student_of,
    teacher_hash,
    teacher_of,
    trained_codec,
)
from lt_eval.distill.plots import has_log, write_plots
from lt_eval.distill.public import load_public, teacher_config
from lt_eval.distill.ranks import ALONE, CPU, Ranks
from lt_eval.distill.recipe import BUILTIN, Recipe, check_shares, differing, facts
from lt_eval.distill.teacher_stage import train_teacher
from lt_eval.distill.training import Progressed, why_it_ended
from lt_eval.errors import SpecError, StoreError
from lt_eval.generator.codec import CausalCodec, create_codec
from lt_eval.generator.codec_config import MiniCodecConfig
from lt_eval.generator.codec_files import load_codec, save_codec
from lt_eval.generator.networks import Parts, save_bundle
from lt_eval.paths import cache_dir
from lt_eval.store import LOCK, key_of, only_writer, read_json, write_json

Report = Callable[[str, int, int, str], None]

STAGES = ("curate", "codec", "teacher", "ode-pairs", "ode-init", "dmd")
"""In order; each needs those before it, curation being needed from the pairs on."""

MAKES = {
    "curate": ("conditions", "kept/curation.json"),
    "codec": ("codec", "codec.safetensors"),
    "teacher": ("teacher", "teacher.safetensors"),
    "ode-pairs": ("pairs", "pairs.json"),
    "ode-init": ("ode", "student.safetensors"),
    "dmd": ("dmd", "student.safetensors"),
}
"""Of each stage, its folder and the file that is there once it has ended."""


ALONE_STAGES = ("curate", "codec")
"""Those that one process carries out, while others wait."""


@dataclass(frozen=True)
class Workshop:
    """Where a recipe is carried out.

    Attributes:
        recipe: all numbers.
        out: the folder.
        progress: told (stage, done, in all, what is new).
        device: on which networks are trained and run.
        workers: processes that draw people.
        ranks: processes that train together.
    """

    recipe: Recipe
    out: Path
    progress: Report
    device: torch.device = CPU
    workers: int = 1
    ranks: Ranks = ALONE

    def claim(self, stage: str) -> None:
        """Write the recipe into the folder, or see that it is this one's. Where nothing was made it is taken over.

        Args:
            stage: that is to be carried out.

        Raises:
            StoreError: another recipe was carried out in the folder, or one that is shared was not carried out.
            WeightsError: the codec that the recipe names is not there.
        """
        for earlier in STAGES[: STAGES.index(stage)]:
            if earlier in self.recipe.shared:
                self.made(earlier)
        if self.recipe.codec_weights and "codec" not in self.recipe.shared:
            codec_file(self.recipe)
        path, mine = self.out / "recipe.json", facts(self.recipe)
        known = read_json(path) if path.is_file() else mine
        differing_keys = differing(known, mine)
        if differing_keys and {found.name for found in self.out.iterdir()} - {"recipe.json", LOCK}:
            raise StoreError(
                f"{self.out}: another recipe was carried out here (it differs in {', '.join(differing_keys)}). Choose "
                "another --out, or delete it."
            )
        if differing_keys or not path.is_file():
            write_json(path, mine)

    def cache(self) -> Path:
        """Return the folder of big intermediate files."""
        return cache_dir() / "distill"

    def report(self, stage: str) -> Callable[[int, int, str], None]:
        """Return the progress of one stage."""
        return functools.partial(self.progress, stage)

    def home(self, stage: str) -> Path:
        """Return the folder of a stage: below this one, or below that of another recipe, where the two share it."""
        folder = MAKES[stage][0]
        shared = self.recipe.shared.get(stage)
        return (Path(shared) if shared else self.out) / folder

    def made(self, stage: str, name: str = "") -> Path:
        """Return a file of an earlier stage, by default the one that it ends with.

        Raises:
            StoreError: that stage has not been finished.
        """
        path = self.home(stage) / (name or MAKES[stage][1])
        if not path.is_file():
            where = self.recipe.shared.get(stage)
            how = f"the recipe and --out of {where}, which shared.{stage} names," if where else "this recipe and --out"
            raise StoreError(f"{path} is missing: run lt-eval distill {stage} with {how} first.")
        return path


def run_stage(stage: str, shop: Workshop) -> str:
    """Carry out one stage, or finish it where it was interrupted; return what came out, in a sentence.

    Raises:
        SpecError: there is no such stage.
        StoreError: an earlier stage is missing, or the folder belongs to another recipe.
    """
    steps: dict[str, Callable[[Workshop], str]] = {
        "curate": run_curate,
        "codec": run_codec,
        "teacher": run_teacher,
        "ode-pairs": run_pairs,
        "ode-init": run_ode,
        "dmd": run_dmd,
    }
    if stage not in steps:
        raise SpecError(f"There is no stage {stage!r}; in order they are {', '.join(STAGES)}, or all.")
    check_shares(shop.recipe, (stage,), shop.ranks)
    with only_writer(shop.out) if shop.ranks.first else nullcontext():
        shop.ranks.first_only(shop.claim, stage)
        if stage in shop.recipe.shared:
            return f"{stage} is that of {shop.made(stage).parent}."
        run, alone = steps[stage], replace(shop, ranks=ALONE)
        said = shop.ranks.first_only(run, alone) if stage in ALONE_STAGES else run(shop)
        if shop.ranks.first and has_log(shop.out):
            write_plots(shop.out)
        return said


# Networks ------------------------------------------------------------------------------------------------------------


def run_codec(shop: Workshop) -> str:
    """Train the codec, or take the one that the recipe names."""
    recipe = shop.recipe
    model = recipe.config().codec
    if recipe.codec_weights:
        codec, path = create_codec(model), codec_file(recipe)
        load_codec(codec, path)
        # as it is in the package, to the byte: material made with it is found again
        save_codec(
            codec, shop.out / "codec" / "codec.safetensors", torch.bfloat16 if recipe.codec_weights == BUILTIN else None
        )
        return f"The codec is that of {path}."
    if not isinstance(model, MiniCodecConfig):
        raise SpecError(f"the codec {model.kind!r} is not trained here; set codec_weights to its published weights.")
    options = replace(recipe.codec, model=model)
    identity = key_of("codec", facts(recipe)["codec"], facts(recipe)["generator"], recipe.seed)
    _, now = train_codec(
        options,
        shop.out / "codec",
        shop.cache(),
        seed=recipe.seed,
        identity=identity,
        progress=shop.progress,
        device=shop.device,
        workers=shop.workers,
    )
    return _ended("codec", now)


def run_teacher(shop: Workshop) -> str:
    """Train the teacher, or see that published weights can be one."""
    recipe = shop.recipe
    config = teacher_config(recipe.config(), recipe.public)
    if recipe.public.teacher.files:
        shop.ranks.first_only(lambda: load_public(config, recipe.public.teacher, bf16=False) and None)
        return f"The teacher is that of {' with '.join(recipe.public.teacher.files)}."
    codec, codec_hash = trained_codec(shop)
    material = material_of(shop, codec, codec_hash)
    embed(shop, material.prompts)
    teacher, now = train_teacher(
        placed(shop, Denoiser.fresh(config, recipe.seed, bf16=recipe.teacher.bf16)),
        recipe.teacher,
        material,
        shop.out / "teacher",
        weight=audio_weights(material, recipe.audio_weight),
        seed=recipe.seed,
        identity=key_of(
            "teacher",
            facts(recipe)["teacher"],
            facts(recipe)["material"],
            codec_hash,
            recipe.seed,
            *([recipe.audio_weight] if recipe.audio_weight else []),
        ),
        progress=shop.report("teacher"),
        ranks=shop.ranks,
    )
    shop.ranks.first_only(_save, shop, teacher, codec, "teacher", "teacher.safetensors")
    return _ended("teacher", now)


def run_pairs(shop: Workshop) -> str:
    """Make trajectories of the teacher."""
    codec, _ = trained_codec(shop)
    pairs = _pairs(shop, codec)
    return f"{len(pairs)} trajectories."


def _pairs(shop: Workshop, codec: CausalCodec) -> Pairs:
    recipe = shop.recipe
    home, identity = shop.home("ode-pairs"), _pairs_hash(shop)
    embed(shop, [condition.prompt for condition in chosen_conditions(shop)])
    if shop.ranks.first_only(lambda: known_pairs(home, recipe.conditions.pairs, identity) is None):
        pool = functools.cache(lambda: conditions_of(shop, codec))
        make_pairs(
            teacher_of(shop, bf16=recipe.teacher.bf16).frozen(),
            recipe.pairs,
            lambda first, many: pool().part(range(first, first + many)),
            recipe.conditions.pairs,
            home,
            seed=recipe.seed,
            identity=identity,
            progress=lambda done, total: shop.progress("ode-pairs", done, total, ""),
            ranks=shop.ranks,
        )
    found = known_pairs(home, recipe.conditions.pairs, identity)
    assert found is not None
    return found


def _pairs_hash(shop: Workshop) -> str:
    return key_of("pairs", facts(shop.recipe)["pairs"], teacher_hash(shop), conditions_hash(shop), shop.recipe.seed)


def run_ode(shop: Workshop) -> str:
    """Initialise the student."""
    recipe, (codec, codec_hash) = shop.recipe, trained_codec(shop)
    shop.made("ode-pairs")
    pairs = _pairs(shop, codec)
    student, now = train_ode(
        start_of(shop, bf16=recipe.ode.bf16),
        recipe.ode,
        pairs,
        shop.out / "ode",
        weight=_weights(shop, codec, codec_hash),
        seed=recipe.seed,
        identity=key_of("ode", facts(recipe), codec_hash, _pairs_hash(shop), *start_hash(shop)),
        progress=shop.report("ode-init"),
        ranks=shop.ranks,
    )
    shop.ranks.first_only(_save, shop, student, codec, "ode", "student.safetensors")
    return _ended("ode-init", now)


def run_dmd(shop: Workshop) -> str:
    """Distil on policy, keep the best student, and write the bundle."""
    recipe, (codec, codec_hash) = shop.recipe, trained_codec(shop)
    student = student_of(shop, bf16=recipe.dmd.bf16)
    teacher = teacher_of(shop, bf16=recipe.dmd.bf16).frozen()
    embed(shop, [condition.prompt for condition in chosen_conditions(shop)])
    material = recipe.material
    people = range(material.trained, material.trained + min(recipe.held_out_people, material.held_out))
    folder = shop.out / "dmd"
    watch = functools.cache(
        lambda: prepare_held_out(
            longer(material, recipe.held_out_seconds),
            student,
            codec,
            folder / "true",
            list(people),
            recipe.public.audio_path,
        )
    )  # by the process that measures

    def keep(best: Denoiser, step: int) -> None:
        _save(shop, best, codec, "dmd", "student.safetensors")

    _, now = train_dmd(
        student,
        teacher,
        start_of(shop, bf16=recipe.dmd.bf16),
        recipe.dmd,
        random_batches(conditions_of(shop, codec), recipe.dmd.batch, recipe.seed),
        folder,
        evaluate=lambda model: measure_student(model, codec, watch(), folder / "made", seed=recipe.seed),
        keep=keep,
        weight=_weights(shop, codec, codec_hash),
        seed=recipe.seed,
        identity=key_of(
            "dmd",
            facts(recipe),
            codec_hash,
            _pairs_hash(shop),
            fingerprint.of_file(shop.made("ode-init")),
            *start_hash(shop),
        ),
        progress=shop.report("dmd"),
        ranks=shop.ranks,
    )
    return f"{_ended('dmd', now)} {shop.ranks.first_only(write_bundle, shop, now)}"


def _weights(shop: Workshop, codec: CausalCodec, codec_hash: str) -> Tensor | None:
    """Return what each element of a latent counts; the material is read for it alone, and only where it is wanted."""
    weight = shop.recipe.audio_weight
    return audio_weights(material_of(shop, codec, codec_hash), weight) if weight else None


def _save(shop: Workshop, model: Denoiser, codec: CausalCodec, stage: str, name: str) -> None:
    """Write what a stage came to in bfloat16: what is continued from and measured is what is shipped."""
    parts = Parts(model.transformer, codec, model.prompts)
    save_bundle(parts, shop.out / stage / name, card={"recipe": shop.recipe.name, "stage": stage})


def _ended(stage: str, now: Progressed) -> str:
    return f"{stage} ended after {now.step} steps ({now.seconds:.0f} s) because {why_it_ended(now.reason)}."
