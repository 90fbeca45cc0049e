"""The sampler: everything it proposes fits, nothing twice, the same again after a resume, and better than chance."""

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from threadpoolctl import threadpool_info

from golflab.search.sampler import fitting as search_sampler
from golflab.search.sampler.encoding import HATS, PEAK, Encoding
from golflab.search.sampler.fitting import FittingSampler
from golflab.search.sampler.memory import fence, scored
from golflab.search.sampler.problem import Problem
from golflab.search.sampler.sizes import Sizes
from golflab.search.sampler.surrogate import Surrogate
from golflab.search.sampler.tpe import Parzen

SPACE = {f"t{i}": CategoricalDistribution((False, True)) for i in range(10)}
SPACE |= {"bits": CategoricalDistribution(("int5", "int6", "int8")), "width": IntDistribution(2, 6)}
SPACE |= {"rate": FloatDistribution(1e-3, 1, log=True)}
A = {"a": FloatDistribution(0, 10)}
OWNERS = {"rate": ("t0", True)}
EFFECTS = np.array([-8, -4, 3, -2, 5, 0, 0, 1, -3, 0])
COSTS = np.array([30, 5, 5, 20, 1, 10, 10, 1, 10, 5])


def size(params):
    return (60 + 10 * params["width"] + sum(c for i, c in enumerate(COSTS) if params[f"t{i}"])) / 130


def value(params):
    return sum(e for i, e in enumerate(EFFECTS) if params[f"t{i}"]) - 2 * params["width"] + 3 * (params["t1"] and params["t3"])


def finished(params, number, state=TrialState.COMPLETE):
    told = value(params) if state == TrialState.COMPLETE else None
    trial = create_trial(state=state, value=told, params=params, distributions=SPACE)
    trial.number = number
    return trial


def search(sampler, count, trials=()):
    trials = list(trials)
    while len(trials) < count:
        trials.append(finished(sampler.propose(trials, len(trials)).params, len(trials)))
    return trials


def test_everything_proposed_fits_and_nothing_is_proposed_twice():
    trials = search(FittingSampler(Problem(SPACE, overrun=size, owners=OWNERS), seed=3), 40)
    assert all(size(t.params) <= 1 for t in trials)
    encoding = Encoding(SPACE, OWNERS)
    assert len(np.unique(encoding.rows([t.params for t in trials]), axis=0)) == 40


def test_it_finds_better_than_chance_does():
    ours = [
        min(t.value for t in search(FittingSampler(Problem(SPACE, overrun=size, owners=OWNERS), seed=s), 25)) for s in range(6)
    ]
    rng = np.random.default_rng(0)
    drawn = [Encoding(SPACE).params(row) for row in Encoding(SPACE).draw(600, rng)]
    chance = min(value(p) for p in drawn if size(p) <= 1)
    assert np.mean(ours) <= chance


def test_a_resume_makes_the_same_proposals():
    whole = search(FittingSampler(Problem(SPACE, overrun=size, owners=OWNERS), seed=5), 14)
    again = search(FittingSampler(Problem(SPACE, overrun=size, owners=OWNERS), seed=5), 14, whole[:9])
    assert [t.params for t in whole] == [t.params for t in again]
    other = search(FittingSampler(Problem(SPACE, overrun=size, owners=OWNERS), seed=6), 14)
    assert [t.params for t in whole] != [t.params for t in other]


