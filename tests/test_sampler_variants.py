"""The sampler's variants: trials that reuse a finished training, and which of its parameters they may change."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from golflab.search.sampler.candidates import POOL
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.problem import Problem
from golflab.search.sampler.variants import BEST_TRAININGS
from tests.samplers import SWITCHES, WIDE, params_of, trial_of

BITS = {"bits": CategoricalDistribution(("a", "b", "c")), "width": IntDistribution(2, 6), "rate": FloatDistribution(0, 1)}
LATER = ("bits", "width", "rate", "s7")


def variants(training, later=LATER, count=2, space=None):
    return FittingSampler(Problem(space or SWITCHES | BITS, training=training, after_training=later), variants=count)


def test_variants_need_a_training_to_share_and_parameters_that_act_later():
    assert variants(lambda params: 1)._variants.count == 2
    assert variants(None)._variants.count == 0
    assert variants(lambda params: 1, later=("elsewhere",))._variants.count == 0
    assert FittingSampler(Problem(SWITCHES | BITS, training=lambda params: 1, after_training=LATER))._variants.count == 0


@pytest.mark.parametrize(
    ("params", "free"),
    [
        ({"s0": False, "width": 3}, {"bits", "rate", "s7"}),
        ({"s0": False, "width": 5}, {"bits", "rate", "s7"}),
        ({"s0": True, "width": 3}, {"bits", "rate"}),
    ],
)
def test_a_later_parameter_that_a_training_reads_is_not_free(params, free):
    """The training reads whether the width is over four and, where the first switch is on, the last switch."""
    asked = []

    def training(params):
        asked.append(params)
        return params["s0"] and params["s7"], params["width"] > 4, params["s1"]

    sampler = variants(training)
    whole = params_of() | {"bits": "b", "width": 2, "rate": 0.3} | params
    trunk = sampler._memory.of(trial_of(0, whole, 1.0, space=SWITCHES | BITS))
    found = sampler._variants.free_columns(trunk)
    assert {name for name, flag in zip(sampler._encoding.names, found, strict=True) if flag} == free
    asked.clear()
    assert sampler._variants.free_columns(trunk) is found
    assert asked == []


@pytest.mark.parametrize(
    ("trainings", "finished", "full"),
    [("a", 1, ""), ("aa", 1, ""), ("aaa", 1, "a"), ("aab", 1, ""), ("aabb", 1, "ab"), ("aabb", 2, ""), ("aaabbb", 2, "ab"),
     ("", 0, "")],
)  # fmt: skip
def test_a_training_is_full_when_all_have_as_many_variants_as_were_asked_for(trainings, finished, full):
    sampler = variants(lambda params: "a" if params["s0"] else "b", later=("s7",), space=SWITCHES)
    trials = [trial_of(i, params_of("s0") if name == "a" else params_of(), 1.0) for i, name in enumerate(trainings)]
    trials.append(trial_of(len(trials), {}, state=TrialState.FAIL))  # it never had parameters
    assert sampler._variants.full(trials, finished) == set(full)
    assert FittingSampler(Problem(SWITCHES))._variants.full(trials, finished) == set()


def test_variants_change_what_acts_later_of_the_best_trainings():
    later = [f"s{i}" for i in range(20, 40)]
    early = [name for name in WIDE if name not in later]
    sampler = variants(lambda params: tuple(params[name] for name in early), later, count=9, space=WIDE)
    trials = [trial_of(i, params_of(f"s{i}", "s39", space=WIDE), float(10 - i), space=WIDE) for i in range(BEST_TRAININGS + 2)]
    trials.append(trial_of(99, trials[-1].params | {"s38": True}, 30.0, space=WIDE))  # a worse variant of the best
    trials.append(trial_of(98, params_of("s15", space=WIDE), 0.0, TrialState.PRUNED, WIDE))  # no training to reuse
    values = np.array([0.0 if t.value is None else t.value for t in trials])
    trained, rows = sampler._variants.candidates(trials, trials, values, np.random.default_rng(0))
    assert len(trained) == BEST_TRAININGS + 2
    assert rows.shape == (2 * POOL, 40)
    trunks = sampler._memory.rows(trials[BEST_TRAININGS + 1 : 1 : -1])
    changed = []
    for i, row in enumerate(rows):
        trunk = trunks[i % BEST_TRAININGS]
        assert np.array_equal(row[:20], trunk[:20])
        changed.append((row != trunk).sum())
    # Half of them redraw one parameter or two of twenty, half of them ten; half of what is redrawn is as before.
    assert np.mean(changed) == pytest.approx((0.75 + 5) / 2, abs=0.5)
    assert np.mean(np.array(changed) <= 2) == pytest.approx(0.5, abs=0.1)
    assert sampler._variants.candidates([], [], np.zeros(0), np.random.default_rng(0))[1].shape == (0, 40)
    assert FittingSampler(Problem(WIDE))._variants.candidates(trials, trials, values, np.random.default_rng(0))[1].shape == (
        0,
        40,
    )
    lone = variants(lambda params: 0, later, count=1, space=WIDE)
    assert lone._variants.candidates(trials, trials, values, np.random.default_rng(0))[1].shape == (0, 40)  # full
