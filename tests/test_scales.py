"""Scales and durations: every preset builds at every scale, and byte limits bind there as at full scale."""

import pytest

from benchmarks.limits import limit, weights
from benchmarks.rates import SETTINGS, Job, jobs
from benchmarks.rates import recipe as sweep_recipe
from golflab.model.network.blueprint import blueprint
from golflab.model.recipe import counted_code
from golflab.model.submission.script import code_bytes, exact_code_bytes, script
from golflab.model.techniques.train.muon import Muon
from golflab.model.techniques.train.muon_eq_r import MuonEqR
from golflab.spaces.limits import LIMITS
from golflab.spaces.presets import BASELINE, PRESETS, preset
from golflab.spaces.scales import DURATIONS, SCALES, at_duration, at_scale, paced, parameters_of, without
from golflab.spaces.space import Space

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
    with pytest.raises(ValueError, match="duration: tokens_per_parameter"):
        at_duration(preset("baseline", "nano"), duration)


def test_the_sweep_of_rates_changes_one_thing_at_a_time():
    todo = list(jobs(["seed_849"], ["nano"], [5.0], 1, list(SETTINGS)))
    own, *others = [sweep_recipe(job) for job in todo]
    for job, made in zip(todo[1:], others, strict=True):
        mine = {t.slot: t for t in made.all_techniques()}
        changed = {t.slot for t in own.all_techniques() if mine.get(t.slot) != t}
        wanted = {"muon": "matrix_update", "adam": "groups", "warmdown": "schedule", "average": "average"}
        if job.setting == "rule" or (job.setting == "root" and job.value > 1):
            assert changed == {"matrix_update", "schedule"}
        else:
            assert changed == {wanted.get(job.setting, "matrix_update")}
    assert len({made.hash for made in (own, *others)}) == len(todo)
    assert sweep_recipe(Job("baseline", "nano", 5.0, 0, "average", 0.0)) is None  # it has no average to leave out


@pytest.mark.parametrize(("steps", "rate", "horizon"), [(144, 0.0542, 6), (400, 0.0325, 10), (2_500, 0.025, 25)])
def test_the_optimiser_suits_the_steps(steps, rate, horizon):
    published = preset("seed_849", "nano").with_(tokens=steps * 2_048)
    recipe = paced(published)
    update, before = recipe.technique_in("matrix_update"), published.technique_in("matrix_update")
    assert update.lr == pytest.approx(rate)
    assert 1 / (1 - update.momentum) == pytest.approx(horizon, rel=0.01)
    assert update.momentum_start == min(before.momentum_start, update.momentum)
    assert recipe.technique_in("schedule").fraction == 0.5 < published.technique_in("schedule").fraction
    assert paced(recipe) == recipe
    left = recipe.with_(*(published.technique_in(slot) for slot in ("matrix_update", "schedule")))
    assert left.hash == published.hash  # nothing else differs


def test_the_challenge_keeps_its_optimiser():
    assert paced(preset("seed_849", "full")) == preset("seed_849", "full")  # bounded by seconds
    challenge = preset("seed_849", "full").with_(tokens=14_000 * 524_288, seconds=None)
    assert paced(challenge) == challenge
    long = preset("seed_1499", "nano").with_(tokens=3_000 * 2_048)
    assert paced(long).technique_in("schedule") == long.technique_in("schedule")


def test_what_replaces_a_technique_suits_the_steps_as_well():
    own = preset("seed_849", "nano")
    assert without(own, "muon").technique_in("matrix_update") == Muon()  # as published, like the preset
    bare = without(paced(own), "muon")
    assert bare == paced(bare)
    assert bare.technique_in("matrix_update").momentum == paced(own).technique_in("matrix_update").momentum
    space = Space("mine", paced(preset("baseline", "nano")), techniques=("muon_eq_r",))
    assert space.recipe({"muon_eq_r": True}).technique_in("matrix_update").momentum == pytest.approx(0.833)
    space = Space("mine", preset("baseline", "nano"), techniques=("muon_eq_r",))
    assert space.recipe({"muon_eq_r": True}).technique_in("matrix_update") == MuonEqR()
