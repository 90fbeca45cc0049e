"""The benchmark of searches: its worlds are what they say, and no method gets more than another."""

from dataclasses import replace

import numpy as np
import optuna
import pytest

from benchmarks import search_efficiency
from benchmarks.hard_worlds import HARD
from benchmarks.search_efficiency import asked_until_it_fits, suggested
from benchmarks.worlds import NOISE, planted
from golflab.search.sampler.encoding import Encoding


def drawn(world, count=200, seed=0):
    encoding = Encoding(world.space, world.owners)
    return [encoding.params(row) for row in encoding.draw(count, np.random.default_rng(seed))]


@pytest.mark.parametrize("kind", HARD)
def test_a_world_is_the_same_every_time_and_some_of_it_fits(kind):
    one, again = HARD[kind](3), HARD[kind](3)
    samples = drawn(one)
    values = np.array([one.value(p) for p in samples])
    assert np.array_equal(values, [again.value(p) for p in samples])
    assert np.isfinite(values).all()
    assert values.std() > 0.001
    share = np.mean([one.size(p) <= 1 for p in samples])
    assert (0.04 < share < 0.17) if kind == "infeasible" else (0.25 < share < 0.45)
    noise = np.array([one.measured(p, rng) - one.value(p) for rng in [np.random.default_rng(1)] for p in samples])
    assert noise.std() == pytest.approx(3 * NOISE if kind == "noisy" else NOISE, rel=0.2)
    assert any(HARD[kind](4).value(p) != v for p, v in zip(samples[:3], values, strict=False))


@pytest.mark.parametrize("kind", [k for k in HARD if k not in ("infeasible", "noisy")])
def test_a_world_differs_from_the_plain_one_in_its_values(kind):
    world = HARD[kind](3)
    assert any(abs(world.value(p) - planted(3).value(p)) > 0.001 for p in drawn(world, 50))


def test_a_sharp_knob_counts_only_while_its_technique_is_on_and_only_near_its_best_value():
    world = HARD["sharp"](0)
    body = {"layers": 10, "halves": 6, "width": 448, "bits": 6}
    for knob, (owner, _) in world.owners.items():
        off = {f"t{i:02d}": False for i in range(40)} | body
        assert world.value(off | {knob: 0.5}) == world.value(off)
        units = np.linspace(0, 1, 101)
        along = np.array([world.value(off | {owner: True, knob: float(10 ** (-3 * (1 - u)))}) for u in units])
        good = along < np.median(along) - 0.5 * (np.median(along) - along.min())
        assert 0.05 < good.mean() < 0.25


def test_the_peer_never_trains_what_does_not_fit_and_gets_no_training_more(monkeypatch):
    monkeypatch.setattr(search_efficiency, "ASKS", 3)  # so that it also runs out of asks
    world, trained = HARD["infeasible"](0), []
    train = search_efficiency.Best.train
    monkeypatch.setattr(search_efficiency.Best, "train", lambda best, p: trained.append(p) or train(best, p))
    best = asked_until_it_fits(world, 0, 12)
    assert len(trained) == len(best.history) == 12
    assert all(world.size(p) <= 1 for p in trained)
    assert np.isfinite(best.history).all()


def test_the_peer_is_told_which_knobs_count():
    world = HARD["sharp"](0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        params = suggested(study, world)
        assert set(world.space) - set(world.owners) <= set(params)
        assert all((knob in params) == params[owner] for knob, (owner, _) in world.owners.items())


def test_the_peer_learns():
    """Its later trainings are better than its first ten, which are random."""
    world, gained = planted(0), []
    for seed in range(3):
        trained: list[dict] = []
        plain = replace(world, measured=lambda p, rng, trained=trained: trained.append(p) or world.value(p))
        asked_until_it_fits(plain, seed, 40)
        values = [world.value(p) for p in trained]
        gained.append(np.mean(values[:10]) - np.mean(values[20:]))
    assert min(gained) > 0.005
