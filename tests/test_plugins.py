"""A third party's package, installed by pip, as its users meet it: in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

RUN_CLI = "from lt_eval.cli import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example package is installed into."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += [
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(target),
        str(HERE / "plugin_package"),
    ]
    subprocess.run(command, check=True)
    return target


def python(code: str, *arguments: object, path: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code with `path` among the installed packages."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(path), str(HERE.parent))), "OMP_NUM_THREADS": "1"},
        cwd=cwd or HERE.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_registry_lists_it_without_importing_it(installed: Path) -> None:
    code = """
import sys
from lt_eval.registry import targets
assert targets("metrics")["sharpness"] == "lt_eval_example:Sharpness"
assert targets("datasets")["recordings"] == "lt_eval_example:Recordings"
assert targets("generators")["glow"] == "lt_eval_example:Glow"
assert "fid" in targets("metrics")
assert not {"lt_eval_example", "cv2", "numpy"} & set(sys.modules)
"""
    assert python(code, path=installed).stderr == ""


def test_the_command_line_lists_it(installed: Path) -> None:
    listed = python(RUN_CLI, "list", path=installed)
    assert listed.returncode == 0, listed.stderr
    for name in ("sharpness", "colour_distance", "unfinished", "recordings", "glow"):
        assert f" {name} " in listed.stdout


def test_it_is_made_with_options_by_name_and_by_path(installed: Path) -> None:
    code = """
from lt_eval.registry import create
assert create("metrics", "sharpness", {"every": 2}).every == 2
assert create("metrics", "lt_eval_example:Sharpness", {}) == create("metrics", "sharpness", {})
assert create("generators", "glow", {}).fps == 25.0
"""
    assert python(code, path=installed).stderr == ""


@pytest.mark.parametrize(
    "check",
    [
        "check_clip_metric(load('metrics', 'sharpness'))",
        "check_set_metric(load('metrics', 'colour_distance'))",
        "assert check_generator(load('generators', 'glow')).streams",
        "check_dataset(create('datasets', 'recordings', {'root': sys.argv[1]}))",
    ],
)
def test_it_keeps_the_contracts(installed: Path, tmp_path: Path, check: str) -> None:
    for name in ("ann", "ben"):
        (tmp_path / f"{name}.png").touch()
        (tmp_path / f"{name}.wav").touch()
    code = f"import sys\nfrom lt_eval.registry import create, load\nfrom lt_eval.testing import *\n{check}"
    assert python(code, tmp_path, path=installed).stderr == ""


def test_a_broken_plugin_fails_only_when_it_is_named(installed: Path) -> None:
    code = """
from lt_eval.errors import UnknownNameError
from lt_eval.registry import load, targets
assert "unfinished" in targets("metrics")
load("metrics", "sharpness")
try:
    load("metrics", "unfinished")
except UnknownNameError as error:
    print(error)
"""
    told = python(code, path=installed)
    assert told.stderr == ""
    assert "'unfinished' (lt_eval_example_of_a_module_that_is_missing:Metric) cannot be imported" in told.stdout


def test_a_name_of_ours_is_refused_with_both_targets(tmp_path: Path) -> None:
    information = tmp_path / "clashing-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: clashing\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[lt_eval.metrics]\nfid = their_fid:FID\n")
    code = "from lt_eval.registry import load\nload('metrics', 'fid')"
    told = python(code, path=tmp_path).stderr
    assert "UnknownNameError: Several metrics are called 'fid': lt_eval.metrics.fid:FID and their_fid:FID." in told


def test_two_plugins_of_one_name_are_refused(installed: Path, tmp_path: Path) -> None:
    information = tmp_path / "clashing-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: clashing\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[lt_eval.metrics]\nsharpness = theirs:Sharpness\n")
    code = f"import sys\nsys.path.append({str(tmp_path)!r})\n"
    code += "from lt_eval.registry import load\nload('metrics', 'sharpness')"
    told = python(code, path=installed).stderr
    assert "Several metrics are called 'sharpness'" in told
    assert "lt_eval_example:Sharpness" in told
    assert "theirs:Sharpness" in told


MAKE_CLIPS = """
from pathlib import Path
from lt_eval.media.encode import encode
from lt_eval.testing import toy_clip
for method, first in (("reference", 0), ("ours", 10)):
    Path(method).mkdir()
    for n in range(3):
        clip = toy_clip(0.5, 64, first + n)
        encode(Path(method) / f"clip{n}.mp4", clip.frames, clip.fps, clip.audio)
"""


def test_a_run_has_its_columns(installed: Path, tmp_path: Path) -> None:
    made = python(MAKE_CLIPS, path=installed, cwd=tmp_path)
    assert made.stderr == ""
    command = ["single", "--reference", "reference", "--clips", "ours=ours", "--out", "run"]
    command += ["--metric", "sharpness", "--metric", "lt_eval_example:ColourDistance"]
    ran = python(RUN_CLI, *command, path=installed, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    for column in ("Sharpness (levels²)", "Colour distance (levels)"):
        assert column in ran.stdout
