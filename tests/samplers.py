"""Small spaces and trials for tests of the sampler."""

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

SWITCHES = {f"s{i}": CategoricalDistribution((False, True)) for i in range(8)}
WIDE = {f"s{i}": CategoricalDistribution((False, True)) for i in range(40)}


def params_of(*on, space=SWITCHES):
    return {name: name in on for name in space}


def trial_of(number, params, value=None, state=None, space=SWITCHES):
    state = state or (TrialState.RUNNING if value is None else TrialState.COMPLETE)
    trial = create_trial(state=state, value=value, params=params, distributions=space if params else {})
    trial.number = number
    return trial


def random_trials(count, space=SWITCHES, seed=0):
    rng = np.random.default_rng(seed)
    flags = rng.random((count, len(space))) < 0.5
    return [
        trial_of(i, dict(zip(space, map(bool, row), strict=True)), float(i % 7), space=space) for i, row in enumerate(flags)
    ]
