"""Q-Align against pyiqa on the same seeded checkpoint, float32."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.full.packages import require

require("pyiqa", "icecream", "transformers", "torchvision")

from lt_eval.errors import WeightsError  # noqa: E402
from lt_eval.metrics.nets.inference import exact_inference  # noqa: E402
from lt_eval.metrics.nets.one_align import OneAlign, load_one_align  # noqa: E402
from lt_eval.metrics.qalign import QAlign  # noqa: E402
from lt_eval.metrics.qalign_inputs import CLIP_STD  # noqa: E402
from lt_eval.testing.fakes import ArrayClip, toy_clip, toy_samples  # noqa: E402
from tests.metrics.one_align import SIZES, one_align_script, pictures  # noqa: E402

REFERENCE = Path(__file__).with_name("pyiqa_reference.py")
SQUARE = [index for index, size in enumerate(SIZES) if size == (448, 448)]


def reference(folder: Path, scratch: Path) -> dict[str, Any]:
    """Return what pyiqa makes of all pictures."""
    np.savez(scratch / "pictures.npz", *pictures())
    command = [sys.executable, "-W", "ignore", str(REFERENCE), str(folder)]
    done = subprocess.run(
        [*command, str(scratch / "pictures.npz"), str(scratch / "out.npz")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(scratch / "out.npz"))


@pytest.fixture(
    scope="module",
    params=[{"image_size": 448}, {"image_size": 56, "add_bos_token": False, "shards": 2, "form": "bin", "seed": 3}],
    ids=["448", "56-without-start-token-in-pickled-shards"],
)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[OneAlign, dict[str, Any]]:
    scratch = tmp_path_factory.mktemp("qalign")
    folder = one_align_script().write_checkpoint(scratch / "tiny", **request.param)
    return load_one_align(folder, "cpu", "float32"), reference(folder, scratch)


Both = tuple[OneAlign, dict[str, Any]]


def test_prompts_and_levels_are_the_same_tokens(both: Both) -> None:
    ours, theirs = both
    assert list(ours.wording.levels) == list(theirs["levels"])
    for prompt, task in zip(ours.wording.prompts, ("quality", "aesthetics"), strict=True):
        assert [*prompt.before, -200, *prompt.after] == list(theirs[f"prompt_{task}"])


def test_pixels_are_those_of_the_pillow_preprocessing(both: Both) -> None:
    ours, theirs = both
    assert np.abs(ours.pixels(pictures()).numpy() - theirs["pillow_pixels"]).max() <= 1e-6


def test_tokens_of_the_picture_and_logits_agree(both: Both) -> None:
    ours, theirs = both
    with exact_inference():
        pixels = ours.pixels(pictures())
        tokens, logits = ours.network.picture_tokens(pixels), ours.logits(pixels)
    assert theirs["pillow_tokens"].std() > 0.1 and theirs["pillow_logits"].std() > 0.3
    assert np.abs(tokens.numpy() - theirs["pillow_tokens"]).max() <= 1e-5 * np.abs(theirs["pillow_tokens"]).max()
    assert np.abs(logits.numpy() - theirs["pillow_logits"]).max() <= 1e-4


def test_scores_agree_whatever_the_size_of_the_picture(both: Both) -> None:
    ours, theirs = both
    assert np.ptp(theirs["pillow_scores"], axis=0).min() > 0.3
    assert np.abs(ours.scores(pictures()) - theirs["pillow_scores"]).max() <= 1e-4


def test_without_resizing_pyiqa_untouched_gives_the_same(both: Both) -> None:
    ours, theirs = both
    if ours.network.config.vision.image_size != 448:
        pytest.skip("every picture is resized at this size")
    frames = [pictures()[index] for index in SQUARE]
    assert np.abs(ours.scores(frames) - theirs["as_is_scores"][SQUARE]).max() <= 1e-4


def test_where_torchvision_resizes_pixels_differ_by_two_levels_at_most(both: Both) -> None:
    """Why Pillow's path is the one to compare with: the published scores were made with it."""
    _, theirs = both
    difference = np.abs(theirs["as_is_pixels"] - theirs["pillow_pixels"])
    assert 0 < difference.max() <= 2.01 / 255 / min(CLIP_STD)


def test_a_checkpoint_that_does_not_say_begins_with_the_start_token(tmp_path: Path) -> None:
    """So the published weights were trained; the tokenizer of transformers 5 leaves it out, and scores change."""
    script = one_align_script()
    silent = script.write_checkpoint(tmp_path / "silent", image_size=56, add_bos_token=None)
    saying = script.write_checkpoint(tmp_path / "saying", image_size=56, add_bos_token=True)
    ours = load_one_align(silent, "cpu", "float32").scores(pictures())
    assert np.array_equal(ours, load_one_align(saying, "cpu", "float32").scores(pictures()))
    with_start, without = (reference(folder, tmp_path)["pillow_scores"] for folder in (saying, silent))
    assert np.abs(ours - with_start).max() <= 1e-4
    assert np.abs(ours - without).max() > 1e-2


def test_the_pyiqa_loader_gives_the_native_one_s_scores(tmp_path: Path) -> None:
    folder = one_align_script().write_checkpoint(tmp_path / "tiny", image_size=56)
    native = QAlign(weights_file=str(folder), dtype="float32", device="cpu", frames=4)
    pyiqa = replace(native, loader="pyiqa")
    samples = toy_samples([toy_clip(seed=0), ArrayClip(np.stack([pictures()[1]] * 3), path=Path("still.mp4"))])
    for sample in samples:
        ours, theirs = native.score(sample), pyiqa.score(sample)
        assert ours.values == pytest.approx(theirs.values, abs=1e-4)
        assert ours.details["frame_indices"] == theirs.details["frame_indices"]
    assert native.fingerprint != pyiqa.fingerprint
    assert "pyiqa 0.1.16 (PolyForm-Noncommercial-1.0.0)" in pyiqa.footnotes[0]


def test_half_precision_is_near_the_full_one(tmp_path: Path) -> None:
    folder = one_align_script().write_checkpoint(tmp_path / "tiny", image_size=56)
    full = load_one_align(folder, "cpu", "float32").scores(pictures())
    half = load_one_align(folder, "cpu", "float16")
    assert half.network.lm_head.weight.dtype == torch.float16
    assert np.abs(half.scores(pictures()) - full).max() < 0.3


def test_what_pyiqa_cannot_load_is_an_error_that_says_so(tmp_path: Path) -> None:
    folder = one_align_script().write_checkpoint(tmp_path / "tiny", image_size=56)
    (folder / "model.safetensors").unlink()
    broken = QAlign(weights_file=str(folder), dtype="float32", device="cpu", loader="pyiqa")
    with pytest.raises(WeightsError, match=r"pyiqa could not score with .*tiny \(exit status 1\): .*Error"):
        broken.score(toy_samples([toy_clip(seed=0)])[0])
