"""The command line: its JSON, its exit codes, and one clear message for every mistake."""

import json
import os
import sys

import pytest
from fake_runs import run as fake_run

from golflab.model import run as one_run
from golflab.search.cli import main as cli
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import run_plan
from golflab.spaces.presets import preset


def golflab(monkeypatch, *words):
    """Exit code of the command line as a shell would see it."""
    monkeypatch.setattr(sys, "argv", ["golflab", *map(str, words)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "baseline", "--with", "smeer_gate"], "smear_gate"),
        (["run", "baseline", "--with", "xsa:last=999"], "between"),
        (["run", "baseline", "--with", "xsa:lst=2"], "last"),
        (["run", "baseline", "--without", "xsa"], "not switched on"),
        (["run", "basline"], "baseline"),
        (["run", "baseline", "--scale", "tiny"], "small, full"),
        (["run", "baseline", "--runs", "/proc/none"], "cannot be written"),
        (["run", "baseline", "--corpus", "/no/such/corpus"], "corpus"),
        (["search", "--space", "sarter"], "starter"),
        (["search", "--name", "a b"], "letters"),
        (["search", "--budget", "later"], "2h"),
        (["search", "--name", "x", "--runs", "/proc/none"], "cannot be written"),
        (["resume", "nothing"], "no experiment"),
        (["status", "nothing"], "no experiment"),
        (["report", "nothing"], "no experiment"),
        (["dashboard", "nothing"], "no experiment"),
        (["export", "nothing", "best", "--to", "x"], "no experiment"),
        (["ablate", "baseline", "--design", "guess"], "leave-one-out"),
        (["show", "nothing"], "baseline"),
        (["cost", "nothing"], "baseline"),
        (["audit", "nothing"], "baseline"),
        (["run", "baseline", "--with", "int5_rows", "--with", "int6_rows"], "name only one"),
    ],
)
def test_a_mistake_gives_one_message_and_exit_code_2(monkeypatch, capsys, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    assert golflab(monkeypatch, *words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert said in captured.err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/experiment.json"))


SHARED = {"scale": "nano", "tokens": 4096, "limit": 5, "corpus": "x", "name": "n", "seed": 3, "address": "a", "cpus": 1}
SHARED |= {"gpus_per_trial": 0.5, "processes": 2, "local_disk": "d", "finish": ("int5_rows",)}
SEARCHED = {"preset": "seed_849", "space": "first", "trials": 7, "screen": 3, "pruner": "median", "variants": 2, "halving": 4}
SEARCHED |= {"budget": "2h", "storage": "s", "confirm": 2}


@pytest.mark.parametrize(("command", "given"), [(["search"], SHARED | SEARCHED), (["ablate", "seed_849"], SHARED)])
def test_every_option_arrives(monkeypatch, tmp_path, command, given):
    heard = {}

    def hear(options, plan=None):
        heard.update(options)
        raise ValueError("heard")

    monkeypatch.setattr("golflab.search.experiment.start.asked", hear)
    monkeypatch.setattr("golflab.search.design.ablate.plan", lambda *_, **__: Planned())
    monkeypatch.setattr("golflab.search.cli.run_one.recipe_of", lambda *_, **__: preset("baseline"))
    plain = {key: value[0] if isinstance(value, tuple) else value for key, value in given.items()}
    words = [word for key, value in plain.items() for word in (f"--{key.replace('_', '-')}", value)]
    assert golflab(monkeypatch, *command, *words, "--allow-overlap", "--runs", tmp_path) == 2
    expected = given | {"allow_overlap": True, "runs": str(tmp_path)}
    assert {key: heard[key] for key in expected} == expected


class Planned:
    """An ablation's plan, as far as the command line looks at it."""

    design, recipes = "pairs", ()

    def text(self, console):
        pass


@pytest.mark.parametrize("words", [["resume"], ["no-such-command"], ["run"], ["search", "--trials", "many"]])
def test_words_that_are_missing_or_wrong_end_with_exit_code_2(monkeypatch, capsys, words):
    assert golflab(monkeypatch, *words) == 2
    assert capsys.readouterr().out == ""


def test_the_lists_as_json(monkeypatch, capsys):
    keys = {
        "presets": {"name", "techniques", "shape", "recipe"},
        "techniques": {"name", "stage", "slot", "summary", "knobs", "sources", "used_by"},
        "spaces": {"name", "summary", "parameters"},
    }
    for command, expected in keys.items():
        assert golflab(monkeypatch, command, "--json") == 0
        rows = json.loads(capsys.readouterr().out)
        assert rows
        assert all(set(row) == expected for row in rows)


def test_the_bill_as_json(monkeypatch, capsys):
    assert golflab(monkeypatch, "cost", "baseline", "--scale", "full", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert set(body) == {"parameters", "bytes", "code_bytes", "tokenizer_bytes", "bytes_with_tokenizer", "tensors"}
    assert body["bytes_with_tokenizer"] == body["bytes"]["mid"] + body["tokenizer_bytes"]
    assert body["parameters"] == 17_059_912
    assert set(body["bytes"]) == {"low", "mid", "high"}
    assert all(set(row) == {"name", "kind", "count", "bits", "bytes"} for row in body["tensors"])


def test_people_get_tables(monkeypatch, capsys):
    assert golflab(monkeypatch, "show", "baseline") == 0
    assert "which count with the weights; the tokenizer's 254," in capsys.readouterr().out.replace("\n", " ")
    for words in (["presets"], ["techniques"], ["spaces"], ["show", "baseline"], ["cost", "baseline", "--scale", "proxy"]):
        assert golflab(monkeypatch, *words) == 0
        assert "baseline" in capsys.readouterr().out or words[0] in ("techniques", "spaces")


WITH_TOKENIZER = ("tokenizer_bytes", "bytes_with_tokenizer")


def test_a_run_prints_one_object_and_failing_ends_with_exit_code_1(monkeypatch, capsys, tmp_path):
    def instant(recipe, folder, cache, **settings):
        return fake_run(recipe, folder, cache)

    monkeypatch.setattr(one_run, "run", instant)
    assert golflab(monkeypatch, "run", "baseline", "--with", "xsa:last=2", "--runs", tmp_path, "--json") == 0
    body = json.loads(capsys.readouterr().out)
    outcome = ["preset", "recipe", "seed", "state", "reason", "bpb", "bpb_float", "bytes", "code_bytes", "bytes_forecast"]
    assert list(body) == [*outcome, "parameters", "tokens", "seconds", "tokens_per_second", *WITH_TOKENIZER]

    def failing(recipe, folder, cache, **settings):
        record = fake_run(recipe, folder, cache)
        record.state, record.reason = "failed", "the loss was not finite"
        return record

    monkeypatch.setattr(one_run, "run", failing)
    assert golflab(monkeypatch, "run", "baseline", "--runs", tmp_path) == 1
    assert "not finite" in capsys.readouterr().out


def test_a_plan_is_run_reported_and_watched(ray_cluster, monkeypatch, capsys, tmp_path):
    base = preset("baseline").with_(limit=640_000)
    recipes = [base, base.without("unet_skips"), base.without("softcap"), base.without("resid_mix")]
    result = run_plan(recipes, name="p", runs=str(tmp_path), runner="fake_runs:run", forecaster="fake_runs:Forecaster")
    none = dict.fromkeys(("not_fitting", "over_limit", "pruned", "failed"), 0)
    assert result.counts == {"asked": 4, "trained": 4, "complete": 4} | none
    assert golflab(monkeypatch, "status", "p", "--runs", tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["counts"]["complete"], told["running"]) == ("finished", 4, [])
    assert golflab(monkeypatch, "report", "p", "--runs", tmp_path, "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert set(body) == {"best", "ranking", "counts"}
    assert (tmp_path / "p" / "report.html").exists()
    assert os.environ.get("OMP_WAIT_POLICY") == "passive"


def test_overlap_is_shown_by_data_info_refused_by_run_and_allowed_by_an_option(monkeypatch, capsys, tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text": f"Document {i % 5}. " + f"It says {i % 5} and more. " * 30}) for i in range(60))
    )
    assert golflab(monkeypatch, "data", "info", path) == 0
    assert "also in train: 3 of 3 documents (100.00%)" in capsys.readouterr().out
    assert golflab(monkeypatch, "data", "info", path, "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert set(body) == {"corpus", "fingerprint", "kind", "splits", "overlap", "notes"}
    assert any("runs need --allow-overlap" in note for note in body["notes"])

    asked = []

    def noting(recipe, folder, cache, **settings):
        asked.append(recipe)
        return fake_run(recipe, folder, cache)

    monkeypatch.setattr(one_run, "run", noting)
    for words in ([], ["--allow-overlap"]):
        assert golflab(monkeypatch, "run", "baseline", "--corpus", path, "--runs", tmp_path, *words) == 0
    assert [recipe.data.allow_overlap for recipe in asked] == [False, True]
    assert Options(allow_overlap=True).recipe().data.allow_overlap
    assert not Options().recipe().data.allow_overlap


def test_a_build_of_overlapping_text_is_refused_unless_asked_for(monkeypatch, capsys, tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text": f"Document {i % 5}. " + f"It says {i % 5} and more. " * 30}) for i in range(60))
    )
    words = ("data", "build", path, "--to", tmp_path / "shards", "--vocabulary", 285)
    assert golflab(monkeypatch, *words) == 2
    assert "--allow-overlap" in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()
    assert golflab(monkeypatch, *words, "--allow-overlap") == 0
    assert golflab(monkeypatch, "data", "info", tmp_path / "shards", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["overlap"]["window"] == 64
