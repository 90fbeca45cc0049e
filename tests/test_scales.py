"""Scales and durations: every preset builds at every scale, and byte limits bind there as at full scale."""

import pytest

from benchmarks.limits import limit, weights
from benchmarks.rates import SETTINGS
from benchmarks.rates import recipe as sweep_recipe
from golflab.model.network.blueprint import blueprint
from golflab.model.recipe import counted_code
from golflab.model.submission.script import code_bytes, exact_code_bytes, script
from golflab.spaces.limits import LIMITS
from golflab.spaces.presets import BASELINE, PRESETS, preset
from golflab.spaces.scales import DURATIONS, SCALES, at_duration, at_scale, paced, parameters_of

SMALL = list(SCALES)[:-1]


@pytest.mark.parametrize("scale", list(SCALES))
@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_builds_at_every_scale(name, scale):
    recipe = preset(name, scale).check()
    assert blueprint(recipe)
    assert recipe.shape.context == SCALES[scale].shape.context or scale == "full"


def test_a_larger_scale_has_more_parameters():
    for name in PRESETS:
        counts = [parameters_of(preset(name, scale)) for scale in SCALES]
        assert counts == sorted(set(counts)), name


def test_every_preset_has_its_own_limits():
    """If a preset is missing: put what ``python -m benchmarks.limits`` prints into spaces/limits.py."""
    assert {name: set(by_scale) for name, by_scale in LIMITS.items()} == {name: set(SMALL) for name in PRESETS}


@pytest.mark.parametrize(("name", "scale"), [("baseline", "nano"), ("seed_849", "proxy"), ("seed_295", "proxy")])
def test_a_limit_is_filled_as_at_full_scale(name, scale):
    full, small = preset(name, "full"), preset(name, scale)
    assert weights(small) / small.limit == pytest.approx(weights(full) / full.limit, rel=0.01)
    assert LIMITS[name][scale] == limit(name, scale)
    assert code_bytes(small) / small.limit == pytest.approx(code_bytes(full) / full.limit, rel=0.05)


def test_a_recipe_without_a_name_keeps_its_bytes_per_parameter():
    own = BASELINE.with_(name="", layers=12)
    small = at_scale(own, "nano")
    assert small.limit == round(16_000_000 * parameters_of(small) / parameters_of(own))
    assert at_scale(BASELINE.with_(limit=8_000_000), "proxy").limit < LIMITS["baseline"]["proxy"] * 0.6


def test_the_script_counts_by_the_limits_share():
    full, small = preset("baseline", "full"), preset("baseline", "nano")
    assert exact_code_bytes(full) == len(script(full))
    assert exact_code_bytes(small) == round(len(script(small)) * small.limit / 16_000_000)
    assert counted_code(full.with_(limit=10**9), 40_000) == 40_000


def test_a_duration_is_tokens_per_parameter_in_whole_batches():
    for duration in DURATIONS:
        recipe = at_duration(preset("baseline", "nano"), duration)
        assert recipe.schedule.tokens % recipe.schedule.batch_tokens == 0
        assert recipe.schedule.tokens / parameters_of(recipe) == pytest.approx(duration, rel=0.01)
    full = at_duration(preset("baseline", "full"), 20)
    assert full.schedule.seconds is None
    assert full.schedule.tokens == pytest.approx(20 * parameters_of(full), rel=0.01)


@pytest.mark.parametrize("duration", [0.0, -1.0, float("nan"), float("inf"), 0.001])
def test_a_duration_that_cannot_be_is_refused(duration):
    with pytest.raises(ValueError, match="tokens_per_parameter"):
        at_duration(preset("baseline", "nano"), duration)


def test_the_sweep_of_rates_changes_one_thing_at_a_time():
    own = sweep_recipe("nano", 5.0, SETTINGS[0], 0)
    assert own.hash == preset("baseline", "nano").with_(tokens=own.schedule.tokens).hash
    assert len({sweep_recipe("nano", 5.0, setting, 0).hash for setting in SETTINGS}) == len(SETTINGS)


def test_momentum_averages_over_the_root_of_the_steps_at_most():
    short, long = (at_duration(preset("seed_849", "nano"), duration) for duration in (5.0, 80.0))
    for recipe in (short, long):
        update = recipe.technique_in("matrix_update")
        assert update.momentum == pytest.approx(1 - recipe.schedule.steps**-0.5, abs=1e-3)
        assert update.momentum_start <= update.momentum
        assert update.lr == preset("seed_849", "nano").technique_in("matrix_update").lr
    assert paced(preset("seed_849", "full")) == preset("seed_849", "full")  # bounded by seconds: it is the challenge's own
    challenge = preset("seed_849", "full").with_(tokens=14_000 * 786_432, seconds=None)
    assert paced(challenge) == challenge
    baseline = preset("baseline", "nano").with_(tokens=2_048 * 500)
    assert paced(baseline) == baseline  # 0.95 is a horizon of 20 steps
