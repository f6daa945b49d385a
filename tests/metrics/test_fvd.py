from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lt_eval import weights as weight_files
from lt_eval.errors import UnscorableError, WeightsError
from lt_eval.interfaces import HasFingerprint, HasFloor, HasFootnotes, HasInfluence, SetMetric
from lt_eval.metrics import preprocess
from lt_eval.metrics.fid import FID
from lt_eval.metrics.fvd import FVD
from lt_eval.metrics.nets.i3d import InceptionI3d
from lt_eval.metrics.nets.inference import seeded_state
from tests.metrics.still_clips import ArrayClip, talking_blob
from tests.metrics.test_inception import save_program
from tests.metrics.test_preprocess import LargestTensor

BUILTIN = FVD(weights="builtin")


def test_keeps_the_contracts_of_a_set_metric() -> None:
    metric: SetMetric = BUILTIN
    assert isinstance(metric, HasInfluence)
    assert isinstance(metric, HasFloor)
    assert isinstance(metric, HasFingerprint)
    assert isinstance(metric, HasFootnotes)


def test_columns_are_named_by_what_makes_another_number() -> None:
    assert list(FVD().columns) == ["FVD"]
    assert list(FVD(infinity=True).columns) == ["FVD", "FVD-inf"]
    assert list(FVD(weights_file="my/net.pt").columns) == ["FVD (net.pt)"]
    assert list(BUILTIN.columns) == ["FVD (builtin)"]
    assert "16-frame windows every 8 frames" in FVD(stride=8).footnotes[0]
    assert "not comparable with published FVD" in BUILTIN.footnotes[0]


@pytest.mark.parametrize(
    "options",
    [{"weights": "random"}, {"ddof": 2}, {"stride": 0}, {"batch": 0}, {"weights": "builtin", "weights_file": "x"}],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        FVD(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "stride", "windows"), [(16, 16, 1), (47, 16, 2), (48, 16, 3), (48, 8, 5), (17, 1, 2)]
)
def test_features_are_one_row_a_window(frames: int, stride: int, windows: int) -> None:
    rows = replace(BUILTIN, stride=stride).features(ArrayClip(talking_blob(0, frames, 64)))
    assert rows.shape == (windows, 64)
    assert rows.dtype == np.float32


def test_features_do_not_depend_on_the_batch_or_on_later_frames() -> None:
    frames = talking_blob(0, 80, 64)
    rows = BUILTIN.features(ArrayClip(frames))
    assert np.abs(rows - replace(BUILTIN, batch=2).features(ArrayClip(frames))).max() < 1e-5
    assert np.abs(rows[:2] - BUILTIN.features(ArrayClip(frames[:40]))).max() < 1e-5
    assert np.abs(rows[3] - BUILTIN.features(ArrayClip(frames[48:64]))[0]).max() < 1e-5


def test_a_clip_shorter_than_a_window_is_a_failure_with_a_reason() -> None:
    with pytest.raises(UnscorableError, match=r"short\.mp4 has 15 frames; an FVD window is 16") as failure:
        BUILTIN.features(ArrayClip(talking_blob(0, 15, 32), Path("short.mp4")))
    assert failure.value.code == "clip_too_short"


def test_the_order_of_frames_matters() -> None:
    frames = talking_blob(0, 48, 64)
    shuffled = frames[np.random.default_rng(0).permutation(len(frames))]
    rows, other = (BUILTIN.features(ArrayClip(f)) for f in (frames, shuffled))
    assert np.abs(rows.mean(axis=0) - other.mean(axis=0)).max() > 0.1


def test_missing_weights_say_what_to_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as refusal:
        _ = FVD().fingerprint
    for word in ("i3d_torchscript.pt", "51.2 MB", "lt-eval weights fetch i3d", "i3d_pretrained_400.pt", str(tmp_path)):
        assert word in str(refusal.value)


class LevelsAndTime(nn.Module):
    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        return x.mean(dim=(1, 3, 4)).repeat(1, 25)


