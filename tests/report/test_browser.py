"""The page's script, run by a real browser where there is one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lt_eval.report import read_run, write_html
from tests.report.fixtures import CLIPS, NASTY, write_run

PROBE = """
<script>
const found = {};
const click = (node) => node.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
const set = (name, value) => {
  const field = document.getElementById("controls").elements[name];
  if (field.type === "checkbox") field.checked = value; else field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true}));
};
const ids = () => [...document.querySelectorAll(".clip h3")].map((node) => node.textContent);
const results = document.querySelector("#results table");
const names = () => [...results.tBodies[0].rows].slice(1).map((row) => row.cells[0].dataset.value);
const header = (text) => [...results.tHead.rows[0].cells].find((cell) => cell.textContent.trim().startsWith(text));

found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.original = names();
click(header("Latency").querySelector("button"));
found.sort = header("Latency").getAttribute("aria-sort");
found.ascending = names();
click(header("Latency").querySelector("button"));
found.descending = names();
click(header("Latency").querySelector("button"));
found.restored = names();

found.clips = ids();
found.videos = document.querySelectorAll("video").length;
set("failed", true); set("method", "1");
found.oursFailed = ids();
set("method", "3");
found.worstFailed = ids();
found.messages = [...document.querySelectorAll(".failure")].map((node) => node.textContent);
set("failed", false); set("method", "1"); set("sort", "2");
found.worstFirst = ids();
set("sort", "id"); set("find", "_03");
found.searched = ids();
set("find", ""); set("method", "all");
click(document.querySelectorAll("#failures a[data-clip]")[5]);
found.fromFailure = ids();
click(document.querySelectorAll("circle")[2]);
found.fromDot = ids();
const before = document.documentElement.dataset.theme;
click(document.getElementById("theme"));
found.themes = [before, document.documentElement.dataset.theme];
found.background = getComputedStyle(document.body).backgroundColor;
const answer = document.createElement("pre");
answer.id = "answer";
answer.textContent = JSON.stringify(found);
document.body.append(answer);
</script>
"""


def browser() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium is installed")
    return found


def probe(folder: Path, profile: Path, width: int, script: str = PROBE) -> dict[str, Any]:
    page = folder / "probe.html"
    content = (folder / "index.html").read_text(encoding="utf-8")
    page.write_text(content.replace("</body>", script + "</body>"), encoding="utf-8")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet]
    command += [f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom", f"{page.as_uri()}#theme=dark"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return answer


def test_sorting_filters_links_and_themes(tmp_path: Path) -> None:
    out = write_html([read_run(write_run(tmp_path / "run"))], tmp_path / "out").parent
    found = probe(out, tmp_path / "profile", 390)
    assert found["overflow"] == 0
    # latencies 0.33, 83.4 and 400 s: as strings 400 would come before 83.4
    assert found["original"] == ["Ground Truth", "ours", NASTY, "worst"] == found["restored"]
    assert found["sort"] == "ascending"
    assert found["ascending"] == ["Ground Truth", "ours", NASTY, "worst"]
    assert found["descending"] == ["Ground Truth", "worst", NASTY, "ours"]
    assert found["clips"] == CLIPS and found["videos"] == 4 * len(CLIPS) - 1
    assert found["oursFailed"] == [] and found["worstFailed"] == CLIPS
    assert all("no face in <75> frames & no hope" in message for message in found["messages"])
    assert found["worstFirst"] == CLIPS
    assert found["searched"] == [CLIPS[3]] and found["fromFailure"] == [CLIPS[5]] and found["fromDot"] == [CLIPS[2]]
    assert found["themes"] == ["dark", "light"]
    assert found["background"] == "rgb(255, 255, 255)"