def test_a_proposal_keeps_to_one_thread():
    seen = set()

    def overrun(params):
        seen.update(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return size(params)

    search(FittingSampler(Problem(SPACE, overrun=overrun, owners=OWNERS), seed=0), 6)
    assert seen == {1}


def test_known_recipes_come_first_unless_they_do_not_fit():
    small = {name: False for name in SPACE if name.startswith("t")} | {"bits": "int5", "width": 3, "rate": 0.1}
    large = {**dict.fromkeys(small, True), "bits": "int8", "width": 6, "rate": 0.1}
    sampler = FittingSampler(Problem(SPACE, overrun=size, starts=[large, small]))
    first = sampler.propose([], 0)
    assert (first.params, first.asked, first.dropped) == (small, 2, 1)
    assert sampler.propose([finished(small, 0)], 1).params not in (small, large)


def test_what_may_not_fit_must_promise_more_and_what_hardly_fits_is_refused():
    def doubtful(likely, seeds):
        def chance(params):
            return 1.0 if size(params) <= 1 else likely if size(params) <= 1.05 else 0.0

        def overrun(params):
            return size(params) / 1.05

        samplers = [
            FittingSampler(Problem(SPACE, overrun=overrun, chance=chance, owners=OWNERS), seed=seed) for seed in range(seeds)
        ]
        taken = [chance(t.params) for sampler in samplers for t in search(sampler, 40)]
        assert min(taken) > 0
        return sum(c < 1 for c in taken)

    assert 0 < doubtful(0.6, 3) < doubtful(0.94, 3)
    assert doubtful(0.4, 1) == doubtful(0.04, 1) == 0


def test_sizes_are_known_best_near_what_was_tried():
    rng = np.random.default_rng(0)
    space = {f"x{i}": FloatDistribution(0, 1) for i in range(40)}
    slopes = rng.standard_normal(40)

    def overrun(params):
        unit = np.array([params[name] for name in space]) - 0.5
        return float(np.exp(unit @ slopes + 9 * unit[:8] @ unit[8:16]))

    encoding = Encoding(space)
    sizes, here = Sizes(encoding, overrun, seed=0), rng.choice([0.1, 0.9], size=40)
    near = np.clip(here + 0.1 * rng.standard_normal((60, 40)), 0, 1 - 1e-9)
    truth = np.log([overrun(encoding.params(row)) for row in near])
    before = np.abs(sizes.predicted(near[40:]) - truth[40:]).mean()
    sizes.know(near[:40], np.exp(truth[:40]))
    assert np.abs(sizes.predicted(near[40:]) - truth[40:]).mean() < 0.7 * before


def test_a_combination_is_counted_once_however_often_it_is_refused():
    small = {name: False for name in SPACE if name.startswith("t")} | {"bits": "int5", "width": 3, "rate": 0.1}
    large = small | {"width": 6, "t0": True, "t3": True}
    chances = {True: 0.0, False: 1.0}
    sampler = FittingSampler(Problem(SPACE, starts=[large, small], chance=lambda params: chances[params["width"] == 6]))
    first = sampler.propose([], 0)
    second = sampler.propose([finished(small, 0)], 1)
    assert (first.params, first.asked, first.dropped) == (small, 2, 1)
    assert second.asked == second.dropped + 1
    chances[True] = 0.3  # something was learned: it may fit, but it is no start to rely on
    assert sampler.propose([finished(small, 0)], 1).source != "start"
    chances[True] = 0.9
    third = sampler.propose([finished(small, 0)], 1)
    assert (third.params, third.asked, third.dropped, third.source) == (large, 0, -1, "start")


def test_asking_is_bounded_when_nothing_fits():
    asked = []
    sampler = FittingSampler(Problem(SPACE, overrun=lambda params: asked.append(1) or 2.0))
    assert sampler.propose([], 0).params is None
    assert len(asked) < 600


def test_models_take_running_trials_into_account(monkeypatch):
    """Both do: the linear one believes its means of them, and for the densities they are among the bad ones."""
    space = {name: FloatDistribution(0, 1) for name in ("a", "b")}
    draws, trials = np.random.default_rng(0), []
    for number in range(14):
        params = dict(zip(space, draws.random(2).round(3).tolist(), strict=True))
        running = number >= 11
        state, told = (TrialState.RUNNING, None) if running else (TrialState.COMPLETE, params["a"] ** 2 + params["b"])
        trials.append(create_trial(state=state, value=told, params=params, distributions=space))
        trials[-1].number = number
    expected = Encoding(space).rows([t.params for t in trials[11:]])
    believed, among, by = [], [], Surrogate.believing
    monkeypatch.setattr(Surrogate, "believing", lambda model, x: believed.append(x) or by(model, x))
    improvement = search_sampler.expected_improvement
    spied = lambda *told: among.append(told[-1]) or improvement(*told)
    monkeypatch.setattr(search_sampler, "expected_improvement", spied)
    for number in range(14, 30):
        FittingSampler(Problem(space), seed=0).propose(trials, number)
    sampler = FittingSampler(Problem(space), seed=0)
    assert believed
    assert all(np.array_equal(x, sampler._size.features(expected)) for x in believed)
    monkeypatch.setattr(Surrogate, "skill", lambda model: -1.0)  # a model that predicts nothing leaves it to the densities
    for number in range(14, 30):
        FittingSampler(Problem(space), seed=0).propose(trials, number)
    assert among
    assert all(np.array_equal(rows, expected) for rows in among)


def test_running_trials_are_not_proposed_again():
    space = {"a": CategoricalDistribution((False, True)), "b": CategoricalDistribution((False, True))}
    sampler = FittingSampler(Problem(space))
    trials = []
    for number in range(4):
        found = sampler.propose(trials, number).params
        trials.append(create_trial(state=TrialState.RUNNING, params=found, distributions=space))
    assert len({tuple(t.params.values()) for t in trials}) == 4
    assert sampler.propose(trials, 4).params is None


def test_it_is_an_ordinary_optuna_sampler():
    study = optuna.create_study(sampler=FittingSampler(Problem(SPACE, overrun=size, owners=OWNERS)), direction="maximize")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        params = {name: trial._suggest(name, rule) for name, rule in SPACE.items()}
        trial.suggest_float("outside", 0, 1)
        assert size(params) <= 1
        return -value(params)

    study.optimize(objective, n_trials=12)
    assert len(study.trials) == 12
    assert study.best_value >= 12


def test_clashing_parameters_are_proposed_as_they_will_be_understood():
    def canonical(params):
        return params | {"t1": False} if params["t0"] else params

    trials = search(FittingSampler(Problem(SPACE, overrun=size, canonical=canonical)), 15)
    assert not any(t.params["t0"] and t.params["t1"] for t in trials)


def test_encoding_there_and_back():
    encoding = Encoding(SPACE, OWNERS)
    params = {f"t{i}": i % 2 == 0 for i in range(10)} | {"bits": "int6", "width": 5, "rate": 0.03}
    row = encoding.rows([params])
    back = encoding.params(row[0])
    assert back == params
    off = encoding.rows([params | {"t0": False, "rate": 0.9}])
    assert off[0, encoding.names.index("rate")] == 0.5
    drawn = encoding.draw(50, np.random.default_rng(0))
    assert np.allclose(encoding.rows([encoding.params(r) for r in drawn]), drawn, atol=1e-4)  # numbers have four digits


def test_knobs_of_what_is_off_count_for_nothing_and_begin_at_their_defaults():
    encoding = Encoding(SPACE, OWNERS, {"rate": 0.05})
    off = {name: False for name in SPACE if name.startswith("t")} | {"bits": "int6", "width": 5}
    one, other = encoding.rows([off | {"rate": 0.9}, off | {"rate": 0.001}])
    assert np.array_equal(one, other)
    one[encoding.names.index("t0")] = 1
    assert encoding.params(one)["rate"] == 0.05
    assert encoding.distance(np.stack([one]), other) == 1


def test_one_run_that_went_wrong_does_not_set_the_scale():
    ordinary = np.linspace(2.0, 2.4, 23)
    assert fence(ordinary) == 2.4
    assert fence(np.append(ordinary, 19.0)) == pytest.approx(2.4, abs=0.03)


def test_proposals_stay_near_a_start_that_nothing_else_comes_up_to():
    start = {name: False for name in SPACE if name.startswith("t")} | {"bits": "int8", "width": 3, "rate": 0.1}
    space = SPACE | {f"k{i}": FloatDistribution(0, 1) for i in range(60)}
    start |= {f"k{i}": 0.5 for i in range(60)}
    encoding, rng = Encoding(space), np.random.default_rng(0)
    trials = []
    for number, params in enumerate([start, *(encoding.params(row) for row in encoding.draw(5, rng))]):
        trials.append(create_trial(value=float(number), params=params, distributions=space))
        trials[-1].number = number
    samplers = [FittingSampler(Problem(space, overrun=size, starts=[start]), seed=s) for s in range(20)]
    found = [sampler.propose(trials, 6).params for sampler in samplers]
    apart = [encoding.distance(encoding.rows([params]), encoding.rows([start])[0])[0] for params in found]
    assert sum(a <= encoding.columns / 4 for a in apart) > 12


def test_the_surrogate_finds_main_effects_and_interactions():
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], size=(90, 12))
    truth = lambda z: 3 * z[:, 0] - 2 * z[:, 1] + 1.5 * z[:, 2] * z[:, 3]
    model = Surrogate.fit(x, truth(x) + 0.1 * rng.standard_normal(90))
    fresh = rng.choice([-1.0, 1.0], size=(200, 12))
    mean, deviation = model.predict(fresh)
    assert np.corrcoef(mean, truth(fresh))[0, 1] > 0.97
    assert model.skill() > 0.8
    draws = np.stack([model.draw(np.random.default_rng(s))(fresh) for s in range(60)])
    assert np.allclose(draws.std(0).mean(), deviation.mean(), rtol=0.35)
    assert np.allclose(model.draw(rng, boldness=0.0)(fresh), mean)