def test_whichever_official_file_is_here_is_used_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_EVAL_WEIGHTS", str(tmp_path))
    clip, metric = ArrayClip(talking_blob(0, 32, 64)), FVD(device="cpu")
    torch.save(seeded_state(InceptionI3d()), tmp_path / "i3d_pretrained_400.pt")
    rows, fingerprint = metric.features(clip), metric.fingerprint
    assert rows.shape == (2, 400)
    assert "i3d_pretrained_400.pt" in metric.footnotes[0]

    program = tmp_path / "i3d_torchscript.pt"
    save_program(LevelsAndTime(), program)
    digest = weight_files.sha256_of(program)
    table = tuple(replace(line, sha256=digest) if line.name == "i3d" else line for line in weight_files.TABLE)
    monkeypatch.setattr(weight_files, "TABLE", table)
    levels = clip.frames.reshape(2, 16, -1).mean(axis=2)
    np.testing.assert_allclose(metric.features(clip)[:, :16], levels, rtol=1e-4)
    assert "i3d_torchscript.pt" in metric.footnotes[0]
    assert metric.fingerprint != fingerprint


class Resizing(nn.Module):
    """As StyleGAN-V's program does: scaled and resized inside, one picture after the other."""

    def __init__(self, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if rescale:
            x = x / 255 * 2 - 1
        if resize:
            flat = x.transpose(1, 2).flatten(0, 1)
            flat = nn.functional.interpolate(flat, size=(224, 224), mode="bilinear", align_corners=self.align_corners)
            x = flat.reshape(x.shape[0], x.shape[2], 3, 224, 224).transpose(1, 2)
        return x[:, 0, 0, 100:102, :200].flatten(1)  # pixels rather than means: a shift shows


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_program_sees_frames_as_if_it_had_resized_them(tmp_path: Path, align_corners: bool) -> None:
    path = tmp_path / "program.pt"
    save_program(Resizing(align_corners), path)
    frames = np.random.default_rng(0).integers(0, 256, (32, 90, 130, 3), dtype=np.uint8)
    windows = torch.from_numpy(frames).reshape(2, 16, 90, 130, 3).permute(0, 4, 1, 2, 3).float()
    published = Resizing(align_corners)(windows, rescale=True, resize=True, return_features=True).numpy()
    rows = FVD(weights_file=str(path), device="cpu").features(ArrayClip(frames))
    np.testing.assert_allclose(rows, published, atol=1e-5)


def test_a_program_that_resizes_as_we_do_never_gets_large_frames(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    save_program(Resizing(), path)
    frames = np.broadcast_to(np.uint8(7), (32, 1080, 1920, 3))
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        FVD(weights_file=str(path), device="cpu").features(ArrayClip(frames))
    assert 0 < largest.bytes <= 60e6


@pytest.mark.parametrize("batch", [1, 8])
def test_a_program_of_its_own_resizing_gets_few_windows_at_a_time(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "program.pt"
    save_program(LevelsAndTime(), path)
    frames = np.broadcast_to(np.uint8(7), (64, 400, 400, 3))
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        rows = FVD(weights_file=str(path), device="cpu", batch=batch).features(ArrayClip(frames))
    np.testing.assert_allclose(rows, 7, rtol=1e-4)
    assert 16 * 400 * 400 * 3 * 4 <= largest.bytes <= 60e6


@pytest.mark.parametrize(
    ("metric", "sources"),
    [
        (BUILTIN, {"fvd.py", "preprocess.py", "nets/builtin.py", "nets/inference.py"}),
        (FVD(weights_file="own"), {"fvd.py", "preprocess.py", "nets/i3d.py", "nets/inference.py"}),
        (FID(weights="builtin"), {"fid.py", "preprocess.py", "nets/builtin.py", "nets/inference.py"}),
        (FID(weights_file="own"), {"fid.py", "preprocess.py", "nets/inception.py", "nets/inference.py"}),
    ],
)
def test_fingerprint_changes_with_each_file_that_makes_features_and_no_other(
    metric: FVD | FID, sources: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    folder, read_bytes, before = Path(preprocess.__file__).parent, Path.read_bytes, metric.fingerprint
    found = set()
    for edited in [*folder.glob("*.py"), *folder.glob("nets/*.py")]:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda self, of=edited: read_bytes(self) + (b"#" if self == of else b""))
            if metric.fingerprint != before:
                found.add(edited.relative_to(folder).as_posix())
    assert found == sources


def test_fingerprint_is_of_what_moves_features() -> None:
    assert BUILTIN.fingerprint == replace(BUILTIN, batch=3, ddof=0, infinity=True, device="cpu").fingerprint
    assert BUILTIN.fingerprint != replace(BUILTIN, stride=8).fingerprint
