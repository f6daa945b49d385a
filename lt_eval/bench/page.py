"""The figures of a bench for people: a few aligned lines on standard error, with what qualifies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lt_eval.bench.figures import table


def page(result: Mapping[str, Any]) -> list[str]:
    """Return the lines that tell a person what `bench.run` found."""
    lines = [_head(result), "", *table(result["figures"])]
    pooled = result["pooled"]
    if pooled["throughput_fps"] is not None:
        lines.append(
            f"all runs pooled: {pooled['throughput_fps']:.2f} FPS; gaps {_gaps(pooled)} ({pooled['gaps']} gaps)"
        )
    if result["stages"]:
        lines += ["", *_stages(result["stages"])]
    host, gpu = (_mib(result["memory"][name]) for name in ("host_mib", "gpu_mib"))
    first = result["first_open_s"]
    opened = "" if first is None else f", its first session opened in {first:.2f} s"
    lines += ["", f"made in {result['load_s']:.2f} s{opened}; peak memory: host {host}, GPU {gpu}"]
    if result["load"]:
        lines += ["", *_load(result["load"])]
    return [*lines, *_notes(result)]


def _head(result: Mapping[str, Any]) -> str:
    size = result["resolution"]
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    settings = f"{settings}; " if settings else ""
    where = ", ".join(result["gpus"]) or f"{result['hardware']['cpu']}, {result['hardware']['cores']} cores"
    seen = f"{size[1]}x{size[0]}" if size else "no frame"
    done = result["runs"] - result["failed"]
    return (
        f"{result['generator']}: {done} of {result['runs']} runs of {result['seconds']:g} s, {seen}, "
        f"{result['fps']:g} fps played at {result['playback_fps']:g}, audio {result['pace']}; {settings}on {where}"
    )


def _gaps(pooled: Mapping[str, Any]) -> str:
    known = [f"{name} {pooled[f'gap_{name}_s']:.3f} s" for name in ("p50", "p90", "p99") if pooled[f"gap_{name}_s"]]
    return ", ".join(known) or "none"


def _stages(stages: Mapping[str, Any]) -> list[str]:
    if "failure" in stages:
        return [f"denoising and decoding apart: {stages['failure']}"]
    lines = []
    for name, unit in (
        ("denoise_fps", "FPS"),
        ("decode_fps", "FPS"),
        ("denoise_first_s", "s"),
        ("decode_first_s", "s"),
    ):
        value = stages[name]
        shown = "too few blocks" if value is None else f"{value['mean']:.3f} {unit}"
        lines.append(f"{name.removesuffix('_fps').removesuffix('_s').replace('_', ' ')} alone: {shown}")
    return lines


def _load(load: Mapping[str, Any]) -> list[str]:
    if "failure" in load:
        return [f"many sessions: {load['failure']}"]
    if "sustained_sessions" in load:
        end = "" if load["search_finished"] else ", and perhaps more: the search was not finished"
        return [f"{load['sustained_sessions']} sessions at once without a freeze{end} (buffer {load['buffer_s']:g} s)"]
    return [
        f"{load['sustained']} of {load['sessions']} sessions without a freeze or failure at {load['rate']:g} a second "
        f"({load['arrivals']}), at most {load['most_at_once']} at once, {load['failed']} failed"
    ]


def _mib(value: float | None) -> str:
    return "not known" if value is None else f"{value:.0f} MiB"


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = []
    if result["streams"] is False:
        notes.append("It does not stream: its first frame comes with its last, and latency is the whole time.")
    if result["pace"] == "realtime":
        notes.append("Audio came in real time: throughput is bounded by the speaker, not by the generator.")
    if not result["warm_up_enough"] and result["streams"]:
        reached = result["warm_up_blocks"]
        notes.append(f"The warm-up reached {reached or 'no'} blocks; the steady state begins with the sixth.")
    return [f"note: {note}" for note in notes] + [f"failed: {failure}" for failure in result["failures"]]