def test_the_marginal_likelihoods_gradient_is_right():
    from scipy.optimize import check_grad

    from golflab.search.sampler.surrogate import _cost

    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((20, 4)), rng.standard_normal(20)
    here = np.array([-0.5, -1.0, -1.5, 0.3, -1.0, 0.2, -0.3, 0.1, 0.0])  # log scales, log relevances
    assert check_grad(lambda s: _cost(s, x, y)[0], lambda s: _cost(s, x, y)[1], here) < 1e-4


def test_the_inverse_of_a_covariance_is_whole_and_symmetric():
    from scipy.linalg import cholesky

    from golflab.search.sampler.surrogate import _inverse

    root = np.random.default_rng(2).standard_normal((30, 30))
    covariance = root @ root.T + 30 * np.eye(30)
    found = _inverse(cholesky(covariance, lower=True))
    assert np.allclose(found @ covariance, np.eye(30), atol=1e-12)
    assert np.array_equal(found, found.T)


def test_the_surrogate_learns_which_features_count():
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], size=(60, 20))
    y = 2 * x[:, 0] + 1.5 * x[:, 1] * x[:, 2]  # two of them act only together
    model = Surrogate.fit(x, y + 0.1 * rng.standard_normal(60))
    assert model.relevance[:3].min() > 2 * model.relevance[3:].max()


