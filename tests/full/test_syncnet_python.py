"""syncnet-python 0.2.3: where its numbers are ours to the last digits, and where it departs from what it follows.

It is a rewriting of joonson/syncnet_python. Each fault below is shown on the package itself, beside what lt-eval does
with the same input.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.full.packages import require

require("syncnet_python", "scenedetect", "python_speech_features", "ffmpeg", "cv2")

from lt_eval.errors import SilentAudioError, UnscorableError  # noqa: E402
from lt_eval.media.clip import MediaClip  # noqa: E402
from lt_eval.media.encode import encode  # noqa: E402
from lt_eval.metrics.faces import tracks_in  # noqa: E402
from lt_eval.metrics.nets import s3fd  # noqa: E402
from lt_eval.metrics.sync import Sync  # noqa: E402
from lt_eval.records import Dialogue, Sample, Score, Turn  # noqa: E402
from tests.clips import moving_frames  # noqa: E402
from tests.full import syncnet_peer as peer  # noqa: E402
from tests.metrics.lip_sync import babble  # noqa: E402

SIDE = 240
BOX = [40.0, 40.0, 200.0, 200.0]
SYNC = Sync(weights="builtin", mode="direct", faces="sidecar", min_track=50)

needs_ffmpeg = pytest.mark.skipif(not peer.ffmpeg_version(), reason="syncnet-python runs the ffmpeg command")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return peer.new_pipeline(peer.write_weights(tmp_path_factory.mktemp("weights")))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path / "cache"))


def clip_of(folder: Path, frames: int, fps: int = 25, *, silent: bool = False) -> Path:
    """Write a moving picture with noise of changing loudness, or digital silence."""
    audio = babble(math.ceil(frames / fps * 25))[: round(frames / fps * 16_000)]
    pictures = moving_frames(0, frames, SIDE)
    return encode(folder / "clip.mp4", pictures, fps, 0 * audio if silent else audio, preset="ultrafast")


def ours(path: Path, faces: Any, fps: float = 25, metric: Sync = SYNC) -> Score:
    """Score the same clip with boxes of each frame in pixels, null where there is none."""
    stated = [[[edge / SIDE for edge in box] for box in boxes] for boxes in faces]
    path.with_name(f"{path.stem}.faces.json").write_text(json.dumps({"fps": fps, "faces": stated}))
    with MediaClip(path) as clip:
        return metric.score(Sample("peer", Dialogue("d", (Turn(),)), 0, clip))


# What agrees ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stage", ["mfcc", "embeddings", "distances", "evaluate", "raw", "boxes", "faces"], ids=lambda name: str(name)
)
def test_every_stage_is_the_package_s(stage: str, tmp_path: Path) -> None:
    import syncnet_python

    script = peer.parity()
    upstream = script.load_upstream(Path(syncnet_python.__file__).parents[1])
    given = {"evaluate": (tmp_path,), "boxes": (360, 512, 1), "faces": ((2, 256, 256),)}.get(stage, ())
    with peer.as_published():
        found = getattr(script, f"against_{stage}")(upstream, *given)
    assert found and not [one for one in found if not one.holds]


# Where it departs from joonson/syncnet_python -------------------------------------------------------------------------


def swapping() -> list[list[list[float]]]:
    """Boxes of two faces that stay, in 125 frames; in two of five the other one is the surer."""
    left, right = [10.0, 10.0, 130.0, 130.0], [200.0, 10.0, 320.0, 130.0]
    order = np.random.default_rng(0).random(125) < 0.4
    return [[right, left] if swapped else [left, right] for swapped in order]


def lengths_of(pipeline: Any, min_track: int) -> list[int]:
    detections = [[{"frame": k, "bbox": box} for box in boxes] for k, boxes in enumerate(swapping())]
    wanted, pipeline.cfg.min_track = pipeline.cfg.min_track, min_track
    try:
        return sorted(len(track["frame"]) for track in pipeline._track(detections))
    finally:
        pipeline.cfg.min_track = wanted


def test_its_tracker_loses_a_face_where_the_order_of_scores_changes(pipeline: Any) -> None:
    """The first face that is another one ends its search of the frame; upstream looks at the next face."""
    tracks = tracks_in([(0, 125)], [np.array(boxes) for boxes in swapping()])
    assert [len(track) for track in tracks if track.seen > 100] == [125, 125]
    seen = lengths_of(pipeline, 50)
    assert seen != [125, 125] and seen[0] < 125
    assert len(lengths_of(pipeline, 100)) < 2


def test_its_least_track_is_half_of_upstream_s(pipeline: Any) -> None:
    assert pipeline.cfg.min_track == 50
    assert Sync().min_track == 100


@needs_ffmpeg
def test_16_frames_a_second_are_cut_to_three_fifths(pipeline: Any, tmp_path: Path) -> None:
    """Ffmpeg 5.1 leaves empty packets in the 25 fps AVI, which OpenCV does not count and image2 does."""
    if not peer.ffmpeg_version().startswith("5."):
        pytest.skip("later versions of ffmpeg repeat frames instead")
    path, network = clip_of(tmp_path, 81, 16), peer.Counting()
    peer.infer(pipeline, path, [[BOX]] * 130, network)
    assert network.pictures == [81]  # 3.24 s of 5.06 s
    (track,) = ours(path, [[BOX]] * 81, fps=16).details["tracks"]
    assert track["frames"] == [0, 127]


# What it makes of clips without a value -------------------------------------------------------------------------------


@needs_ffmpeg
def test_a_clip_without_a_face_gets_a_perfect_distance(pipeline: Any, tmp_path: Path) -> None:
    path = clip_of(tmp_path, 60)
    assert peer.infer(pipeline, path, []) == ([], [], [], 0.0, 0.0, "", False)
    with pytest.raises(UnscorableError) as caught:
        ours(path, [[]] * 60)
    assert caught.value.code == "no_face"


@needs_ffmpeg
def test_a_face_seen_too_briefly_gets_one_too(pipeline: Any, tmp_path: Path) -> None:
    path = clip_of(tmp_path, 60)
    faces = [[BOX] if k < 50 else [] for k in range(60)]
    *_, confidence, distance, _, has_face = peer.infer(pipeline, path, faces)
    assert (confidence, distance, has_face) == (0.0, 0.0, False)
    with pytest.raises(UnscorableError) as caught:
        ours(path, faces)
    assert caught.value.code == "track_too_short"


@needs_ffmpeg
def test_its_command_calls_that_a_success(pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from syncnet_python import cli

    path, out = clip_of(tmp_path, 60), tmp_path / "found.json"

    class Blind:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def inference(self, video_path: str, **_: Any) -> Any:
            return peer.infer(pipeline, Path(video_path), [])

    monkeypatch.setattr(cli, "SyncNetPipeline", Blind)
    monkeypatch.setattr("sys.argv", ["syncnet-python", str(path), "--output", str(out)])
    with peer.as_published():
        assert cli.main() == 0
    (found,) = json.loads(out.read_text())
    assert (found["status"], found["confidence"], found["min_distance"]) == ("success", 0.0, 0.0)


@needs_ffmpeg
def test_its_two_ways_to_ask_disagree_about_no_face(pipeline: Any, tmp_path: Path) -> None:
    from syncnet_python import calculate_lse_metrics

    path = clip_of(tmp_path, 60)

    class Blind:
        @staticmethod
        def inference(video_path: str, **_: Any) -> Any:
            return peer.infer(pipeline, Path(video_path), [])

    assert peer.infer(pipeline, path, [])[4] == 0.0
    assert calculate_lse_metrics(Blind, str(path))[1] == math.inf


@needs_ffmpeg
def test_of_several_faces_it_takes_the_best_of_each_number(pipeline: Any, tmp_path: Path) -> None:
    """The highest Sync-C of one track and the lowest Sync-D of another."""
    path = clip_of(tmp_path, 60)
    small, large = [5.0, 60.0, 112.0, 167.0], [120.0, 60.0, 235.0, 175.0]
    found = peer.infer(pipeline, path, [[small, large]] * 60, peer.Counting((0, 1.0, 6.0), (3, 7.0, 14.0)))
    assert found[:5] == ([0, 3], [1.0, 7.0], [6.0, 14.0], 7.0, 6.0)
    score = ours(path, [[small, large]] * 60)
    chosen = score.details["tracks"][score.details["chosen"]]
    assert len(score.details["tracks"]) == 2 and chosen["box"][0] == pytest.approx(large[0] / SIDE, abs=1e-3)
    assert [chosen["confidence"], chosen["distance"]] == list(score.values.values())[:2]


@needs_ffmpeg
def test_silence_is_scored(pipeline: Any, tmp_path: Path) -> None:
    path, network = clip_of(tmp_path, 60, silent=True), peer.Counting((0, 5.0, 8.0))
    assert peer.infer(pipeline, path, [[BOX]] * 60, network)[3:5] == (5.0, 8.0)
    with pytest.raises(SilentAudioError):
        ours(path, [[BOX]] * 60)


def test_its_network_scores_silence_too(pipeline: Any, tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (26, 224, 224, 3), dtype=np.uint8)
    _, confidence, distance = peer.evaluated(pipeline, tmp_path, crops, np.zeros(26 * 640, np.int16))
    assert math.isfinite(confidence) and math.isfinite(distance) and distance > 0


# Short sound and crowds -----------------------------------------------------------------------------------------------


def test_sound_of_a_quarter_second_gets_exactly_0(pipeline: Any, tmp_path: Path) -> None:
    """One window: thirty of 31 shifts compare with padding, so the median can be the least. Upstream has it as well."""
    crops = np.random.default_rng(0).integers(0, 256, (26, 224, 224, 3), dtype=np.uint8)
    sound = (babble(8)[: 6 * 640] * 20_000).astype(np.int16)
    _, confidence, _ = peer.evaluated(pipeline, tmp_path, crops, sound)
    assert confidence == 0.0
    path = encode(tmp_path / "clip.mp4", moving_frames(0, 60, SIDE), 25, babble(8)[: 6 * 640], preset="ultrafast")
    with pytest.raises(UnscorableError) as caught:
        ours(path, [[BOX]] * 60)
    assert caught.value.code == "clip_too_short"


def test_less_sound_is_a_crash(pipeline: Any, tmp_path: Path) -> None:
    crops = np.zeros((10, 224, 224, 3), np.uint8)
    with pytest.raises((RuntimeError, ValueError)):
        peer.evaluated(pipeline, tmp_path, crops, np.zeros(3 * 640, np.int16))


def test_a_crowd_is_a_crash(pipeline: Any) -> None:
    """750 boxes are kept a frame; where all of them are sure, it reads one more."""
    height, width = 1080, 1920
    maps = tuple((-(-height // (16 << k)), -(-width // (16 << k))) for k in range(6))
    boxes = s3fd.priors(height // 4, width // 4, maps)
    offsets, scores = torch.tensor([0.0, 0, -8, -8]).repeat(len(boxes), 1), np.full(len(boxes), 0.95, np.float32)
    both = torch.from_numpy(np.stack([1 - scores, scores], axis=1)[None])
    from syncnet_python.detectors.s3fd.box_utils import Detect

    with peer.as_published(), torch.no_grad():
        output = Detect().forward(offsets[None], both, boxes)
    assert (output[0, 1, :, 0] > 0.9).all()  # the loop over them stops at the first that is not

    class Crowd(torch.nn.Module):
        def forward(self, _: Any) -> Any:
            return output

    detector = pipeline.s3fd.__class__.__new__(pipeline.s3fd.__class__)
    detector.net, detector.device = Crowd(), "cpu"
    with peer.as_published(), pytest.raises(IndexError):
        detector.detect_faces(np.zeros((height, width, 3), np.uint8), conf_th=0.9, scales=[0.25])
    decoded = s3fd.decode(offsets, boxes).numpy()
    assert len(s3fd.faces_of(scores, decoded, width, height, 0.9)) > 100
