"""Plans: which recipes, how many trainings, and how small an effect they could show."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from golflab.analysis.inference.significance import detectable as reference
from golflab.model.recipe import Recipe
from golflab.model.technique import catalogue, find
from golflab.search.design.ablate import plan
from golflab.search.design.power import detectable
from golflab.search.ledger.problem import training_key


def preset(*names, **changes):
    return Recipe(name="mine").with_(*(find(n)() for n in names), **changes)


def small(recipe):
    """A forecast that lets everything through."""
    return {"low": 1.0, "mid": 1.0, "high": 1.0}


SIX = ("smear_gate", "unet_skips", "ln_scale", "ema", "int6_rows", "zstd_codec")


def test_leave_one_out_is_the_preset_and_each_without_one():
    base = preset(*SIX)
    made = plan(base, "leave-one-out", seeds=2, forecaster=small)
    assert len(made.recipes) == 14
    assert made.recipes[0] == base
    assert {frozenset(t.name for t in base.techniques) - frozenset(t.name for t in r.techniques) for r in made.recipes} == {
        frozenset(),
        *(frozenset({n}) for n in SIX),
    }
    assert {r.seed for r in made.recipes} == {0, 1}


@pytest.mark.parametrize(("base", "design"), [(preset("caseops", "ema"), "leave-one-out"), (preset("ema"), "add-one-in")])
def test_what_rewrites_text_is_compared_with_text_of_the_same_bytes(base, design):
    """Plain text has other bytes, so that bits per byte would be no comparison."""
    made = plan(base, design, techniques=[find("caseops")(), find("ema")()], forecaster=small)
    assert {t.name for r in made.recipes for t in r.techniques_in("text")} == {"caseops", "verbatim"}
    assert all(r.technique_in("text") is not None for r in made.recipes)


def test_trainings_count_only_what_differs_before_the_export():
    base = preset(*SIX)
    made = plan(base, "leave-one-out", forecaster=small)
    later = [n for n in SIX if find(n).stage() in ("quantise", "pack", "evaluate") or find(n).slot == "average"]
    assert later
    assert made.trainings == len({training_key(r) for r in made.recipes})
    assert made.trainings <= len(made.recipes) - len(later)


def test_a_screen_is_folded_where_everything_is_possible():
    made = plan(preset(*SIX), "screen", forecaster=small)
    assert made.design == "folded Plackett-Burman"
    assert len(made.recipes) == 16
    rows = np.array([[1.0 if n in {t.name for t in r.techniques} else -1.0 for n in made.techniques] for r in made.recipes])
    assert np.array_equal(rows.T @ rows, 16 * np.eye(6))
    assert made.se == pytest.approx(made.noise * 2 / 4)
    assert made.smallest == pytest.approx(made.se * reference(16 - 7), rel=1e-6)


def test_a_screen_stays_under_the_limit():
    def sized(recipe):
        mid = 100.0 * len(recipe.techniques)
        return {"low": mid, "mid": mid, "high": mid}

    made = plan(preset(*SIX, limit=400), "screen", forecaster=sized)
    assert made.design == "D-optimal"
    assert all(len(r.techniques) <= 4 for r in made.recipes)
    assert any("not possible" in note for note in made.notes)
    one = plan(preset(*SIX, limit=500), "factorial", forecaster=sized)
    assert len(one.recipes) == 63
    assert any("left out" in note for note in one.notes)


def test_a_reference_that_does_not_fit_is_refused_or_the_limit_binds_nothing():
    def sized(recipe):
        mid = 100.0 * len(recipe.techniques)
        return {"low": mid, "mid": mid, "high": mid}

    for design in ("leave-one-out", "pairs"):
        with pytest.raises(ValueError, match="600 bytes forecast, 500 allowed"):
            plan(preset(*SIX, limit=500), design, forecaster=sized)
    free = plan(preset(*SIX, limit=500), "leave-one-out", forecaster=sized, binding=False)
    assert len(free.recipes) == 7
    assert any("stops nothing here" in note and "forecast at 600" in note for note in free.notes)


def test_iso_size_gives_the_bytes_back():
    def sized(recipe):
        mid = 100.0 * len(recipe.techniques) + recipe.shape.hidden
        return {"low": mid, "mid": mid, "high": mid}

    base = preset(*SIX)
    made = plan(base, "leave-one-out", iso_size=True, forecaster=sized)
    assert {int(sized(r)["mid"]) for r in made.recipes} == {int(sized(base)["mid"])}
    assert len({r.shape.hidden for r in made.recipes}) == 2


def test_a_plan_can_be_read_and_stored():
    made = plan(preset(*SIX), "add-one-in", forecaster=small, seconds_per_training=60.0)
    body = json.loads(json.dumps(made.json(), allow_nan=False))
    assert body["runs"] == len(body["recipes"]) == 7
    assert body["smallest"] is None  # seven runs, seven coefficients: no error can be given
    stream = io.StringIO()
    made.text(Console(file=stream, width=120))
    assert "add --seeds" in stream.getvalue()
    assert "min on one worker" in stream.getvalue()


def test_slot_mates_are_never_on_together():
    base = preset("smear_gate", "ln_scale", "int6_rows")
    made = plan(
        base, "screen", techniques=["smear_gate", "ln_scale", "int6_rows", find("int5_rows")()], forecaster=small, runs=16
    )
    names = [{t.name for t in r.techniques} for r in made.recipes]
    assert not any({"int5_rows", "int6_rows"} <= n for n in names)
    assert any("int5_rows" in n for n in names)


def test_existing_runs_are_complemented():
    base = preset(*SIX)
    first = plan(base, "leave-one-out", forecaster=small)
    more = plan(base, "d-optimal", existing=first.recipes, runs=8, forecaster=small)
    assert len(more.recipes) == 8


@pytest.mark.parametrize("df", [1, 3, 40])
def test_detectable_is_the_same_on_both_sides_of_the_arrow(df):
    assert detectable(df) == pytest.approx(reference(df), rel=1e-4)


def test_mistakes_are_named():
    base = preset(*SIX)
    with pytest.raises(ValueError, match="unknown design 'nonsense'"):
        plan(base, "nonsense", forecaster=small)
    with pytest.raises(ValueError, match="not switched on"):
        plan(base, techniques=["xsa"], forecaster=small)
    with pytest.raises(ValueError, match="at least two"):
        plan(Recipe(name="bare"), forecaster=small)
    with pytest.raises(ValueError, match="fewer than two"):
        plan(preset(*SIX, limit=10), "leave-one-out", forecaster=lambda r: {"mid": 99.0})
    assert "smear_gate" in catalogue()
