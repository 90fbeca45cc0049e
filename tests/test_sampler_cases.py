"""The sampler, statement by statement: what it asks its models, and what it makes of their answers."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import norm

from golflab.search.sampler import fitting as search_sampler
from golflab.search.sampler.candidates import POOL
from golflab.search.sampler.fitting import LATELY, MOST_FOR_SCALES, MOST_TRIALS, FittingSampler
from golflab.search.sampler.problem import Problem
from golflab.search.sampler.surrogate import Surrogate
from tests.samplers import SWITCHES, WIDE, params_of, random_trials, trial_of


class Dice:
    """Random numbers, of which a test chooses the single ones."""

    def __init__(self, *numbers, uniform=0.0):
        self.numbers, self.given, self.between, self.rng = list(numbers), uniform, [], np.random.default_rng(0)

    def random(self, *size):
        return self.rng.random(*size) if size else self.numbers.pop(0)

    def uniform(self, low, high):
        self.between.append((low, high))
        return self.given

    def __getattr__(self, name):
        return getattr(self.rng, name)


class Model:
    """A surrogate of which every function drawn is the sum of the features."""

    spread = 2.0

    def __init__(self, skill):
        self.explained, self.believed, self.boldness = skill, [], []

    def skill(self):
        return self.explained

    def believing(self, features):
        self.believed.append(len(features))
        return self

    def draw(self, rng, boldness):
        self.boldness.append(boldness)
        return lambda features: features.sum(axis=1).astype(float)


def promising(skill, dice, trials=None, twins=None, pending=0, sampler=None, staying=None):
    """What `_promising` makes of a model with this skill; and the model, the sampler and the pools it was offered."""
    sampler, model, pools = sampler or FittingSampler(Problem(SWITCHES)), Model(skill), []
    sampler._model = lambda rows, values, rng: model
    fitting = sampler._size.fitting
    sampler._size.fitting = lambda rows: pools.append(rows) or fitting(rows)
    if staying is not None:
        sampler._staying = lambda told, rows, values: staying
    told = trials or random_trials(10)
    values = np.array([t.value if t.value is not None else -9.0 for t in told])
    none = np.zeros((0, sampler._encoding.columns))
    waiting = np.zeros((pending, sampler._encoding.columns))
    return sampler._promising(told, values, waiting, none if twins is None else twins, dice), model, sampler, pools


# ---------------------------------------------------------------------- what the model says


@pytest.mark.parametrize(
    ("skill", "dice", "source"),
    [(0.0, 0.49, "density"), (0.0, 0.51, "posterior"), (-3.0, 0.51, "posterior"), (-3.0, 0.49, "density"),
     (0.5, 0.12, "density"), (0.5, 0.13, "posterior"), (1.0, 0.0, "posterior")],
)  # fmt: skip
def test_the_densities_have_their_turn_as_often_as_the_model_predicts_badly(skill, dice, source):
    assert source in promising(skill, Dice(dice))[0]


@pytest.mark.parametrize(("trials", "boldness"), [(10, 0.4), (70, 1.0), (90, 1.0)])
def test_functions_are_drawn_more_boldly_with_every_trial(trials, boldness):
    assert promising(1.0, Dice(0.5), random_trials(trials))[1].boldness == [pytest.approx(boldness)]


def test_running_trials_are_believed():
    assert promising(1.0, Dice(0.5), pending=3)[1].believed == [3]


@pytest.mark.parametrize("skill", [0.75, 1.0, -0.25])
def test_what_a_row_promises_is_its_expected_improvement_over_the_best_trial(skill):
    found, _, sampler, _ = promising(skill, Dice(0.99))
    rows, promises = found["posterior"]
    value = lambda rows: sampler._encoding.features(rows).sum(axis=1).astype(float)
    best = value(sampler._memory.rows(random_trials(10))).min()
    error, gains = 2.0 * math.sqrt(max(1 - skill, 1e-12)), best - value(rows)
    expected = gains * norm.cdf(gains / error) + error * norm.pdf(gains / error)
    assert promises == pytest.approx(np.maximum(expected, 1e-12), rel=1e-6)
    assert (np.diff(gains) <= 0).all()
    assert gains[0] > 0


def test_variants_are_kept_where_they_promise_more_than_everything_tried():
    """The best trial has two of eight switches on."""
    trials = [trial_of(0, params_of("s0", "s1"), 1.0), trial_of(1, params_of("s0", "s1", "s2"), 2.0)]
    twins = np.zeros((3, 8))
    twins[0, :2], twins[1, 0], twins[2, :3] = 1, 1, 1
    rows, promises = promising(1.0, Dice(0.5), trials, twins)[0]["variant"]
    assert np.array_equal(rows, twins[1:2])
    assert promises == pytest.approx([2.0])
    assert len(promising(1.0, Dice(0.5), trials)[0]["variant"][0]) == 0


def test_candidates_are_drawn_from_densities_and_from_everywhere_and_join_the_best_complete_trials():
    trials = random_trials(20)
    trials[3] = trial_of(3, trials[3].params, state=TrialState.PRUNED)  # its value is below all others
    _, _, sampler, pools = promising(1.0, Dice(0.5), trials)
    order = sorted((i for i in range(20) if i != 3), key=lambda i: trials[i].value)
    pool = next(
        rows
        for rows in pools
        if len(rows) > POOL + 16 and np.array_equal(rows[-16:], sampler._memory.rows([trials[i] for i in order[:16]]))
    )
    assert len(pool) == 2 * POOL + 16


# ---------------------------------------------------------------------- near the best


@pytest.mark.parametrize(("dice", "near"), [(0.39, True), (0.41, False)])
def test_proposals_stay_near_the_best_less_often_while_many_trials_run(monkeypatch, dice, near):
    """0.8 of the time, times 6 finished over 6 + 2 × 3."""
    sampler, calls = FittingSampler(Problem(SWITCHES, starts=[params_of()])), []
    honest = sampler._candidates.mutants
    sampler._candidates.mutants = lambda *told: calls.append(told[:3]) or honest(*told)
    trials, random = random_trials(6), Dice(dice, 0.99, uniform=math.log(2.5))
    trials[0] = trial_of(0, trials[0].params, state=TrialState.PRUNED)
    found, *_ = promising(0.0, random, trials, pending=3, sampler=sampler, staying=0.8)
    assert "posterior" in found
    assert bool(calls) == near
    if near:
        centre, radius, others = calls[0]
        best = sampler._memory.rows(sorted(trials[1:], key=lambda t: t.value)[:3])
        assert radius == 2
        assert np.array_equal(centre, best[0])
        assert np.array_equal(others, best)
        assert random.between == [(0.0, math.log(2.0))]
        assert random.numbers == [0.99]  # the densities had no turn
        assert (sampler._encoding.distance(found["posterior"][0], centre) <= 2).all()


def test_how_far_near_is_grows_with_the_space_and_two_trials_are_enough():
    sampler = FittingSampler(Problem(WIDE, starts=[params_of(space=WIDE)]))
    seen, honest = [], sampler._candidates.mutants
    sampler._candidates.mutants = lambda *told: seen.append(told[1:3]) or honest(*told)
    random = Dice(0.0, uniform=0.0)
    promising(0.0, random, random_trials(2, WIDE), sampler=sampler, staying=1.0)
    assert random.between == [(0.0, math.log(10.0))]
    assert (seen[0][0], len(seen[0][1])) == (1, 2)
    assert "posterior" in promising(1.0, Dice(0.5), random_trials(4), staying=1.0)[0]  # without starts it never does


def test_the_share_that_stays_near_follows_from_what_was_tried_far_away():
    space, start = SWITCHES, params_of()
    far = params_of("s0", "s1", "s2")
    trials = [
        trial_of(0, start, 1.0),
        trial_of(1, params_of("s7"), 3.0),  # the other start
        trial_of(2, params_of("s0", "s1"), 9.0),  # two decisions away are near
        trial_of(3, far, 2.0),
        trial_of(4, far | {"s3": True}, 1.0),  # as good as the start is not worse
        trial_of(5, far | {"s4": True}, 5.0),
    ]
    values = np.array([t.value for t in trials])

    def staying(starts, some=trials):
        sampler = FittingSampler(Problem(space, starts=starts))
        return sampler._staying(some, sampler._memory.rows(some), np.array([t.value for t in some]))

    assert values.argmin() == 0
    assert staying([start, params_of("s7")]) == pytest.approx((2 + 0.5) / (3 + 1))
    assert staying([params_of("s6")]) == 0.0
    assert staying([start], trials[:2]) == 0.5
    many = [trials[0], *(trial_of(i, far, 0.9 if i > 10 else 2.0) for i in range(1, LATELY + 11))]
    many[0] = trial_of(0, start, 0.0)
    assert staying([start], many) == pytest.approx((LATELY + 0.5) / (LATELY + 1))
    mixed = [trial_of(0, start, 0.95), trial_of(99, params_of("s7"), 0.0), *many[1:]]
    assert staying([start], mixed) == pytest.approx(0.5 / (LATELY + 1))  # the ten worse ones are long ago


# ---------------------------------------------------------------------- what models are built on


def test_a_model_is_built_on_the_best_half_and_some_of_the_others():
    rng, values = np.random.default_rng(0), np.random.default_rng(1).permutation(24).astype(float)
    rows = values[:, None] * np.ones(3)
    assert search_sampler._thinned(rows, values, 24, rng)[0] is rows
    kept, theirs = search_sampler._thinned(rows, values, 21, rng)
    assert np.array_equal(kept[:, 0], theirs)
    assert theirs[:10].tolist() == list(range(10))
    assert len(set(theirs[10:])) == 11
    assert theirs[10:].min() >= 10


@pytest.mark.parametrize("count", [MOST_FOR_SCALES, MOST_FOR_SCALES + 1, MOST_TRIALS + 1])
def test_variances_are_chosen_on_some_trials_and_used_for_all(monkeypatch, count):
    fits, given = [], []

    class Spy:
        @staticmethod
        def fit(x, y):
            fits.append(len(y))
            return Surrogate.given(x, y, np.full(5, -1.0), np.ones(x.shape[1]))

        @staticmethod
        def given(x, y, scales, relevance):
            given.append((len(y), y.max(), scales.tolist()))
            return "given"

    monkeypatch.setattr(search_sampler, "Surrogate", Spy)
    sampler, rng = FittingSampler(Problem(SWITCHES)), np.random.default_rng(0)
    values = np.append(np.linspace(2.0, 2.5, count - 1), 90.0)  # one went wrong
    model = sampler._model(sampler._encoding.draw(count, rng), values, rng)
    assert fits == [min(count, MOST_FOR_SCALES)]
    if count <= MOST_FOR_SCALES:
        assert given == []
        assert len(model.y) == count
    else:
        assert given[0][0] == min(count, MOST_TRIALS)
        assert given[0][1] < 3.0
        assert given[0][2] == [-1.0] * 5


def test_the_row_least_is_known_about_comes_first():
    sampler, rng = FittingSampler(Problem(SWITCHES)), np.random.default_rng(0)
    known, pool = sampler._encoding.draw(5, rng), sampler._encoding.draw(20, rng)
    rows, promises = sampler._different(known, pool)
    x, z = (sampler._encoding.features(r).astype(float) for r in (rows, known))
    covariance = np.linalg.inv(z.T @ z + 0.5 * np.eye(8))
    assert promises == pytest.approx([row @ covariance @ row for row in x], rel=1e-5)
    assert (np.diff(promises) <= 0).all()
    for some, others in ((known[:0], pool), (known, pool[:0])):
        rows, promises = sampler._different(some, others)
        assert rows is others
        assert promises.tolist() == [1.0] * len(others)


def test_a_trial_is_encoded_anew_only_when_its_parameters_are_others():
    asked = []
    sampler = FittingSampler(Problem(SWITCHES, overrun=lambda params: asked.append(params) or 0.5))
    trial = trial_of(0, params_of("s0"))
    asked.clear()
    assert [sampler._memory.overrun(trial) for _ in range(2)] == [0.5, 0.5]
    assert len(asked) == 1
    assert sampler._memory.of(trial) is sampler._memory.of(trial)
    other = sampler._memory.of(trial_of(0, params_of("s1")))
    assert other.row.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert sampler._memory.rows([]).shape == (0, 8)


# ---------------------------------------------------------------------- as Optuna sees it


def test_what_fits_by_its_size_alone_has_a_chance_of_one_or_none():
    for overrun, chance in ((0.5, 1.0), (1.0, 1.0), (1.001, 0.0)):
        assert (
            FittingSampler(Problem(SWITCHES, overrun=lambda params, overrun=overrun: overrun)).problem.chance_of({}) == chance
        )
    assert FittingSampler(Problem(SWITCHES)).problem.chance_of({}) == 1.0


def test_the_first_trials_tell_apart_and_the_next_ones_are_modelled():
    sampler, trials, sources = FittingSampler(Problem(SWITCHES)), [], []
    for number in range(6):
        found = sampler.propose(trials, number)
        sources.append(found.source)
        state = TrialState.FAIL if number == 2 else None
        trials.append(trial_of(number, found.params, None if state else float(number), state))
    assert sources[:5] == ["design"] * 5  # one of them failed
    assert sources[5] in ("posterior", "density")


def test_a_study_that_maximises_is_one_that_minimises_turned_round():
    found = []
    for direction, sign in (("minimize", 1.0), ("maximize", -1.0)):
        study = optuna.create_study(direction=direction)
        for trial in random_trials(9):
            study.add_trial(create_trial(value=sign * trial.value, params=trial.params, distributions=SWITCHES))
        running = study.ask()
        found.append(FittingSampler(Problem(SWITCHES)).sample_relative(study, study.trials[running.number], SWITCHES))
    assert found[0] == found[1] == FittingSampler(Problem(SWITCHES)).propose(random_trials(9), 9).params
    assert FittingSampler(Problem(SWITCHES)).infer_relative_search_space(study, study.trials[0]) == SWITCHES


def test_where_nothing_fits_an_ordinary_study_gets_a_random_combination():
    study = optuna.create_study()
    number = study.ask().number
    trial = study.trials[number]
    sampler = FittingSampler(Problem(SWITCHES, overrun=lambda params: 2.0))
    assert sampler.propose([], 0).params is None
    found = sampler.sample_relative(study, trial, {"s3": SWITCHES["s3"]})
    assert set(found) == {"s3"}
    assert type(found["s3"]) is bool


def test_a_parameter_outside_the_space_is_drawn_by_seed_number_and_name():
    study, rule = optuna.create_study(), FloatDistribution(2.0, 3.0)

    def drawn(name="x", seed=0, number=0):
        trial = trial_of(number, {})
        return FittingSampler(Problem(SWITCHES), seed=seed).sample_independent(study, trial, name, rule)

    values = [drawn(), drawn("y"), drawn(seed=1), drawn(number=1)]
    assert len(set(values)) == 4
    assert all(2.0 <= value <= 3.0 for value in values)
    assert drawn() == values[0]
    assert FittingSampler(Problem(SWITCHES))._seed == 0


def test_the_models_hear_of_what_was_tried_with_the_sign_that_was_asked_for(monkeypatch):
    sampler, heard = FittingSampler(Problem(SWITCHES, overrun=lambda params: 0.5 + 0.1 * params["s0"])), {}
    trials = random_trials(LATELY + 5)
    for owner, name in ((sampler._variants, "candidates"), (sampler, "_promising")):
        honest = getattr(owner, name)

        def spied(*arguments, name=name, honest=honest):
            heard[name] = next(a for a in arguments if isinstance(a, np.ndarray))
            return honest(*arguments)

        monkeypatch.setattr(owner, name, spied)
    know = sampler._size.know
    monkeypatch.setattr(sampler._size, "know", lambda *arguments: heard.setdefault("know", arguments) and know(*arguments))
    sampler.propose(trials, len(trials), -1.0)
    values = [-t.value for t in trials]
    assert heard["candidates"].tolist() == heard["_promising"].tolist() == values
    rows, overruns = heard["know"]
    assert np.array_equal(rows, sampler._memory.rows(trials[-LATELY:]))
    assert overruns == [0.5 + 0.1 * t.params["s0"] for t in trials[-LATELY:]]


def test_no_more_chances_are_asked_for_than_it_takes():
    """Sixty-four of what the design ranks and four times as many at random; one where the first is as good as any."""
    asked = []
    space = WIDE | {"start": CategoricalDistribution((False, True))}
    for chance, calls in ((0.0, (1 + 4) * 64), (1.0, 1)):
        asked.clear()
        found = FittingSampler(Problem(space, chance=lambda params, chance=chance: asked.append(1) or chance)).propose([], 0)
        assert len(asked) == calls
        assert (found.source, found.dropped) == (("design", 0) if chance else ("none", calls))


def test_one_refusal_does_not_end_the_search_where_no_size_is_known():
    """Half of everything fits, which only the chance tells: models go on proposing."""
    sampler, trials, sources = FittingSampler(Problem(SWITCHES, chance=lambda params: float(params["s0"]))), [], []
    for number in range(16):
        found = sampler.propose(trials, number)
        sources.append(found.source)
        trials.append(trial_of(number, found.params, float(sum(found.params.values()))))
    assert set(sources) <= {"design", "posterior", "density"}


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_where_the_sources_are_empty_what_fits_is_found_at_random(chance):
    asked = []
    sampler = FittingSampler(Problem(SWITCHES, chance=lambda params: asked.append(params) or chance))
    sampler._candidates.fitting = lambda rng: np.zeros((0, 8))
    found = sampler.propose([], 0)
    assert found.source == ("random" if chance else "none")
    assert found.params == (asked[0] if chance else None)
    assert (len(asked) == 1) == bool(chance)
    assert all(type(value) is bool for params in asked for value in params.values())