def test_the_density_prefers_what_its_trials_have():
    encoding = Encoding({"a": CategoricalDistribution((False, True)), "x": FloatDistribution(0, 1)})
    density = Parzen(encoding, np.array([[1.0, 0.2], [1.0, 0.3], [1.0, 0.25]]))
    near, far = density.log_density(np.array([[1.0, 0.25], [0.0, 0.9]]))
    assert near > far
    drawn = density.draw(300, np.random.default_rng(0))
    assert drawn[:, 0].mean() > 0.6


def test_what_is_off_says_nothing_about_its_knob_and_a_draw_takes_the_knob_from_a_trial_that_had_it():
    encoding = Encoding({"t0": CategoricalDistribution((False, True)), "rate": FloatDistribution(0, 1)}, OWNERS)
    off, on = np.array([0.0, 0.5]), np.array([1.0, 0.9])
    middle, edge = Parzen(encoding, off[None]).log_density(np.array([[1.0, 0.5], [1.0, 0.9]]))
    assert middle == pytest.approx(edge)  # the default of a knob that is off is no evidence for the default
    drawn = Parzen(encoding, np.stack([off] * 3 + [on])).draw(2000, np.random.default_rng(0))
    knob = drawn[drawn[:, 0] == 1, 1]
    assert np.median(knob) > 0.7
    assert ((drawn >= 0) & (drawn < 1 + 1e-12)).all()
    assert (drawn[drawn[:, 0] == 0, 1] == 0.5).all()


