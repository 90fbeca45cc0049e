"""A ladder as an experiment: its arms, its plan, its runs read back, and its report."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from golflab.analysis.evidence.published import at_full_scale
from golflab.analysis.ladder.findings import json_rows, ladder_findings, ladder_in_words, ladder_text, shown
from golflab.analysis.ladder.forecast import path
from golflab.analysis.ladder.runs import arms, candidates, differences
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


def test_what_shares_its_training_is_seen_by_its_training():
    table = runs_table(seeds=2)
    own = table.assign(training=table["techniques"] + table["seed"].astype(str) + table["condition"])
    assert not differences(own)["shares_training"].any()
    without = table["techniques"].str.replace(" smear_gate", "")  # as if smear_gate acted after training
    own["training"] = without + table["seed"].astype(str) + table["condition"]
    told = differences(own).groupby("technique")["shares_training"].all()
    assert told.to_dict() == {"smear_gate": True, "unet_skips": False}


@pytest.fixture(scope="module")
def told():
    """What that ladder found, fitted once."""
    return ladder_findings(runs_table())


def test_candidates_are_what_ran_and_one_duration_longer():
    told = candidates(differences(runs_table()))
    assert sorted(told["tokens_per_parameter"].round()) == [5, 5, 20, 20, 80, 80]
    longest = told["tokens_per_parameter"] > 70
    assert (told.loc[longest, "seconds"] > 3.9 * told.loc[~longest, "seconds"].min()).all()


def test_a_report_has_the_predictions_as_a_section_as_json_and_ladder_in_words(told):
    rows = json.loads(json.dumps(json_rows(told)))
    assert [row["technique"] for row in rows] == list(told.predictions["technique"])
    assert set(rows[0]) >= {"verdict", "delta_full", "low", "high", "further_scale", "further_seconds", "further_chance"}
    section = ladder_section(told)
    assert section["title"] == "At full scale"
    assert len(section["figures"]) == 1
    assert "Predicted at full scale, of 2 techniques" in ladder_in_words(told)
    assert shown(told)["verdict"].tolist() == told.predictions["verdict"].tolist()


def test_the_plot_has_a_line_a_scale_the_shaded_way_and_published_effects_as_marks(told):
    model = told.model
    published = pd.DataFrame({"technique": ["smear_gate"], "delta_bpb": [-0.004], "low": [-0.006], "high": [-0.001]})
    traces = plot(model, published).data
    assert sum("parameters" in str(trace.name) for trace in traces) == 4
    shaded = [trace for trace in traces if trace.fill == "toself"]
    assert [max(trace.x) for trace in shaded] == pytest.approx([270.0, 270.0])
    (mark,) = [trace for trace in traces if trace.legendgroup == "published"]
    assert (mark.x[0], mark.y[0]) == (pytest.approx(270.0), -0.004)
    assert (mark.error_y.array[0], mark.error_y.arrayminus[0]) == (pytest.approx(0.003), pytest.approx(0.002))
    assert mark.showlegend
    shown_once = [trace.legendgroup for trace in traces if trace.showlegend]
    assert sorted(shown_once) == sorted(set(shown_once))
    for none in (None, published.assign(technique="xsa")):
        assert not [trace for trace in plot(model, none).data if trace.legendgroup == "published"]


def test_the_way_of_every_technique_ends_at_its_prediction(told):
    ways = path(told.model, steps=5)
    assert ways.groupby("technique").size().to_dict() == {"smear_gate": 5, "unet_skips": 5}
    ends = ways.groupby("technique").last()
    predicted = told.predictions.set_index("technique")
    assert ends["tokens_per_parameter"].tolist() == pytest.approx([270.0] * 2)
    assert (abs(ends["mean"] - predicted["delta_full"]) < 0.1 * predicted["sd"]).all()
    assert abs(ends["mean"].diff().iloc[-1]) > predicted["sd"].max()  # the two are not one


def test_the_section_tells_what_was_published_and_is_silent_where_nothing_was(told):
    section = ladder_section(told)
    assert "A cross" in section["lead"]
    (head,) = [table["head"] for table in section["tables"]]
    assert "published, 95 %" in head
    assert any("source(s)" in cell for row in section["tables"][0]["rows"] for cell in row)
    bare = ladder_section(told, at_full_scale(["no_such_technique"]))
    assert "A cross" not in bare["lead"]
    assert "published, 95 %" not in bare["tables"][0]["head"]


def test_a_rung_that_has_just_begun_is_compared_with_what_the_other_rungs_are():
    """Seen in a real ladder: of two arms, the first was taken for the reference, and the rung got that arm's size."""
    table = runs_table(seeds=1, noise=0.0)
    wide = table["parameters"] == table["parameters"].max()
    names = table.loc[~wide, "techniques"].unique()
    base = min(names, key=lambda name: sum(len(set(name.split()) ^ set(other.split())) for other in names))
    arm = next(name for name in names if "smear_gate" in name)
    first = table[wide & table["techniques"].isin([arm, base])].sort_values("techniques", key=lambda t: t != arm)
    first.loc[first["techniques"] == arm, "parameters"] += 1000  # a technique may bring parameters
    told = arms(pd.concat([first, table[~wide]]))
    assert set(told.loc[first.index, "technique"]) == {"", "smear_gate"}
    assert (told.loc[first.index, "parameters"] == table["parameters"].max()).all()


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_whole_cells_and_the_further_runs(told, width):
    out = io.StringIO()
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
