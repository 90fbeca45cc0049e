"""How long a run is and how its optimiser follows that, from the command line and the options to the recipe."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made import FAKE, made

from benchmarks import rates
from benchmarks.rates_tables import FILE, best_multiplier, tables
from golflab.model.technique import parse
from golflab.search.cli.run_one import recipe_of
from golflab.search.design.extend import merged, rungs_of
from golflab.search.design.ladder import Rung, Rungs, rungs
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.experiment.folder import reopen
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import asked, options_of
from golflab.spaces.presets import preset
from golflab.spaces.scales import at_duration, paced

SEED = preset("seed_849", "nano")


def test_a_search_varies_around_a_preset_that_suits_its_steps():
    assert Options(preset="seed_849", scale="nano").recipe() == paced(SEED)
    assert Options(preset="seed_849", scale="nano", published_optimizer=True).recipe() == SEED
    longer = Options(preset="seed_849", scale="nano", tokens=2_048 * 900).recipe()
    assert longer == paced(SEED.with_(tokens=2_048 * 900)) != paced(SEED)


def test_a_duration_is_by_the_preset_and_is_kept_as_tokens(tmp_path):
    options = {"preset": "seed_849", "scale": "nano", "name": "x", "runs": str(tmp_path), "duration": 20.0}
    told = asked(FAKE | options)
    assert told.recipe().schedule.tokens == told.tokens == at_duration(SEED, 20.0).schedule.tokens
    assert Options(**vars(told)).around("baseline").schedule.tokens == told.tokens  # a start is as long as the preset
    with pytest.raises(ValueError, match=r"duration=20\.0 and tokens=4096: both say how long"):
        asked(FAKE | options | {"tokens": 4_096})
    with pytest.raises(ValueError, match="duration: tokens_per_parameter"):
        asked(FAKE | options | {"duration": -1.0})


def test_an_experiment_of_before_keeps_the_optimiser_that_it_ran_with(tmp_path):
    folder = made(tmp_path, "s", trials=2, preset="seed_849", published_optimizer=True, limit=10**7)
    file = folder / "experiment.json"
    told = read_experiment(folder)
    del told["options"]["published_optimizer"], told["options"]["duration"]
    file.write_text(json.dumps(told))
    options = options_of("s", tmp_path)
    assert options.published_optimizer
    reopen(options)  # its preset and plan are what they were


def test_a_single_run_is_paced_but_for_the_knobs_that_were_named():
    assert recipe_of("seed_849", "nano") == paced(SEED)
    assert recipe_of("seed_849", "nano", published_optimizer=True) == SEED
    named = recipe_of("seed_849", "nano", ["muon:lr=0.01"])
    assert named.technique_in("matrix_update") == parse("muon:lr=0.01")
    assert recipe_of("seed_849", "nano", ["muon_eq_r"]).technique_in("matrix_update").momentum == pytest.approx(0.833)
    assert recipe_of("seed_849", "nano", ["muon_eq_r"], published_optimizer=True).technique_in("matrix_update") == parse(
        "muon_eq_r"
    )
    assert paced(bare := recipe_of("seed_849", "nano", off=["muon"])) == bare
    twenty = recipe_of("seed_849", "nano", duration=20.0, seed=3)
    assert twenty == paced(at_duration(SEED, 20.0)).with_(seed=3)
    with pytest.raises(ValueError, match="both say how long"):
        recipe_of("seed_849", "nano", duration=20.0, tokens=4_096)


def test_an_ablation_does_not_take_the_pace_for_a_technique():
    from golflab.search.design.ablate import plan

    recipe = paced(preset("baseline", "nano"))
    made = plan(recipe, "leave-one-out", techniques=("unet_skips", "softcap"))
    assert {r.technique_in("matrix_update") for r in made.recipes} == {recipe.technique_in("matrix_update")}
    assert "muon" not in plan(recipe, "leave-one-out").techniques
    assert "muon" in plan(SEED, "leave-one-out", binding=False).techniques
    assert "muon" not in plan(paced(SEED), "leave-one-out", binding=False).techniques
    other = plan(paced(preset("seed_680", "nano")), "leave-one-out", techniques=("parallel_muon", "xsa"), binding=False)
    assert [r.technique_in("matrix_update").momentum for r in other.recipes] == [pytest.approx(0.833)] * 3
    assert sum(r.technique_in("matrix_update").name == "muon" for r in other.recipes) == 1


def test_a_ladder_leaves_an_optimiser_out_under_its_name():
    found = rungs("seed_680", ["nano"], [5.0], ["parallel_muon", "muon", "xsa"])
    assert found.techniques == ("parallel_muon", "xsa")
    assert any("muon is not measured at nano: it fills its slot" in note for note in found.notes)
    again = rungs_of(found.recipes([1]))
    assert set(again.rungs[0].arms) == {"", "parallel_muon", "xsa"}
    assert paced(again.rungs[0].arms["parallel_muon"]) == again.rungs[0].arms["parallel_muon"]


def test_a_ladder_of_another_pace_gets_no_further_rungs():
    asked = rungs("seed_849", ["nano"], [5.0], ["xsa"])
    old = Rung("nano", 5.0, {"": at_duration(SEED, 5.0)})
    with pytest.raises(ValueError, match=r"by another rule.*Start another experiment with --name"):
        merged(Rungs((old,), ("xsa",)), asked)
    assert merged(asked, asked).rungs == asked.rungs


def test_the_page_has_the_tables_of_its_runs():
    page = (Path(__file__).parent.parent / "docs" / "ladder.md").read_text()
    runs = pd.read_csv(FILE)
    blocks = tables(runs).split("\n\n")
    assert len(blocks) >= 10
    assert [block for block in blocks if block != "**Rules**" and block not in page] == []
    some = [rates.Job(*row) for row in runs[list(rates.Job._fields)].iloc[::9].itertuples(index=False)]
    assert [rates.recipe(job).hash for job in some] == runs["recipe"].iloc[::9].tolist()  # they can be run again


def test_the_best_multiplier_is_where_the_differences_are_lowest():
    values = np.array([0.25, 0.5, 2.0, 4.0])
    assert best_multiplier(values, np.log(values / 1.5) ** 2 - np.log(1.5) ** 2) == pytest.approx(1.5, rel=0.01)
