"""The script of a multi-round report, run by a real browser where there is one."""

from __future__ import annotations

from pathlib import Path

from lt_eval.report.rounds import read_rounds
from lt_eval.report.rounds_page import RoundsReport, write_rounds
from lt_eval.rounds_summary import SummaryOptions, summarise_rounds
from tests.report.rounds_fixtures import write_run
from tests.report.test_browser import probe

PROBE = """
<script>
const found = {};
const set = (name, value) => {
  const field = document.getElementById("controls").elements[name];
  if (field.type === "checkbox") field.checked = value; else field.value = value;
  field.dispatchEvent(new Event("input", {bubbles: true}));
};
const talks = () => [...document.querySelectorAll(".talk")].filter((talk) => !talk.hidden);
const ids = () => talks().map((talk) => talk.querySelector("h3").textContent);
const results = document.querySelector("#results table");
const heads = [...results.tHead.rows[results.tHead.rows.length - 1].cells];
const names = () => [...results.tBodies[0].rows].slice(1).map((row) => row.cells[0].dataset.value);

found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
found.controls = document.getElementById("controls").hidden;
found.all = talks().map((talk) => Number(talk.dataset.all));
set("sort", "OIE");
found.oie = talks().map((talk) => Number(talk.dataset.oie));
set("sort", "place");
found.place = ids();
set("find", "S3,");
found.searched = ids();
set("find", ""); set("failed", true);
found.failed = ids();
found.status = document.getElementById("status").textContent;
heads.find((cell) => cell.textContent.trim().startsWith("Latency")).querySelector("button").click();
found.sorted = names();
heads.find((cell) => cell.textContent.trim().startsWith("OIE")).querySelector("button").click();
found.byOie = names();
found.ran = typeof window.ran;
const answer = document.createElement("pre");
answer.id = "answer";
answer.textContent = JSON.stringify(found);
document.body.append(answer);
</script>
"""


def test_conversations_are_sorted_and_found_and_tables_sorted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", scenarios=6, failed=(("weak", 4, "generation_failure"),))
    found = summarise_rounds(run, SummaryOptions(draws=50))
    report = RoundsReport(read_rounds(tmp_path / "run"), found.percentiles, found.raw, found.statistics)
    out = write_rounds(report, tmp_path / "out", with_paper="all").parent
    answer = probe(out, tmp_path / "profile", 390, PROBE)
    assert answer["overflow"] == 0
    assert answer["controls"] is False
    assert answer["all"] == sorted(answer["all"], reverse=True)
    assert answer["oie"] == sorted(answer["oie"], reverse=True)
    assert answer["place"] == [f"s{number}" for number in range(6)]
    assert answer["searched"] == ["s3"]
    assert answer["failed"] == ["s4"]
    assert answer["status"] == "1 of 6 conversations."
    latencies = ["ours", "LiveTalk", "theirs & co", "weak", "Veo3", "Sora2"]
    assert answer["sorted"] == latencies
    assert answer["byOie"][-1] == "Veo3"
