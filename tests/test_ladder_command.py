"""A ladder as an experiment: its arms, its plan, its runs read back, and its report."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from golflab.analysis.ladder.findings import json_rows, ladder_findings, ladder_in_words, ladder_text, shown
from golflab.analysis.ladder.runs import candidates, differences
from golflab.analysis.report.sections_ladder import ladder_section, plot
from golflab.search.cli import ladder as command
from golflab.search.design.ladder import Pace, _training_pace, parameters, rungs
from golflab.search.ledger.problem import training_key
from tests.test_cli import golflab

PACE = {"nano": Pace(20_000, 5.0), "micro": Pace(9_000, 11.0)}


def found(techniques=("smear_gate", "bigram_hash", "ema"), name="baseline", scales=("nano", "micro")):
    return rungs(name, scales, (5.0, 20.0), techniques)


def test_arms_differ_by_one_technique_and_share_everything_else():
    for rung in found().rungs:
        for name, arm in rung.arms.items():
            assert arm.schedule == rung.base.schedule
            assert arm.shape == rung.base.shape
            assert {t.name for t in arm.techniques} ^ {t.name for t in rung.base.techniques} <= {name}
        assert training_key(rung.arms["ema"]) == training_key(rung.base)
        assert rung.trainings == 3


def test_what_a_preset_has_is_left_out_and_what_it_lacks_is_added():
    rung = found(("unet_skips", "smear_gate")).rungs[0]
    assert "unet_skips" not in {t.name for t in rung.arms["unet_skips"].techniques}
    assert "smear_gate" in {t.name for t in rung.arms["smear_gate"].techniques}


def test_by_default_all_of_a_preset_that_can_change_a_score_is_measured():
    told = rungs("seed_849", ("nano",), (5.0,))
    assert {"bigram_hash", "gptq", "hedge_mixer", "ema"} <= set(told.techniques)
    assert not {"zstd_codec", "byte_shuffle"} & set(told.techniques)


def test_what_cannot_be_is_left_out_with_the_reason():
    told = rungs("baseline", ("nano",), (5.0,), ("hedge_mixer", "value_residual", "crown_q"))
    assert all(len(note) > 20 for note in told.notes)
    assert set(told.techniques) | {note.split()[0] for note in told.notes} == {"hedge_mixer", "value_residual", "crown_q"}


def test_the_pace_of_a_scale_is_that_of_a_few_steps():
    rung = found(("smear_gate",), scales=("nano",)).rungs[0]
    assert 100 < _training_pace(rung.base.with_(layers=1)) < 10**8


def test_a_plan_says_runs_seconds_and_widths():
    made = command.plan("baseline", found(), PACE, 4 * 3600.0, 2)
    told = made.json()
    assert told["seconds"] <= 2 * 4 * 3600
    assert told["runs"] == sum(row["seeds"] * 4 for row in told["rungs"]) == len(made.found.recipes(made.seeds))
    assert told["trainings"] == sum(row["seeds"] * 3 for row in told["rungs"])
    assert told["half_width"]["ema"] < told["half_width"]["smear_gate"]
    assert len({r.hash for r in made.found.recipes(made.seeds)}) == told["runs"]
    richer = command.plan("baseline", found(), PACE, 16 * 3600.0, 2).json()
    assert richer["half_width"]["smear_gate"] < told["half_width"]["smear_gate"]


def runs_table(seeds=3, noise=0.002):
    """What the table of a ladder of the baseline looks like; smear_gate gains 0.01, unet_skips 0.02 less per e-fold."""
    rng, rows = np.random.default_rng(0), []
    for rung in found(("smear_gate", "unet_skips")).rungs:
        for arm in rung.arms.values():
            names = {t.name for t in arm.techniques}
            fading = -0.02 + 0.005 * np.log(rung.tokens_per_parameter)
            for seed in range(seeds):
                score = 2.0 - 0.01 * ("smear_gate" in names) + fading * ("unet_skips" in names)
                rows.append(
                    {
                        "techniques": " ".join(sorted(names)),
                        "state": "complete",
                        "bpb": score + rng.normal(0, noise),
                        "seed": seed,
                        "parameters": parameters(rung),
                        "tokens": rung.base.schedule.tokens,
                        "seconds": rung.base.schedule.tokens / 20_000,
                        "condition": str(rung.base.schedule),
                        "shape.width": rung.base.shape.width,
                    }
                )
    table = pd.DataFrame(rows)
    table.attrs["experiment"] = {"design": "ladder"}
    return table


def test_differences_are_with_minus_without_whether_left_out_or_added():
    told = differences(runs_table(noise=0.0))
    assert len(told) == 8
    assert np.allclose(told.loc[told["technique"] == "smear_gate", "delta_bpb"], -0.01)
    fading = told[told["technique"] == "unet_skips"]
    assert np.allclose(fading["delta_bpb"], -0.02 + 0.005 * np.log([5, 20, 5, 20]))
    assert (told["replicates"] == 3).all()
    assert told["tokens_per_parameter"].round().isin([5, 20]).all()


def test_a_run_with_a_seed_of_its_own_is_compared_with_none():
    table = runs_table(seeds=2)
    base = sorted(set(table["techniques"]), key=len)[1]
    alone = table[(table["techniques"] == base) | (table["seed"] == 0)]
    assert (differences(alone)["replicates"] == 1).all()


def test_candidates_are_what_ran_and_one_duration_longer():
    told = candidates(differences(runs_table()))
    assert sorted(told["tokens_per_parameter"].round()) == [5, 5, 20, 20, 80, 80]
    longest = told["tokens_per_parameter"] > 70
    assert (told.loc[longest, "seconds"] > 3.9 * told.loc[~longest, "seconds"].min()).all()


def test_a_report_has_the_predictions_as_a_section_as_json_and_ladder_in_words():
    told = ladder_findings(runs_table())
    rows = json.loads(json.dumps(json_rows(told)))
    assert [row["technique"] for row in rows] == list(told.predictions["technique"])
    assert set(rows[0]) >= {"verdict", "delta_full", "low", "high", "further_scale", "further_seconds", "further_chance"}
    section = ladder_section(told)
    assert section["title"] == "At full scale"
    assert len(section["figures"]) == 1
    assert "Predicted at full scale, of 2 techniques" in ladder_in_words(told)
    assert shown(told)["verdict"].tolist() == told.predictions["verdict"].tolist()
    published = pd.DataFrame({"technique": ["smear_gate"], "delta_bpb": [-0.004]})
    names = [trace.name for trace in plot(told.model, published).data]
    assert names.count("published") == 1
    assert sum("parameters" in str(name) for name in names) == 4


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_whole_cells_and_the_further_runs(width):
    told, out = ladder_findings(runs_table()), io.StringIO()
    ladder_text(told, Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    assert any("smear_gate" in line and "…" in line for line in lines)
    assert ("P(helps)" in out.getvalue()) == (width == 160)
    assert sum(line.startswith("  smear_gate: ") for line in lines) == 1


def test_a_search_has_no_such_section():
    table = runs_table()
    table.attrs["experiment"] = {"design": "leave-one-out"}
    assert ladder_findings(table) is None
    assert ladder_section(None) == {}
    table.attrs["experiment"] = {"design": "ladder"}
    assert ladder_findings(table[table["seed"] == 0]) is None  # one seed knows no error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scales", "tiny"], "nano, micro"),
        (["--durations", "five"], "5,20,80"),
        (["--durations", "-5"], "5,20,80"),
        (["--technique", "smeer_gate"], "smear_gate"),
        (["--budget", "soon"], "2h"),
    ],
)
def test_a_mistake_is_one_message(monkeypatch, capsys, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    assert golflab(monkeypatch, "ladder", "baseline", *words) == 2
    assert said in capsys.readouterr().err


def test_plan_only_prints_runs_seconds_and_widths(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("golflab.search.design.ladder.measure", lambda found, cache: PACE)
    words = ["ladder", "baseline", "--technique", "smear_gate", "--technique", "ema", "--plan-only"]
    assert golflab(monkeypatch, *words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == 2 * 2 * 2 * 3
    assert told["seconds"] > 0
    assert set(told["half_width"]) == {"smear_gate", "ema"}
    assert golflab(monkeypatch, *words) == 0
    assert "prediction interval" in capsys.readouterr().out
    assert not (tmp_path / "runs" / "baseline-ladder").exists()


def test_a_ladder_runs_as_an_experiment_and_its_report_predicts(ray_cluster, monkeypatch, capsys, tmp_path):
    made = command.plan("baseline", found(("smear_gate", "unet_skips"), scales=("nano",)), PACE, float("inf"), 2)
    from golflab.analysis.report.report import report
    from golflab.search.experiment.start import run_plan

    options = {"preset": "baseline", "scale": "nano", "design": "ladder", "binding": False, "name": "l", "runs": str(tmp_path)}
    fake = {"runner": "fake_runs:sized", "forecaster": "fake_runs:Forecaster", "cpus": 2, "rungs": False, "float_score": False}
    result = run_plan(made.found.recipes(made.seeds), **options, **fake)
    assert result.finished
    assert result.counts["complete"] == len(made.found.recipes(made.seeds)) == 12
    told = report(tmp_path / "l")
    assert set(json.loads(json.dumps(told.json()))["ladder"][0]) >= {"technique", "verdict"}
    assert "At full scale" in told.html(tmp_path / "page.html").read_text()
