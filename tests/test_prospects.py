"""What a search says before it starts, and what its report says where nothing could be told."""

import io

import numpy as np
import pytest
from rich.console import Console

from golflab.analysis.report.report import report
from golflab.analysis.report.words import summary
from golflab.model.record import Record
from golflab.search.design.ladder import rungs
from golflab.search.design.prospects import prospects
from golflab.search.engine.standing import UNBOUNDED
from golflab.search.experiment import clock as clocks
from golflab.search.experiment import start as sweep
from golflab.search.experiment.clock import Clock
from golflab.search.experiment.options import Options
from golflab.search.ledger.problem import training_key
from golflab.search.ledger.requested import PlanClock
from golflab.search.terminal import show
from golflab.spaces.catalogue import space
from golflab.spaces.presets import preset
from golflab.spaces.scales import parameters_of
from tests.planted import Planted, write_experiment

STARTER = space("starter", preset("baseline", "proxy"))


def said(**options):
    return " ".join(prospects(Options(**options), STARTER))


def test_too_few_trials_are_said_to_be_too_few_with_what_to_do():
    assert "10 trials cannot tell the effects of 16 techniques apart: at least 18" in said(trials=10)
    assert "golflab ablate baseline --design screen" in said(trials=10)


def test_more_trials_show_smaller_effects():
    smallest = [float(said(trials=n).partition("effect is at least ")[2].split()[0]) for n in (24, 48, 200)]
    assert smallest == sorted(smallest, reverse=True)
    assert smallest[0] > 2 * smallest[2]


def test_a_search_bounded_by_its_budget_says_when_effects_show():
    assert "after 18 complete runs" in said(trials=UNBOUNDED, budget="2h")


@pytest.mark.parametrize("width", [80, 140])
def test_runs_that_tell_nothing_end_in_one_sentence_and_a_command(tmp_path, width):
    world = Planted.draw(0, 12)
    flags = (np.random.default_rng(0).random((6, 12)) < 0.5).astype(float)
    folder = write_experiment(tmp_path / "demo", world.records(flags), resume="golflab resume demo")
    told, screen = report(folder), io.StringIO()
    told.text(Console(file=screen, width=width))
    text = " ".join(screen.getvalue().split())
    assert "6 complete runs cannot separate the effects of 12 techniques" in text
    assert "golflab resume demo --trials 40" in text
    assert "technique Δ" not in text
    assert "–" not in text
    assert not any("partly luck" in sentence for sentence in summary(told))
    page = told.html(tmp_path / "page.html").read_text()
    assert "golflab resume demo --trials 40" in page


def test_luck_is_mentioned_only_where_a_score_shrank(tmp_path):
    world = Planted.draw(3, 4, noise=0.02)
    flags = (np.random.default_rng(1).random((20, 4)) < 0.5).astype(float)
    told = report(write_experiment(tmp_path / "demo", world.records(flags)))
    lines = [line for line in summary(told) if "partly luck" in line]
    assert len(lines) == (f"{told.best['expected']:.4f}" != f"{told.best['bpb']:.4f}")
    assert f"expect {told.best['expected']:.4f}" in lines[0]


class Standing:
    """A ledger of which so many of its trials are done."""

    def __init__(self, done, target):
        self.target, self._done = target, done

    def remaining(self):
        return self.target - self._done


@pytest.mark.parametrize(("trials", "budget", "warned"), [(24, "100s", True), (12, "100s", False), (UNBOUNDED, "100s", False)])
def test_a_pace_that_will_not_reach_is_said_once(tmp_path, monkeypatch, trials, budget, warned):
    now = [0.0]
    monkeypatch.setattr(clocks.time, "monotonic", lambda: now[0])
    clock = Clock(Options(trials=trials, budget=budget, runs=str(tmp_path)), Standing(3, trials))
    now[0], clock._lasted = 20.0, [0.0, 6.0, 7.0, 7.0]  # three trials in 20 s: 15 in 100 s
    said = clock.too_slow()
    assert ("about 15 of 24 trials" in said) == warned
    assert ("--budget …` continues" in said) == warned
    assert clock.too_slow() == ""


def test_a_search_that_ran_out_of_budget_is_not_called_finished(capsys):
    told = {"name": "w", "state": "out of budget", "reason": "the budget of 265s is spent", "trials": 24, "seconds": 271.0}
    told |= {"counts": dict.fromkeys(("complete", "pruned", "failed", "trained", "not_fitting", "asked"), 13), "running": []}
    told |= {"spent": {"trainings": 13, "seconds": 618.0}, "budget": "265s", "rungs": [], "best": None, "failed": []}
    screen = io.StringIO()
    show.status(Console(file=screen, width=300), told | {"resume": "golflab resume w"})
    text = screen.getvalue()
    assert "w: out of budget, the budget of 265s is spent. 271 s of wall time" in text
    assert "618 s of training summed over all workers" in text
    assert "finished" not in text
    assert "continue with: golflab resume w" in text
    show.status(
        Console(file=(again := io.StringIO()), width=300),
        told | {"state": "interrupted", "reason": "interrupted; go on", "resume": "x"},
    )
    assert "w: interrupted, go on." in again.getvalue()


@pytest.mark.parametrize(("text", "why"), [("xsa", "acts during training"), ("nothing_such", "no technique")])
def test_what_cannot_finish_a_training_is_refused_before_anything_starts(tmp_path, text, why):
    with pytest.raises(ValueError, match=why):
        sweep.asked({"name": "f", "runs": str(tmp_path), "finish": (text,)})
    assert not list(tmp_path.iterdir())


def test_the_time_left_of_a_ladder_follows_the_size_of_its_runs():
    found = rungs("baseline", ("nano", "micro"), (1.25, 5.0, 20.0), ("softcap", "ema"))
    plan = found.recipes([2] * len(found.rungs))
    micro = next(number for number, recipe in enumerate(plan) if recipe.shape.width == 64)
    lasted = list(ladder_seconds(plan))
    clock, gone = PlanClock(plan), 0.0
    assert clock.left((), 10.0) is None
    for number, (record, seconds) in enumerate(lasted):
        clock.lasted(record, seconds)
        gone += seconds / 2  # two workers
        left, truth = clock.left([recipe.hash for recipe in plan[: number + 1]], gone), sum(s for _, s in lasted) / 2 - gone
        if number < micro:
            assert truth / 2 < left < truth * 2
        else:  # the larger model has been seen
            assert left == pytest.approx(truth, rel=0.01, abs=0.01)


def ladder_seconds(plan):
    """A record and the seconds of every run: the larger model is 1.6 times as slow, and scoring takes as long for all."""
    trained = set()
    for recipe in plan:
        slow, key = 1.6 if recipe.shape.width == 64 else 1.0, training_key(recipe)
        training = 0.0 if key in trained else slow * recipe.schedule.tokens / 30_000
        told = {"parameters": parameters_of(recipe), "tokens": recipe.schedule.tokens, "trained": key not in trained}
        trained.add(key)
        record = Record(recipe.hash, recipe.seed, "baseline", "complete", recipe.to_json(), stages={"train": training}, **told)
        yield record, training + 3.0 * slow