SHARP = {f"t{i}": CategoricalDistribution((False, True)) for i in range(6)}
SHARP |= {f"k{i}": FloatDistribution(0, 1) for i in range(6)}
NARROW = np.array([0.2, 0.8, 0.35, 0.65, 0.9, 0.1])


def sharp_value(rows):
    """A technique gains 1 at its knob's best value and costs 1 away from it; by 0.08 of the range 39 % of that is lost."""
    return (rows[:, :6] * (1 - 2 * np.exp(-0.5 * ((rows[:, 6:] - NARROW) / 0.08) ** 2))).sum(axis=1)


def test_the_model_sees_a_narrow_best_value_of_a_knob_that_counts_only_with_its_technique(monkeypatch):
    owners = {f"k{i}": (f"t{i}", True) for i in range(6)}
    encoding = Encoding(SHARP, owners)
    known, fresh = encoding.draw(150, np.random.default_rng(0)), encoding.draw(300, np.random.default_rng(1))

    def explained():
        sampler = FittingSampler(Problem(SHARP, owners=owners))
        model = sampler._model(known, sharp_value(known), np.random.default_rng(2))
        return np.corrcoef(model.means(sampler._size.features(fresh)), sharp_value(fresh))[0, 1] ** 2

    seen = explained()
    monkeypatch.setattr(Encoding, "hats", lambda encoding, rows, columns: np.zeros((len(rows), 0), np.float32))
    assert seen > 0.85 > 0.75 > explained()


def test_hats_say_where_a_number_lies_and_nothing_about_a_knob_that_is_off():
    encoding = Encoding(SHARP | {"few": IntDistribution(0, 5)}, {"k0": ("t0", True)})
    assert list(encoding.fine) == [6, 7, 8, 9, 10, 11]
    rows = encoding.draw(50, np.random.default_rng(0))
    hats = encoding.hats(rows, encoding.fine).reshape(50, 6, HATS)
    used = encoding.counts(rows)[:, encoding.fine]
    assert np.allclose(hats.sum(axis=2), PEAK * used)
    places = (hats * np.linspace(0, 1, HATS)).sum(axis=2) / PEAK
    assert np.allclose(places[used], rows[:, encoding.fine][used], atol=1e-6)
    assert 0 < used[:, 0].sum() < 50


def test_of_many_numbers_those_are_described_finely_that_most_trials_use():
    space = {f"t{i}": CategoricalDistribution((False, True)) for i in range(40)}
    owners = {f"k{i}": (f"t{i}", True) for i in range(40)}
    sizes = Sizes(Encoding(space | {name: FloatDistribution(0, 1) for name in owners}, owners), None, seed=0)
    rows = np.zeros((3, 80))
    rows[:, 10:40], rows[0, 10:16] = 1, 0
    sizes.know(rows, [0.0] * 3)
    assert list(sizes._fine) == [*range(56, 80)]
    assert sizes.features(rows).shape == (3, 40 + 80 + 24 * HATS)


LATER = ("bits", "t8", "t9")  # act after training


def training(params):
    return tuple(params[name] for name in SPACE if name not in LATER)


@pytest.mark.parametrize("design", [4, 99])
def test_variants_of_finished_trainings_are_tried_and_no_more_of_them_than_was_asked_for(design):
    sampler = FittingSampler(
        Problem(SPACE, overrun=size, training=training, after_training=LATER), variants=2, design=design, seed=1
    )
    trials, sources = [], []
    while len(trials) < 30:
        found = sampler.propose(trials, len(trials))
        known = {training(t.params) for t in trials}
        assert (found.source == "variant") <= (training(found.params) in known)
        sources.append(found.source)
        trials.append(finished(found.params, len(trials)))
        trained = len({training(t.params) for t in trials})
        assert len(trials) - trained <= 2 * trained
    assert "variant" in sources[: 6 if design > 30 else 30]
    assert all(size(t.params) <= 1 for t in trials)


