"""What a search costs besides its trainings: counted in calls and bytes, never in seconds."""

import json
import random

import pytest
from optuna.trial import TrialState, create_trial

import golflab.search.ledger.forecast
from golflab.model.record import Record
from golflab.model.run import forecast_bytes
from golflab.search.engine.searcher import LedgerScheduler, LedgerSearcher, Watcher
from golflab.search.ledger import counts as tally
from golflab.search.ledger.forecast import FixedForecast, Forecaster
from golflab.search.ledger.pruners import agreements
from golflab.spaces.presets import preset
from golflab.spaces.space import Space
from tests.ledgers import ledger

SPACE = Space("small", preset("baseline"), techniques=("xsa", "smear_gate", "ln_scale", "value_residual"))


def opened(folder, target=8, forecaster=None):
    return ledger(folder, target, forecaster or Forecaster(), space=SPACE)


def done(proposal, factor=0.98):
    recipe = proposal.recipe
    record = Record(recipe.hash, 0, "baseline", "complete", recipe.to_json(), bpb=2.0 + len(recipe.techniques) / 100)
    record.code_bytes, record.seconds = 60_000, 1.0
    record.bytes = int(60_000 + factor * (proposal.forecast["mid"] - 60_000))
    return record


@pytest.fixture
def finished(tmp_path):
    """A ledger with five finished trials."""
    book = opened(tmp_path)
    for k in range(5):
        proposal = book.propose()
        book.rungs.report(proposal.number, {"step": 1, "progress": 0.5, "bpb": 2.5 - k / 100, "bytes": 1000})
        book.finish(proposal.number, done(proposal))
    return book


def test_what_tune_keeps_of_a_trial_does_not_grow_with_what_was_learned(finished):
    searcher = LedgerSearcher(finished, Watcher(), {})
    before = len(json.dumps(searcher.suggest("a")))
    finished.problem.forecaster.calibration.seen += [(f"int6 sd_clip rans | word{k}", 0.01) for k in range(400)]
    assert len(json.dumps(searcher.suggest("b"))) < before + 500


def test_tune_forgets_the_record_of_a_trial_that_ended_before(finished):
    class Ended:
        def __init__(self):
            self.last_result = {"record": "a long text", "done": True}

    scheduler, first, second = LedgerScheduler(finished, Watcher()), Ended(), Ended()
    scheduler.on_trial_complete(None, first, {})
    assert "record" in first.last_result  # the searcher is told after the scheduler
    scheduler.on_trial_complete(None, second, {})
    assert first.last_result == {"done": True}


def test_a_worker_forecasts_what_the_driver_did(finished):
    proposal = finished.propose()
    assert forecast_bytes(proposal.recipe, FixedForecast(proposal.recipe, proposal.forecast)).to_json() == proposal.forecast
    assert proposal.forecast != Forecaster()(proposal.recipe)  # it had learned


def test_finished_trials_are_not_counted_again(finished, monkeypatch):
    finished.counts(), finished.spent()
    looked_at = []
    for name in ("counts", "spent", "counted"):
        honest = getattr(tally, name)

        def spy(trials, honest=honest):
            looked_at.extend(trials)
            return honest(trials)

        monkeypatch.setattr(tally, name, spy)
    assert finished.counts()["complete"] == 5
    assert finished.spent()["trainings"] == 5
    assert finished.remaining() == 3
    assert not looked_at
    finished.propose()
    finished.counts()
    assert {t.number for t in looked_at} == {5}


def test_a_resume_works_out_no_forecast_again_and_reads_each_record_once(finished, monkeypatch):
    finished.presence.leave()
    seen, built, read = finished.problem.forecaster.calibration.seen, [], []
    whole, honest = golflab.search.ledger.forecast.inventory, Record.read
    monkeypatch.setattr(golflab.search.ledger.forecast, "inventory", lambda recipe: built.append(recipe) or whole(recipe))
    monkeypatch.setattr(Record, "read", staticmethod(lambda folder: read.append(folder) or honest(folder)))
    again = opened(finished.folder)
    built.clear()
    again.reconcile()
    assert again.problem.forecaster.calibration.seen == seen
    assert not built
    assert not again.has_orphans()
    assert again.damaged() == []
    assert len(read) == 5
    monkeypatch.setattr(
        golflab.search.ledger.forecast, "_code", lambda: "edited"
    )  # what other code worked out is worked out again
    third = opened(finished.folder)
    built.clear()
    third.reconcile()
    assert third.problem.forecaster.calibration.seen == seen
    assert len(built) == 5


def test_only_the_latest_observations_that_are_used_are_recalled(finished, monkeypatch):
    monkeypatch.setattr(Forecaster, "remembers", 2)
    again = opened(finished.folder)
    again.reconcile()
    assert again.problem.forecaster.calibration.seen == finished.problem.forecaster.calibration.seen[-2:]


def test_running_totals_are_the_sums_over_all_trials():
    chance, trials, totals = random.Random(0), [], tally.Totals()
    for number in range(120):
        told = {"recipe": f"r{chance.randrange(100)}", "asked": chance.randint(1, 3), "trained": chance.random() < 0.7}
        told |= {"seconds": 2.0} | ({"withdrawn": True} if chance.random() < 0.1 else {})
        trials.append(create_trial(state=TrialState.RUNNING, user_attrs=told))
        trials[-1].number = number
        for k, trial in enumerate(trials):
            if not trial.state.is_finished() and chance.random() < 0.3:
                state = chance.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
                value = chance.random() if state == TrialState.COMPLETE else None
                scores = {1: chance.random(), 2: chance.random()}
                trials[k] = create_trial(state=state, value=value, user_attrs=trial.user_attrs, intermediate_values=scores)
                trials[k].number = k
        totals.update(trials)
        assert totals.counts() == tally.counts(trials)
        assert totals.spent() == tally.spent(trials)
        assert totals.counted() == tally.counted(trials)
        name = f"r{chance.randrange(100)}"
        assert totals.first(name) == min((t.number for t in trials if t.user_attrs["recipe"] == name), default=None)
    shown = {rung.step: rung for rung in totals.rungs()}
    exact = {rung.step: rung for rung in agreements(trials)}
    assert set(shown) == set(exact)
    assert all(shown[step].trials >= exact[step].trials / 1.02 - 1 for step in exact)
