"""The bundle that a distillation yields, and its card: recipe, data, steps, time, hardware, figures, from the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval import provenance
from lt_eval.distill.plots import KEEPS_BEST, curves_of, kept_step
from lt_eval.distill.recipe import BUILTIN, Recipe
from lt_eval.distill.talkers import TalkerOptions
from lt_eval.distill.training import outcome, read_log, why_it_ended
from lt_eval.generator.networks import Sources, load_parts, save_bundle
from lt_eval.store import atomic_write, read_json

if TYPE_CHECKING:
    from lt_eval.distill.stages import Workshop
    from lt_eval.distill.training import Progressed

TRAINED = {"codec": "codec", "teacher": "teacher", "ode-init": "ode initialisation", "dmd": "distribution matching"}
"""Stages with a log, in order, and what they are called."""


def model_card(recipe: Recipe, homes: Mapping[str, Path], hardware: str) -> str:
    """Return the card as Markdown.

    Args:
        recipe: that made the bundle.
        homes: stage to its folder, wherever it lies; those of `TRAINED` and "curate". One that is not there is said
            to be unknown.
        hardware: what the last stage ran on, in words.
    """
    config, stream = recipe.config(), recipe.config().stream
    shape = "config=CHANGES.toml" if recipe.generator else f"preset={recipe.preset}"
    lines = [
        f"# {recipe.name}",
        "",
        f"A streaming talking-avatar generator of lt-eval, distilled from {_from(recipe)} by the recipe "
        f"`{recipe.name}`: preset {config.name}, {config.size}x{config.size} at {config.fps:g} fps, "
        f"{stream.steps} steps a block, {stream.sink_blocks} sink and {stream.rolling_blocks} rolling blocks, rope "
        f"{stream.rope}.",
        "",
        "```sh",
        f"lt-eval generate --image I --audio A --out clip.mp4 --set {shape} --set weights={recipe.name}.safetensors",
        "```",
        "",
        *_changes(recipe),
        _use(recipe),
        "",
        "## Data",
        "",
        *_data(recipe, homes),
        "",
        "## Training",
        "",
        "| stage | steps | seconds | ended because | held out, at the end |",
        "|---|---:|---:|---|---|",
        *[_stage(stage, name, homes) for stage, name in TRAINED.items()],
        "",
        f"Seconds are of steps and measurements, over all sessions. The last stage ended on {hardware}. Batches: "
        f"teacher {recipe.teacher.batch}, ODE initialisation {recipe.ode.batch}, distribution matching "
        f"{recipe.dmd.batch}. Learning rates of distribution matching: student {recipe.dmd.student.learning_rate:g}, "
        f"critic {recipe.dmd.critic.learning_rate:g}; guidance of the teacher's score "
        f"{recipe.dmd.teacher_guidance:g} (1 is none). Seed {recipe.seed}.",
        "",
        "## Held-out figures",
        "",
        *_figures(recipe, homes),
    ]
    return "\n".join(lines) + "\n"


def write_bundle(shop: Workshop, now: Progressed) -> str:
    """Write the best student of DMD as a bundle, and its card beside it; return where it lies, in words."""
    recipe, folder = shop.recipe, shop.out / "dmd"
    step, loss = min(now.held_out, key=lambda pair: pair[1])
    final = load_parts(recipe.config(), Sources(transformer=folder / "student.safetensors"))
    told = {"recipe": recipe.name, "stage": "dmd", "dmd_step": str(step), "held_out": f"{loss:.4g}"}
    path = shop.out / f"{recipe.name}.safetensors"
    save_bundle(final, path, card=told)
    homes = {stage: shop.home(stage) for stage in ("curate", *TRAINED)}
    with atomic_write(shop.out / f"{recipe.name}.md") as file:
        file.write(model_card(recipe, homes, hardware_of(provenance.describe(), shop.device.type)))
    return f"Best at step {step}: {path}"


def hardware_of(description: Mapping[str, Any], device: str) -> str:
    """Return in words the hardware that `provenance.describe` states, the GPUs only where the device is one."""
    hardware = description["hardware"]
    gpus = ", ".join(hardware["gpus"]) if device != "cpu" else ""
    return gpus or f"{hardware['cpu']}, {hardware['cores']} cores, no GPU"


def _drawn_alone(recipe: Recipe) -> bool:
    """Return whether nothing but drawn people has ever been looked at, as far as the recipe says."""
    public = recipe.public
    published = public.teacher.files or public.start.files or public.text_encoder or public.audio
    return not published and not recipe.conditions.folder and recipe.codec_weights in ("", BUILTIN)


def _from(recipe: Recipe) -> str:
    if _drawn_alone(recipe):
        return "nothing but drawn people"
    return "published networks and recorded or drawn people, as said below,"


def _use(recipe: Recipe) -> str:
    if _drawn_alone(recipe):
        return (
            "Research use, and a system under test for lt-eval: it has only ever seen the people of the procedural "
            "talker, and no photograph. What it makes of one is not to be expected to look like a person."
        )
    return "The terms of the published networks, and of the recordings, are those of what came of them too."


def _changes(recipe: Recipe) -> list[str]:
    if not recipe.generator:
        return []
    told = f'CHANGES.toml holds `preset = "{recipe.preset}"` and the tables below [generator] of the recipe.'
    return [told, ""]


def _data(recipe: Recipe, homes: Mapping[str, Path]) -> list[str]:
    conditions, found = recipe.conditions, homes.get("curate", Path()) / "kept" / "curation.json"
    passed = "an unknown number"
    if found.is_file():
        report = read_json(found)
        passed = f"{report['kept']} of {report['given']}"
    kept = f"those that pass curation, {passed}"
    used = kept if conditions.curated else f"all, of which {passed} would pass curation"
    given = "the one that comes with lt-eval" if recipe.codec_weights == BUILTIN else f"that of {recipe.codec_weights}"
    codec = given if recipe.codec_weights else _people(recipe.codec.people)
    files = ", ".join(recipe.public.teacher.files)
    windows = f"windows of each: {recipe.material.windows}, of {recipe.material.frames} frames"
    calm = f"; heads move by {recipe.material.motion:g} of what is natural" if recipe.material.motion != 1 else ""
    teacher = f"published, {files}" if files else f"{_people(recipe.material)}; {windows}{calm}"
    drawn = f"{_people(conditions.people)}, {conditions.damaged_share:.0%} of the portraits damaged"
    asked = f"recorded people of the folder {conditions.folder}" if conditions.folder else drawn
    start = ", ".join(recipe.public.start.files)
    return [
        f"- Codec: {codec}.",
        f"- Teacher: {teacher}." + (f" Student and critic begin as {start}." if start else ""),
        f"- Trajectories and distribution matching: {asked}; of these {used}. {conditions.pairs} trajectories of "
        f"{recipe.pairs.trajectory_steps} steps, guidance {recipe.pairs.guidance:g}.",
    ]


def _people(options: TalkerOptions) -> str:
    last = options.first_seed + options.people - 1
    apart = f", the last {options.held_out} held out" if options.held_out else ""
    return f"{options.people} drawn people, seeds {options.first_seed} to {last}{apart}"


def _stage(stage: str, name: str, homes: Mapping[str, Path]) -> str:
    home = homes.get(stage, Path())
    done = outcome(home)
    if done is None:
        return f"| {name} | unknown | unknown | made elsewhere | |"
    why = why_it_ended(done["reason"])
    last = [curve for curve in curves_of(read_log(home)) if curve.measured and curve.name == "loss" and curve.points]
    loss = f"loss {last[0].points[-1][1]:.4g}" if last and home.name not in KEEPS_BEST else "see below"
    return f"| {name} | {done['steps']} | {done['seconds']:.0f} | {why} | {loss} |"


def _figures(recipe: Recipe, homes: Mapping[str, Path]) -> list[str]:
    curves = [curve for curve in curves_of(read_log(homes["dmd"])) if curve.measured]
    kept = kept_step(curves)
    at = {curve.name: dict(curve.points) for curve in curves}
    steps = {step for points in at.values() for step in points}
    first = min(steps, default=None)
    shown = {first: "before" if first == 0 else "first"} | {kept: "kept"}
    chose = (
        f"**These people chose the checkpoint** (step {kept:g}, by FVD over Sync-C): the figures flatter it, and none"
    )
    once = "One step was measured, so they chose nothing. None"
    lines = [
        f"{min(recipe.held_out_people, recipe.material.held_out)} drawn people on whom nothing was trained, "
        f"{recipe.held_out_seconds:g} seconds each, lt-eval's builtin metrics. {chose if len(steps) > 1 else once} is "
        "comparable with a published one.",
        "",
        "".join(["| |", *(f" step {step:g}, {what} |" for step, what in shown.items())]),
        "|---|" + "---:|" * len(shown),
    ]
    for name, points in at.items():
        if name != "loss":
            cells = (f" {points[step]:.4g} |" if step in points else " – |" for step in shown)
            lines.append("".join([f"| {name} |", *cells]))
    return lines
