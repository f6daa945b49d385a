"""Identity: 1 of a clip that shows its portrait, lower of somebody else, and a reason where there is no face."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import lt_eval.metrics
from lt_eval.errors import MissingWeightsError, SpecError, UnscorableError, WeightsError
from lt_eval.measure import measure_clip, plan_clip, plan_metric
from lt_eval.media.encode import encode
from lt_eval.metrics import clip_faces
from lt_eval.metrics.identity import Identity
from lt_eval.metrics.nets.inference import seeded_state
from lt_eval.metrics.nets.iresnet import IResNet50
from lt_eval.records import Dialogue, Frames, MediaPolicy, Score, Turn
from lt_eval.registry import create
from lt_eval.spec import MetricSpec
from lt_eval.store import write_json
from lt_eval.weights import entry
from tests.metrics.drawn_people import FPS, Drawn, drawn, sample, write_portrait

HERE = Path(lt_eval.metrics.__file__).parent
BUILTIN = Identity(weights="builtin", device="cpu")
MEAN, WORST = BUILTIN.columns


@pytest.fixture(scope="module")
def people() -> list[Drawn]:
    return [drawn(number) for number in range(6)]


def score(dialogue: Dialogue, frames: Frames, metric: Identity = BUILTIN) -> Score:
    return metric.score(sample(dialogue, frames))


def reason(dialogue: Dialogue, frames: Frames, metric: Identity = BUILTIN) -> str:
    with pytest.raises(UnscorableError) as caught:
        score(dialogue, frames, metric)
    return caught.value.code


def test_a_clip_that_shows_its_portrait_has_one(tmp_path: Path, people: list[Drawn]) -> None:
    still = dataclasses.replace(people[0], boxes=people[0].boxes[:1] * 5)
    values = score(still.dialogue(tmp_path, "anna"), np.repeat(still.frames[:1], 5, axis=0)).values
    assert values[MEAN] == pytest.approx(1.0, abs=1e-5) and values[WORST] == pytest.approx(1.0, abs=1e-5)


def test_everybody_is_nearer_to_themselves_than_to_anybody_else(tmp_path: Path, people: list[Drawn]) -> None:
    dialogues = [one.dialogue(tmp_path, f"person{number}") for number, one in enumerate(people)]
    own = [score(dialogue, one.frames).values for dialogue, one in zip(dialogues, people, strict=True)]
    for number, dialogue in enumerate(dialogues):
        for other, one in enumerate(people):
            if other != number:  # the other's clip with the other's boxes, but this portrait
                strange = dataclasses.replace(dialogue, turns=dialogues[other].turns)
                assert score(strange, one.frames).values[MEAN] < own[number][WORST]
    assert min(values[MEAN] for values in own) > 0.85
    assert all(values[WORST] <= values[MEAN] for values in own)


def through_jpeg(frame: Frames) -> Frames:
    packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("change", ["brighter", "darker", "mirrored", "jpeg"])
def test_light_mirror_and_codec_leave_a_person_the_same(tmp_path: Path, people: list[Drawn], change: str) -> None:
    changes: dict[str, Callable[[Frames], Frames]] = {
        "brighter": lambda frame: np.clip(frame * 1.2, 0, 255).astype(np.uint8),
        "darker": lambda frame: (frame * 0.8).astype(np.uint8),
        "mirrored": lambda frame: np.ascontiguousarray(frame[:, ::-1]),
        "jpeg": through_jpeg,
    }
    for number, one in enumerate(people[:3]):
        changed = np.stack([changes[change](frame) for frame in one.frames])
        boxes = [[1 - box[2], box[1], 1 - box[0], box[3]] if change == "mirrored" else box for box in one.boxes]
        dialogue = dataclasses.replace(one, boxes=boxes).dialogue(tmp_path, f"person{number}")
        write_portrait(tmp_path / f"person{number}.png", one.frames[0], one.boxes[0])
        assert score(dialogue, changed).values[MEAN] > 0.8


def test_who_becomes_somebody_else_is_found_in_the_worst_frame(tmp_path: Path, people: list[Drawn]) -> None:
    one, other = people[0], people[1]
    mixed = Drawn(np.concatenate([one.frames[:-1], other.frames[-1:]]), [*one.boxes[:-1], other.boxes[-1]])
    whole, broken = (score(p.dialogue(tmp_path, "anna"), p.frames) for p in (one, mixed))
    assert broken.values[WORST] < whole.values[WORST] - 0.2
    assert np.argmin(broken.details["cosines"]) == len(one.frames) - 1


def test_the_first_frame_of_the_true_clip_stands_in_for_a_portrait(tmp_path: Path, people: list[Drawn]) -> None:
    one = people[2]
    truth = encode(tmp_path / "true.mp4", one.frames, FPS, crf=10)
    stated = one.dialogue(tmp_path, "with")
    without = Dialogue("without", (dataclasses.replace(stated.turns[0], reference=truth),))
    both = [score(dialogue, one.frames).values[MEAN] for dialogue in (stated, without)]
    assert both[1] == pytest.approx(both[0], abs=0.03)


def test_frames_are_chosen_evenly_and_all_of_them_where_asked(tmp_path: Path, people: list[Drawn]) -> None:
    dialogue = people[0].dialogue(tmp_path, "anna")
    few = score(dialogue, people[0].frames, dataclasses.replace(BUILTIN, frames=3))
    assert few.details["frames"] == [0, 6, 11] and few.details["faces"] == "manifest"
    every = score(dialogue, people[0].frames, dataclasses.replace(BUILTIN, frames=0))
    assert every.details["frames"] == list(range(12))
    assert every.values[MEAN] == pytest.approx(np.mean(every.details["cosines"]), abs=1e-4)


def test_what_has_no_value_has_a_reason(tmp_path: Path, people: list[Drawn]) -> None:
    dialogue, frames = people[0].dialogue(tmp_path, "anna"), people[0].frames
    grey = np.full_like(frames, 128)
    assert reason(Dialogue("d", (Turn(),)), frames) == "no_portrait"
    assert reason(dialogue, grey, dataclasses.replace(BUILTIN, faces="haar")) == "no_face"
    write_portrait(tmp_path / "wall.png", grey[0])
    assert reason(dataclasses.replace(dialogue, portrait=tmp_path / "wall.png"), frames) == "no_face"
    write_json(tmp_path / "few.json", {"fps": FPS, "faces": [*people[0].boxes[:4], *[None] * 8]})
    seldom = dataclasses.replace(dialogue, turns=(Turn(faces=tmp_path / "few.json"),))
    assert reason(seldom, frames) == "no_face"
    assert reason(dialogue, frames, dataclasses.replace(BUILTIN, faces="sidecar")) == "no_face_boxes"


def test_a_clip_without_a_face_is_a_row_with_a_reason(tmp_path: Path, people: list[Drawn]) -> None:
    clip = encode(tmp_path / "wall.mp4", np.full_like(people[0].frames, 90), FPS)
    plan = plan_metric(MetricSpec("identity", {"faces": "haar"}), {"weights": "builtin", "device": "cpu"})
    dialogue = people[0].dialogue(tmp_path, "anna")
    (row,) = measure_clip(plan_clip("d", "m", dialogue, clip, MediaPolicy(), [plan])).rows
    assert row.failure is not None and row.values == {}


def test_a_portraits_stated_box_is_in_the_rows_key(tmp_path: Path, people: list[Drawn]) -> None:
    clip = encode(tmp_path / "clip.mp4", people[0].frames, FPS)
    plan = plan_metric(MetricSpec("identity"), {"weights": "builtin", "device": "cpu"})
    dialogue = people[0].dialogue(tmp_path, "anna")
    before = plan_clip("d", "m", dialogue, clip, MediaPolicy(), [plan]).keys
    write_portrait(tmp_path / "anna.png", people[0].frames[0], [0.1, 0.1, 0.5, 0.5])
    assert plan_clip("d", "m", dialogue, clip, MediaPolicy(), [plan]).keys != before


def test_code_that_places_faces_is_part_of_what_it_is() -> None:
    code = clip_faces.CODE
    assert "sync_rate.py" in code  # which box belongs to which frame
    assert "nets/s3fd.py" in code and all((HERE / name).is_file() for name in code)


def test_numbers_of_different_networks_never_share_a_column(tmp_path: Path) -> None:
    own = Identity(weights_file=str(tmp_path / "mine.pth"))
    names = [set(metric.columns) for metric in (BUILTIN, Identity(), own)]
    assert names[0] == {"Identity (builtin)", "Identity worst (builtin)"} and len(set.union(*names)) == 6
    assert any("says nothing of real ones" in note for note in BUILTIN.footnotes)
    assert Identity(weights="arcface").columns == Identity().columns


def test_missing_weights_say_where_they_are_and_on_what_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(tmp_path))
    for weights in ("official", "arcface"):
        with pytest.raises(MissingWeightsError, match=r"non-commercial research only[\s\S]*backbone\.pth[\s\S]*1drv"):
            plan_metric(MetricSpec("identity", {"weights": weights, "faces": "manifest"}), {})
    assert entry("arcface").licence.startswith("non-commercial")


def test_an_arcface_file_of_ones_own_is_used(tmp_path: Path, people: list[Drawn]) -> None:
    torch.save(seeded_state(IResNet50(), 3), tmp_path / "mine.pth")
    metric = Identity(weights_file=str(tmp_path / "mine.pth"), faces="manifest", frames=3, device="cpu")
    still = dataclasses.replace(people[0], boxes=people[0].boxes[:1] * 3)
    dialogue = still.dialogue(tmp_path, "anna")
    values = score(dialogue, np.repeat(still.frames[:1], 3, axis=0), metric).values
    assert values["Identity (mine.pth)"] == pytest.approx(1.0, abs=1e-5)
    assert metric.fingerprint != BUILTIN.fingerprint
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    wrong = dataclasses.replace(metric, weights_file=str(tmp_path / "other.pth"))
    with pytest.raises(WeightsError, match="IResNet50"):
        score(dialogue, still.frames[:3], wrong)
    with pytest.raises(WeightsError, match="does not exist"):
        assert dataclasses.replace(metric, weights_file=str(tmp_path / "no.pth")).fingerprint


@pytest.mark.parametrize(
    "options", [{"weights": "arc"}, {"faces": "nose"}, {"frames": -1}, {"weights": "builtin", "weights_file": "a.pth"}]
)
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        create("metrics", "identity", options)


def test_real_faces_are_found_and_scored(real_media: Path) -> None:
    """That there is a value, not what it is: the builtin network says nothing of real faces."""
    plan = plan_metric(MetricSpec("identity", {"frames": 4}), {"weights": "builtin", "device": "cpu"})
    clip = real_media / "video" / "hdtf_like_512.mp4"
    dialogue = Dialogue("real", (Turn(reference=clip),))
    (row,) = measure_clip(plan_clip("d", "m", dialogue, clip, MediaPolicy(), [plan])).rows
    assert row.failure is None and row.details["faces"] == "haar" and row.details["cosines"][0] == 1.0