def test_a_training_that_still_runs_has_no_variants():
    sampler = FittingSampler(Problem(SPACE, overrun=size, training=training, after_training=LATER), variants=2, design=99)
    trials = []
    for number in range(6):
        found = sampler.propose(trials, number)
        assert found.source != "variant"
        trials.append(create_trial(state=TrialState.RUNNING, params=found.params, distributions=SPACE))
        trials[-1].number = number


def test_variants_find_more_with_the_same_trainings():
    later = ("t0", "t1", "t3", "t4")
    trained = lambda params: tuple(params[name] for name in SPACE if name not in later)

    def best(variants, seed):
        sampler = FittingSampler(
            Problem(SPACE, overrun=size, training=trained, after_training=later), variants=variants, seed=seed
        )
        trials, keys = [], set()
        while len(keys) < 7:
            trials.append(finished(sampler.propose(trials, len(trials)).params, len(trials)))
            keys.add(trained(trials[-1].params))
        return min(t.value for t in trials[:-1])

    assert np.mean([best(3, s) for s in range(5)]) < np.mean([best(0, s) for s in range(5)])


def test_stopped_trials_teach_what_their_last_score_predicts():
    def trial(step, early, **told):
        return create_trial(intermediate_values={step: early}, params={"a": 0.0}, distributions=A, **told)

    complete = [trial(10, v, value=2.0 * v) for v in (1, 2, 3, 4, 5)]
    stopped, unknown = (trial(step, 7.0, state=TrialState.PRUNED) for step in (10, 11))
    found, values = scored([stopped, unknown, *complete])
    assert found == [*complete, stopped]
    assert values[-1] == pytest.approx(14.0)
    backwards = [trial(10, v, value=-v) for v in (1, 2, 3, 4, 5)]
    assert scored([stopped, *backwards])[1][-1] == pytest.approx(-3.0)
    assert len(scored([stopped, *complete[:4]])[0]) == 4


def test_eight_workers_try_different_things_and_still_get_better():
    def search_with(workers, seed):
        sampler, trials = FittingSampler(Problem(SPACE, overrun=size, owners=OWNERS), seed=seed), []
        for number in range(28):
            found = sampler.propose(trials, number).params
            trials.append(create_trial(state=TrialState.RUNNING, params=found, distributions=SPACE))
            trials[-1].number = number
            if number >= workers - 1:
                oldest = trials[number - workers + 1]
                oldest.value, oldest.state = float(value(oldest.params)), TrialState.COMPLETE
        return trials

    runs = [search_with(8, seed) for seed in range(3)]
    encoding = Encoding(SPACE, OWNERS)
    for trials in runs:
        rows = encoding.rows([t.params for t in trials[-8:]])
        assert len(np.unique(rows, axis=0)) == 8
        differ = (rows[:, None] != rows[None]).sum(-1)
        assert np.median(differ[np.triu_indices(8, 1)]) >= 2
    alone = [min(t.value for t in search_with(1, seed) if t.value is not None) for seed in range(3)]
    together = [min(t.value for t in trials if t.value is not None) for trials in runs]
    assert np.mean(together) <= np.mean(alone) + 1.0


def test_a_model_that_believes_itself_keeps_its_mean_and_doubts_less():
    rng = np.random.default_rng(0)
    x, fresh = rng.standard_normal((15, 4)), rng.standard_normal((3, 4))
    model = Surrogate.fit(x, x[:, 0] + 0.05 * rng.standard_normal(15))
    mean, doubt = model.predict(fresh)
    after, less = model.believing(fresh).predict(fresh)
    assert np.allclose(mean, after, atol=1e-6)
    assert (less < doubt).all()
    assert model.believing(fresh[:0]) is model
