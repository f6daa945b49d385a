"""Curation: what is refused and why, hooks, the files, and damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from lt_eval.distill.conditions import (
    DAMAGES,
    Condition,
    CurateOptions,
    curate,
    damaged,
    faults,
    hook,
    measure,
    read_conditions,
    write_conditions,
    write_picture,
)
from lt_eval.errors import DatasetError, SpecError
from lt_eval.media.still import read_image
from lt_eval.records import Box, Frames
from lt_eval.synthetic.talker import perform

MEDIA = Path(__file__).parents[3] / "shared" / "media"
PEOPLE = range(6_000_000, 6_000_012)


def portrait(seed: int) -> tuple[Frames, Box]:
    show = perform(seed, 0.5, 256)
    return show.draw(0), show.box(0)


def condition(folder: Path, seed: int, kind: str | None) -> Condition:
    picture, face = portrait(seed)
    if kind is not None:
        picture = damaged(picture, np.random.default_rng(seed), kind)
    path = folder / "found" / f"{seed}-{kind}.png"
    write_picture(path, picture)
    return Condition(f"{seed}-{kind}", path, "A person talks.", seed=seed, face=face)


def test_clean_portraits_pass() -> None:
    for seed in PEOPLE:
        assert faults(measure(*portrait(seed)), CurateOptions()) == ()


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("dark", "dark"), ("bright", "bright"), ("blur", "blurred"), ("small", "blurred"), ("noise", "noisy")],
)
def test_each_damage_is_named(kind: str, fault: str) -> None:
    rng = np.random.default_rng(0)
    for seed in PEOPLE:
        picture, face = portrait(seed)
        found = faults(measure(damaged(picture, rng, kind), face), CurateOptions())
        # the mildest darkening of the lightest face stays within the bounds of brightness, and is then flat
        assert fault in found or (kind in ("dark", "bright") and found), (seed, found)


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the shared clips are not here")
@pytest.mark.parametrize("name", ["portrait1.jpg", "portrait2.jpg", "portrait3.jpg"])
def test_photographs_of_people_pass_and_their_face_is_found(name: str) -> None:
    picture = read_image(MEDIA / "portrait" / name)
    assert faults(measure(picture), CurateOptions()) == ()
    assert "blurred" in faults(measure(damaged(picture, np.random.default_rng(1), "blur")), CurateOptions())


def test_a_wall_has_no_face_and_a_far_person_is_too_small() -> None:
    wall = np.full((256, 256, 3), 128, np.uint8)
    assert "no_face" in faults(measure(wall), CurateOptions())
    picture, face = portrait(PEOPLE[0])
    far = np.full((1024, 1024, 3), 128, np.uint8)
    far[:256, :256] = picture
    assert "small_face" in faults(measure(far, Box(*(value / 4 for value in face))), CurateOptions())


def test_sharpness_falls_with_blur_and_does_not_depend_on_the_pictures_size() -> None:
    import cv2

    picture, face = portrait(PEOPLE[3])
    values = [measure(cv2.GaussianBlur(picture, (0, 0), s), face).sharpness for s in (0.5, 1.0, 2.0, 4.0)]  # type: ignore[arg-type]
    assert values == sorted(values, reverse=True) and values[-1] < 0.1 * values[0]
    show = perform(PEOPLE[3], 0.5, 512)
    drawn, face = show.draw(0), show.box(0)
    large = cv2.resize(drawn, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    assert measure(large, face).sharpness == pytest.approx(measure(drawn, face).sharpness, rel=0.25)  # type: ignore[arg-type]


def test_curation_keeps_reports_and_writes(tmp_path: Path) -> None:
    given = [condition(tmp_path, PEOPLE[0], None), condition(tmp_path, PEOPLE[1], "blur")]
    given.append(condition(tmp_path, PEOPLE[2], "dark"))
    verdicts = curate(given, CurateOptions(), tmp_path / "kept", refine=lambda picture, prompt: prompt + " Nods.")
    assert [verdict.kept for verdict in verdicts] == [True, False, False]
    (kept,) = read_conditions(tmp_path / "kept")
    assert (kept.id, kept.prompt, kept.seed) == (given[0].id, "A person talks. Nods.", PEOPLE[0])
    assert kept.face is not None and given[0].face is not None and kept.face == pytest.approx(given[0].face)
    np.testing.assert_array_equal(read_image(kept.portrait), read_image(given[0].portrait))
    found = json.loads((tmp_path / "kept" / "curation.json").read_text())
    assert (found["given"], found["kept"]) == (3, 1) and {"blurred", "dark"} <= set(found["refused"])


def test_restoration_gives_a_second_chance_but_no_free_pass(tmp_path: Path) -> None:
    given = [condition(tmp_path, PEOPLE[1], "blur"), condition(tmp_path, PEOPLE[2], "blur")]
    mended = iter([portrait(PEOPLE[1])[0], read_image(given[1].portrait)])
    first, second = curate(given, CurateOptions(), tmp_path / "kept", restore=lambda picture: next(mended))
    assert first.kept and first.restored and not second.kept and second.restored


def test_a_hook_that_returns_no_picture_is_named(tmp_path: Path) -> None:
    given = [condition(tmp_path, PEOPLE[1], "blur")]
    with pytest.raises(SpecError, match="restore hook returned float64"):
        curate(given, CurateOptions(), tmp_path / "kept", restore=cast("Any", lambda picture: picture / 255.0))


def test_a_set_of_which_nothing_is_left_is_an_error_with_its_reasons(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none of 1 conditions passed: .*blurred 1"):
        curate([condition(tmp_path, PEOPLE[1], "blur")], CurateOptions(), tmp_path / "kept")
    assert (tmp_path / "kept" / "curation.json").is_file()


def test_conditions_are_read_as_they_were_written(tmp_path: Path) -> None:
    inside = Condition("a", tmp_path / "portraits" / "a.png", "é", tmp_path / "a.wav", None, Box(0.1, 0.2, 0.3, 0.4))
    outside = Condition("b", Path("/elsewhere/b.png"), "b", None, 7)
    write_conditions(tmp_path, [inside, outside])
    assert list(read_conditions(tmp_path)) == [inside, outside]
    assert '"portraits/a.png"' in (tmp_path / "conditions.jsonl").read_text()


@pytest.mark.parametrize("names", [["a", "a"], ["../a"], [3], [""]])
def test_ids_are_file_names_and_occur_once(names: list[object], tmp_path: Path) -> None:
    lines = [json.dumps({"id": name, "portrait": "a.png", "prompt": ""}) for name in names]
    (tmp_path / "conditions.jsonl").write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=f"line {len(names)}.*plain file name"):
        list(read_conditions(tmp_path))


def test_a_line_that_is_no_condition_is_named(tmp_path: Path) -> None:
    (tmp_path / "conditions.jsonl").write_text('{"id": "a", "portrait": "a.png", "prompt": ""}\n{"id": "b"}\n')
    with pytest.raises(DatasetError, match="line 2: no condition"):
        list(read_conditions(tmp_path))
    with pytest.raises(DatasetError, match="distill curate"):
        list(read_conditions(tmp_path / "none"))


def test_hooks_are_found_by_path() -> None:
    assert hook("") is None
    assert hook("os.path:join") is not None
    for target, why in (("no.such:f", "cannot be imported"), ("os.path:sep", "type str"), ("os", "cannot be imported")):
        with pytest.raises(SpecError, match=why):
            hook(target)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_seeded_and_keeps_the_shape(kind: str) -> None:
    picture, _ = portrait(PEOPLE[0])
    one = damaged(picture, np.random.default_rng(5), kind)
    assert one.shape == picture.shape and one.dtype == np.uint8 and not np.array_equal(one, picture)
    np.testing.assert_array_equal(one, damaged(picture, np.random.default_rng(5), kind))


def test_an_unknown_damage_is_refused() -> None:
    with pytest.raises(ValueError, match="known: dark"):
        damaged(portrait(PEOPLE[0])[0], np.random.default_rng(0), "rain")
