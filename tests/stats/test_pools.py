from __future__ import annotations

import json
from pathlib import Path

import pytest

from lt_eval.errors import SpecError, StoreError
from lt_eval.stats import Pool, ReferencePool, read_reference_pool, require_same_judge, write_reference_pool

POOL = ReferencePool(
    name="first run",
    judge="Qwen3-VL-30B-A3B-Instruct",
    prompts={"EA": "aa11", "OIE": "bb22"},
    pools={"EA": Pool(3.25, 0.875, 300), "OIE": Pool(2.5, 1.0, 300)},
    methods=("ours", "theirs"),
    scenarios=100,
    repeats=3,
)


def test_a_pool_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_reference_pool(tmp_path / "pool.json", POOL)
    assert read_reference_pool(tmp_path / "pool.json") == POOL
    assert json.loads((tmp_path / "pool.json").read_text())["pools"]["EA"] == {"mu": 3.25, "sigma": 0.875, "n": 300}


def test_the_same_judge_and_prompts_are_let_through() -> None:
    require_same_judge(POOL, judge=POOL.judge, prompts=POOL.prompts)
    require_same_judge(POOL, judge=POOL.judge, prompts={"OIE": "bb22"})


@pytest.mark.parametrize(
    ("judge", "prompts", "said"),
    [
        ("another", {"EA": "aa11"}, "is of judge"),
        (POOL.judge, {"EA": "aa12"}, "other prompts of EA"),
        (POOL.judge, {"EA": "aa11", "NI": "cc33"}, "other prompts of NI"),
    ],
)
def test_another_judge_or_prompt_is_refused(judge: str, prompts: dict[str, str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        require_same_judge(POOL, judge=judge, prompts=prompts)


def test_a_dimension_without_scores_is_refused() -> None:
    bare = ReferencePool("bare", "j", {"EA": "x"}, {})
    with pytest.raises(SpecError, match="no scores of EA"):
        require_same_judge(bare, judge="j", prompts={"EA": "x"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 2}',
        '{"format": 1, "name": "x"}',
        '{"format": 1, "name": "x", "judge": "j", "prompts": {}, "pools": {"EA": {"mu": 1, "n": 3}}}',
        '{"format": 1, "name": "x", "judge": "j", "prompts": {}, "pools": {"EA": {"mu": NaN, "sigma": 1, "n": 3}}}',
        '{"format": 1, "name": "x", "judge": "j", "prompts": {}, "pools": {"EA": {"mu": 1, "sigma": -1, "n": 3}}}',
        '{"format": 1, "name": "x", "judge": "j", "prompts": [], "pools": {}}',
    ],
)
def test_what_is_no_pool_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pool.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"pool\.json"):
        read_reference_pool(path)
    with pytest.raises(StoreError, match=r"absent\.json"):
        read_reference_pool(tmp_path / "absent.json")
