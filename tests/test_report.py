"""The report as JSON, as text and as one offline page."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from golflab.analysis.report.report import report
from golflab.analysis.report.words import chance_in_words
from tests.planted import Planted, write_experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    world = Planted.draw(1)
    records = world.records((np.random.default_rng(0).random((60, 12)) < 0.5).astype(float))
    for k, record in enumerate(records):
        record["spec"]["techniques"]["bedrock"] = {"theta": k / 60}
        record["stages"] = {"train": 40.0, "evaluate": 3.0}
        if k % 20 == 3:
            record.update(state="failed", bpb=None, bytes=None, reason="<b>loss became NaN</b>")
        if k % 20 == 5:
            record.update(state="pruned", bpb=None, bytes=None, reason="too large")
    return write_experiment(
        tmp_path_factory.mktemp("runs") / "demo", records, counts={"asked": 75, "not_fitting": 15}, options={"space": "starter"}
    )


def test_json_keys_are_the_contract(folder):
    body = json.loads(json.dumps(report(folder).json(), allow_nan=False))
    assert list(body) == ["best", "ranking", "counts"]
    assert list(body["ranking"][0]) == [
        "technique",
        "delta_bpb",
        "se",
        "low",
        "high",
        "p",
        "p_holm",
        "q_bh",
        "runs",
        "mde",
        "bytes",
        "doubt",
    ]
    assert body["counts"] == {
        "asked": 75,
        "not_fitting": 15,
        "trained": 60,
        "over_limit": 0,
        "pruned": 3,
        "failed": 3,
        "complete": 54,
    }
    assert body["best"]["bytes"] <= 400_000
    assert isinstance(body["ranking"][0]["runs"], int)
    deltas = [row["delta_bpb"] for row in body["ranking"]]
    assert deltas == sorted(deltas)


def test_text_names_what_is_not_distinguishable(folder):
    stream = io.StringIO()
    report(folder).text(Console(file=stream, width=200))
    assert "Not distinguishable from zero: " in stream.getvalue()
    assert "A search chose these runs" in stream.getvalue()


def test_the_page_is_one_file_that_needs_no_network(folder, tmp_path):
    page = report(folder).html(tmp_path / "report.html").read_text()
    own = re.sub(r"<script>/\*\*.*?</script>", "", page, count=1, flags=re.S)
    assert page.count("plotly.js v") <= 3
    assert not re.search(r'(?:src|href)="(?:https?:)?//', own)
    for title in (
        "What each technique was worth",
        "Interactions",
        "Forecast and true bytes",
        "Learning curves",
        "Failures",
        "How it was run",
        "Where the budget went",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "&lt;b&gt;loss became NaN" in page
    assert "standard deviation of one run" in page


def test_a_page_stays_small_and_draws_with_its_bundle_however_much_there_is_to_show(tmp_path):
    records = Planted.draw(4, 26).records((np.random.default_rng(0).random((700, 26)) < 0.5).astype(float))
    curve = [{"step": s, "tokens": s * 4096, "loss": 3 + 1 / (s + 1)} for s in range(300)]
    (tmp_path / "many.jsonl").write_text("\n".join(json.dumps(r | {"curve": curve}) for r in records))
    path = report(tmp_path / "many.jsonl").html(tmp_path / "r.html")
    page = path.read_text()
    assert path.stat().st_size <= 1_500_000
    assert "plotly.js (basic - minified)" in page
    drawn = set(re.findall(r'"type":"(scatter|bar|pie|heatmap|[a-z]*gl|box|violin|histogram)"', page))
    assert {"scatter", "bar"} <= drawn <= {"scatter", "bar", "pie"}


def test_an_experiment_where_nothing_completed(tmp_path):
    world = Planted.draw(2, 6)
    records = world.records(np.eye(6))
    for record in records:
        record.update(state="failed", bpb=None, bytes=None, reason="out of memory", curve=[])
    told = report(write_experiment(tmp_path / "dead", records))
    assert told.json()["best"] is None
    assert told.json()["counts"]["failed"] == 6
    assert "No run completed" in told.html(tmp_path / "r.html").read_text()


def test_one_run_only(tmp_path):
    world = Planted.draw(3, 6)
    told = report(write_experiment(tmp_path / "one", world.records(np.ones((1, 6)))))
    assert told.json()["best"]["runs"] == 1
    assert told.json()["ranking"] == []
    told.html(tmp_path / "r.html")


def test_no_such_experiment(tmp_path):
    with pytest.raises(ValueError, match="There is no"):
        report(tmp_path / "nothing")


def test_nothing_that_was_drawn_is_told_as_certain():
    assert [chance_in_words(p) for p in (1.0, 0.99, 0.5, 0.004)] == ["more than 99%", "99%", "50%", "less than 1%"]
