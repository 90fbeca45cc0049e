"""The ledger: nothing finished is repeated or lost, whoever dies when."""

import pytest
from fake_runs import bpb, run, size
from optuna.pruners import BasePruner, MedianPruner
from optuna.trial import TrialState

from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.search.experiment.experiment_file import write_experiment
from golflab.search.ledger.counts import OVER
from golflab.search.ledger.pruners import DOCUMENTS, WilcoxonRungPruner
from golflab.search.ledger.storage import JOURNAL, open_storage
from golflab.search.upkeep.status import status_of
from tests import ledgers
from tests.ledgers import LIMIT, SPACE


def ledger(folder, target=6, **options):
    return ledgers.ledger(folder, target, **options)


def finish(book, proposal):
    book.finish(proposal.number, run(proposal.recipe, book.trial_folder(proposal.recipe.hash), book.folder / "cache"))


def test_it_proposes_as_many_as_were_wanted_each_once_and_each_fitting(tmp_path):
    book = ledger(tmp_path)
    seen = []
    while (proposal := book.propose()) is not None:
        assert size(proposal.recipe) <= LIMIT
        seen.append(proposal.recipe.hash)
        finish(book, proposal)
    assert len(seen) == len(set(seen)) == 6
    assert seen[0] == SPACE.preset.hash
    counts = book.counts()
    assert counts["asked"] == 6 + counts["not_fitting"]
    assert (counts["trained"], counts["pruned"], counts["failed"], counts["complete"]) == (6, 0, 0, 6)
    assert book.study.best_value == pytest.approx(min(bpb(SPACE.recipe(t.params)) for t in book.study.trials))


def test_trials_of_a_dead_driver_are_adopted_with_their_number(tmp_path):
    first = ledger(tmp_path)
    finish(first, first.propose())
    running = first.propose()
    assert ledger(tmp_path).orphans() == []  # its driver lives
    first.presence.leave()
    second = ledger(tmp_path)
    adopted = second.orphans()
    assert [(p.number, p.recipe.hash) for p in adopted] == [(running.number, running.recipe.hash)]
    assert second.orphans() == []
    finish(second, adopted[0])
    assert second.counts()["complete"] == 2


def test_a_record_the_study_was_not_told_of_is_told_not_repeated(tmp_path):
    first = ledger(tmp_path)
    proposal = first.propose()
    run(proposal.recipe, first.trial_folder(proposal.recipe.hash), tmp_path / "cache")
    first.presence.leave()
    second = ledger(tmp_path)
    assert second.reconcile() == 1
    assert second.orphans() == []
    assert second.study.trials[0].value == pytest.approx(bpb(proposal.recipe))


def test_a_resume_proposes_what_would_have_been_proposed(tmp_path):
    whole, parts = ledger(tmp_path / "a", sampling={"seed": 4}), ledger(tmp_path / "b", sampling={"seed": 4})
    expected = []
    for _ in range(6):
        expected.append(whole.propose())
        finish(whole, expected[-1])
    for _ in range(3):
        finish(parts, parts.propose())
    parts.presence.leave()
    again = ledger(tmp_path / "b", sampling={"seed": 4})
    again.reconcile()
    for proposal in expected[3:]:
        found = again.propose()
        assert found.recipe.hash == proposal.recipe.hash
        finish(again, found)


def test_two_drivers_share_one_study(tmp_path):
    drivers = [ledger(tmp_path, target=8), ledger(tmp_path, target=8)]
    taken, active = [], list(drivers)
    while active:
        for book in list(active):
            proposal = book.propose()
            if proposal is None:
                active.remove(book)
            else:
                taken.append(proposal.recipe.hash)
                finish(book, proposal)
    assert len(taken) == len(set(taken)) == 8


def test_of_two_trials_with_one_recipe_the_later_withdraws(tmp_path):
    book = ledger(tmp_path)
    proposal = book.propose()
    twin = book.study.get_trials(deepcopy=True)[0]
    book.study.add_trial(twin)
    assert book._entries.withdraw_if_surplus(type(proposal)(1, proposal.recipe, proposal.forecast), book.target)
    assert book.study.trials[1].state == TrialState.FAIL
    assert book.counts()["failed"] == 0


def test_a_torn_last_line_of_the_journal_is_dropped(tmp_path):
    book = ledger(tmp_path)
    finish(book, book.propose())
    book.presence.leave()
    with open(tmp_path / JOURNAL, "ab") as file:
        file.write(b'{"op_code": 4, "worker')
    again = ledger(tmp_path)
    finish(again, again.propose())
    assert ledger(tmp_path).counts()["complete"] == 2


def test_states_cross_faithfully(tmp_path):
    book = ledger(tmp_path, pruner=MedianPruner(n_startup_trials=0))
    too_large, crashed, whole = (book.propose() for _ in range(3))
    assert book.rungs.report(too_large.number, {"step": 1, "progress": 0.5, "bpb": 2.5, "bytes": LIMIT * 2})
    reason = book.rungs.stopped(too_large.number)
    assert "over the limit" in reason
    record = Record(too_large.recipe.hash, 0, "baseline", "pruned", too_large.recipe.to_json(), reason=reason)
    book.finish(too_large.number, record)
    book.finish(crashed.number, Record(crashed.recipe.hash, 0, "baseline", "failed", crashed.recipe.to_json(), reason="NaN"))
    assert book.rungs.report(whole.number, {"step": 1, "progress": 0.5, "bpb": 2.0, "bytes": 100}) is None
    assert book.rungs.report(whole.number, {"step": 1, "progress": 0.5, "bpb": 2.0, "bytes": 100}) is None
    finish(book, whole)
    states = [t.state for t in book.study.trials]
    assert states == [TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
    first = book.study.trials[0]
    assert first.intermediate_values == {1: 2.5}
    assert first.constraints[OVER] == LIMIT
    assert book.study.trials[1].user_attrs["reason"] == "NaN"
    assert Record.load(book.trial_folder(too_large.recipe.hash)).state == "pruned"
    assert book.study.best_trial.number == 2


def test_a_finished_artifact_over_the_limit_ends_its_trial_unscored(tmp_path):
    book = ledger(tmp_path)
    proposal = book.propose()
    last = {"step": 4, "tokens": 9, "seconds": 2.0, "progress": 1.0, "trained": True}
    assert book.rungs.report(proposal.number, last | {"bytes": LIMIT}) is None
    assert "1 bytes over the limit at 100%" in book.rungs.report(proposal.number, last | {"bytes": LIMIT + 1})
    record = Record(proposal.recipe.hash, 0, "baseline", "pruned", proposal.recipe.to_json(), reason="over")
    book.finish(proposal.number, book.rungs.completed(proposal.number, record))
    kept = Record.read(book.trial_folder(proposal.recipe.hash))
    assert (kept.bytes, kept.seconds, kept.tokens, kept.trained) == (LIMIT + 1, 2.0, 9, True)
    assert kept.code_bytes == code_bytes(proposal.recipe)
    counts = book.counts()
    assert (counts["over_limit"], counts["pruned"], counts["complete"]) == (1, 1, 0)
    assert book.study.trials[0].constraints[OVER] == 1


def test_an_enqueued_trial_is_taken_up_and_one_that_cannot_fit_is_closed(tmp_path):
    book = ledger(tmp_path)
    large = SPACE.params(SPACE.preset) | {"bigram_hash": True, "value_residual": True}
    small = SPACE.params(SPACE.preset) | {"xsa": True}
    for params in (large, small):
        book.study.enqueue_trial(params)
    proposal = book.propose()
    assert "xsa" in proposal.recipe.to_json()["techniques"]
    assert book.counts()["not_fitting"] == 1
    assert book.counts()["pruned"] == 0


def test_a_torn_recipe_file_is_no_obstacle(tmp_path):
    first = ledger(tmp_path)
    proposal = first.propose()
    (first.trial_folder(proposal.recipe.hash) / "recipe.json").unlink()
    first.presence.leave()
    assert ledger(tmp_path).orphans()[0].recipe.hash == proposal.recipe.hash


def test_any_optuna_url_will_do(tmp_path):
    book = ledger(tmp_path, target=2, storage=open_storage(f"sqlite:///{tmp_path}/study.db", tmp_path))
    finish(book, book.propose())
    assert book.counts()["complete"] == 1
    with pytest.raises(ValueError, match="cannot be opened"):
        open_storage("nonsense://x", tmp_path)


def test_rungs_keep_their_documents_for_wilcoxon(tmp_path):
    book = ledger(tmp_path, pruner=WilcoxonRungPruner())
    first, second = book.propose(), book.propose()
    rung = {"step": 1, "progress": 0.5, "tokens": 9, "bpb": 2.0, "bytes": 100}
    assert book.rungs.report(first.number, rung | {"documents": [2.0] * 8}) is None
    finish(book, first)
    assert book.rungs.report(second.number, rung | {"documents": [2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7, 2.8]}) is not None
    assert book.study.trials[second.number].user_attrs[DOCUMENTS]["1"][0] == 2.1
    assert "by its score" in book.rungs.stopped(second.number)


def test_with_halving_only_complete_schedules_are_scored(tmp_path):
    book = ledger(tmp_path, pruner=Stopping(), halving=True)
    proposal = book.propose()
    truncated = {"step": 8, "progress": 0.25, "tokens": 8, "seconds": 1.0, "bpb": 3.0, "bytes": 100}
    assert book.rungs.report(proposal.number, truncated) is None
    complete = truncated | {"step": 4, "complete": True, "trainings": 0.25}
    assert "after a complete schedule of 8 tokens" in book.rungs.report(proposal.number, complete)
    trial = book.study.trials[proposal.number]
    assert trial.intermediate_values == {4: 3.0}
    record = Record(proposal.recipe.hash, 0, "baseline", "pruned", proposal.recipe.to_json(), reason="not promoted")
    book.finish(proposal.number, record)
    assert not record.trained
    assert book.spent() == {"trainings": 0.25, "seconds": 1.0}


def test_the_curve_goes_by_step_where_a_rung_was_reported_twice(tmp_path):
    book = ledger(tmp_path)
    number = book.propose().number
    for step, measured in ((6, 100), (6, 110), (12, 200), (18, 300)):
        book.rungs.report(number, {"step": step, "progress": step / 24, "bpb": 3 - step / 100, "bytes": measured})
    assert [(point["step"], point["bytes"]) for point in book.rungs.curve(number)] == [(6, 110), (12, 200), (18, 300)]


def test_a_complete_run_that_turned_out_over_the_limit_is_not_complete(tmp_path):
    book = ledger(tmp_path)
    proposal = book.propose()
    record = Record(proposal.recipe.hash, 0, "baseline", "complete", proposal.recipe.to_json(), bpb=1.0, bytes=LIMIT + 1)
    book.finish(proposal.number, record)
    assert book.study.trials[0].state == TrialState.PRUNED
    assert book.study.trials[0].constraints[OVER] == 1
    assert (book.counts()["complete"], book.counts()["over_limit"]) == (0, 1)
    assert book.best() is None


def test_a_driver_that_was_asking_while_another_took_the_last_place_withdraws(tmp_path):
    first, second = ledger(tmp_path, target=2), ledger(tmp_path, target=2, sampling={"seed": 1})
    finish(first, first.propose())
    honest, taken = first.sampler.propose, []

    def slow(*arguments):
        taken.extend(proposal for proposal in [second.propose()] if proposal is not None)
        return honest(*arguments)

    first.sampler.propose = slow
    assert first.propose() is None
    assert len(taken) == 1
    withdrawn = [t for t in first.study.trials if t.user_attrs.get("withdrawn")]
    assert [t.number for t in withdrawn] == [2]
    assert withdrawn[0].user_attrs["recipe"] != taken[0].recipe.hash  # it was no twin
    assert len(first.study.trials) == 3
    assert first.remaining() == second.remaining() == 0


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"xsa": "yes"}, "xsa='yes' must be one of False, True"),
        ({"xsa": 1}, "xsa=1 must be one of False, True"),
        ({"xas": True}, "no parameter 'xas'"),
    ],
)
def test_a_wrong_value_that_somebody_enqueued_fails_its_own_trial_only(tmp_path, params, said):
    book = ledger(tmp_path, target=3)
    running = book.propose()
    book.study.enqueue_trial(params)
    following = book.propose()
    assert following.number == 2
    wrong = book.study.trials[1]
    assert wrong.state == TrialState.FAIL
    assert said in wrong.user_attrs["reason"]
    for proposal in (running, following, book.propose()):
        finish(book, proposal)
    assert book.propose() is None
    assert (book.counts()["complete"], book.counts()["failed"]) == (3, 1)
    book.presence.leave()
    again = ledger(tmp_path, target=3)
    assert again.reconcile() == 0
    assert again.orphans() == []
    assert again.counts() == book.counts()
    write_experiment(tmp_path, {"name": "test", "state": "finished", "options": {}, "counts": {}, "seconds": 0, "resume": ""})
    assert [(row["trial"], row["log"]) for row in status_of(tmp_path)["failed"]] == [(1, "")]


def test_a_trial_whose_driver_died_before_it_had_a_recipe_is_enqueued_again(tmp_path):
    first = ledger(tmp_path)
    first.study.enqueue_trial({"xsa": True})
    first.study.ask()  # and nothing more is heard
    first.presence.leave()
    second = ledger(tmp_path)
    second.reconcile()
    assert second.orphans() == []
    assert second.counts()["failed"] == second.counts()["complete"] == 0
    proposal = second.propose()
    assert "xsa" in proposal.recipe.to_json()["techniques"]
    assert second.remaining() == 5


class Stopping(BasePruner):
    def prune(self, study, trial):
        return True
