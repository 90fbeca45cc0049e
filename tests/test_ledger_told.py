"""The ledger, statement by statement: what it is told of a trial, and how that trial ends."""

import pytest
from optuna.pruners import BasePruner
from optuna.trial import TrialState

from golflab.model.record import Record
from golflab.model.submission.script import code_bytes
from golflab.search.ledger.counts import OVER, SHORTER
from golflab.search.ledger.pruners import BYTES, DOCUMENTS, PROGRESS
from tests.ledgers import LIMIT, RUNG, ledger, record_of, trial_of


class Stopping(BasePruner):
    def prune(self, study, trial):
        return True


# ---------------------------------------------------------------------- told


def test_a_rung_leaves_its_scores_documents_and_bytes(tmp_path):
    book = ledger(tmp_path)
    proposal = book.propose()
    number = proposal.number
    assert book.rungs.report(number, RUNG | {"documents": [1.0, 2.0]}) is None
    assert book.rungs.report(number, RUNG | {"bpb": 9.0, "documents": [9.0], "bytes": 110}) is None  # measured once more
    assert book.rungs.report(number, {"step": 4, "bpb": 2.5, "documents": [0.5]}) is None  # no bytes
    assert book.rungs.report(number, {"step": 6, "bytes": 120}) is None  # no score
    assert book.rungs.report(number, RUNG | {"step": 8, "complete": True, "trainings": 1.0}) is None  # a shorter schedule's
    trial = trial_of(book, proposal)
    assert trial.intermediate_values == {2: 3.0, 4: 2.5}
    assert trial.user_attrs[DOCUMENTS] == {"2": [1.0, 2.0], "4": [0.5]}
    assert trial.user_attrs[BYTES] == [100, 110, 120, 100]
    assert trial.user_attrs[PROGRESS] == 0.25
    assert SHORTER not in trial.user_attrs
    assert book.rungs.curve(number) == [{"step": 2, "bpb": 3.0, "bytes": 110}, {"step": 4, "bpb": 2.5}]
    assert book.rungs.stopped(number) is None
    assert "trained" not in trial.user_attrs


def test_shorter_schedules_add_up_and_count_once(tmp_path):
    book = ledger(tmp_path, halving=True)
    proposal = book.propose()
    for step, trainings, seconds in ((4, 0.25, 1.0), (4, 0.25, 1.0), (8, 0.5, 3.0)):
        rung = RUNG | {"step": step, "complete": True, "trainings": trainings, "seconds": seconds}
        assert book.rungs.report(proposal.number, rung) is None
    assert trial_of(book, proposal).user_attrs[SHORTER] == {"trainings": 0.75, "seconds": 4.0}
    assert book.spent() == {"trainings": 1.75, "seconds": 4.0}  # and the whole one, which runs
    assert book.agreements() == []


def test_progress_that_is_not_told_is_none(tmp_path):
    book = ledger(tmp_path)
    proposal = book.propose()
    said = book.rungs.report(proposal.number, {"step": 1, "bytes": 2 * LIMIT})
    assert said == "640,000 bytes over the limit at 0% of the run"
    assert trial_of(book, proposal).user_attrs[PROGRESS] == 0.0
    assert trial_of(book, proposal).constraints[OVER] == LIMIT


def test_a_trial_that_is_stopped_says_why_and_stays_so(tmp_path):
    book = ledger(tmp_path, pruner=Stopping())
    first, second, third = (book.propose() for _ in range(3))
    assert book.rungs.report(first.number, {"step": 1, "bytes": 100}) is None  # without a score nothing is asked
    said = book.rungs.report(first.number, RUNG)
    assert said == "stopped by its score, at 25% of the run: 3.0000 bpb" == book.rungs.stopped(first.number)
    assert book.rungs.report(first.number, {"step": 3, "bytes": 100}) == said
    assert "trained" not in trial_of(book, first).user_attrs  # its own schedule had begun
    assert book.rungs.report(second.number, {"step": 2, "bpb": 2.5}) == "stopped by its score, at 0% of the run: 2.5000 bpb"
    large = book.rungs.report(third.number, RUNG | {"bytes": 2 * LIMIT, "complete": True})
    assert large == "640,000 bytes over the limit at 25% of the run"
    assert trial_of(book, third).user_attrs["trained"] is False


def test_a_record_that_is_cut_holds_what_the_last_rung_told(tmp_path):
    book = ledger(tmp_path, pruner=Stopping())
    silent, scored, ended = (book.propose() for _ in range(3))
    record = book.rungs.completed(silent.number, record_of(silent, "pruned", trained=True))
    assert (record.seconds, record.tokens, record.curve, record.bytes, record.trained) == (0.0, 0, [], None, True)
    book.rungs.report(scored.number, RUNG)
    record = book.rungs.completed(scored.number, record_of(scored, "pruned"))
    assert (record.seconds, record.tokens, record.bytes) == (1.5, 8, None)
    assert record.curve == [{"step": 2, "bpb": 3.0, "bytes": 100}]
    book.rungs.report(
        ended.number, {"step": 9, "seconds": 2.0, "tokens": 36, "progress": 1.0, "trained": False, "bytes": LIMIT + 5}
    )
    record = book.rungs.completed(ended.number, record_of(ended, "pruned"))
    assert (record.seconds, record.tokens, record.bytes, record.trained) == (2.0, 36, LIMIT + 5, False)
    assert record.code_bytes == code_bytes(ended.recipe)


@pytest.mark.parametrize(
    ("state", "told", "ends", "reason"),
    [
        ("complete", {"bpb": 2.0, "bytes": LIMIT}, TrialState.COMPLETE, None),
        ("complete", {"bpb": 2.0, "bytes": LIMIT + 1}, TrialState.PRUNED, "640,001 bytes do not fit"),
        ("complete", {"bpb": 2.0, "bytes": 100, "reason": "told"}, TrialState.COMPLETE, "told"),
        ("pruned", {"bytes": None}, TrialState.PRUNED, "0 bytes do not fit"),
        ("not_fitting", {"bytes": 5, "reason": "why"}, TrialState.PRUNED, "why"),
        ("failed", {"bytes": None, "reason": "NaN"}, TrialState.FAIL, "NaN"),
    ],
)
def test_how_a_record_ends_its_trial(tmp_path, state, told, ends, reason):
    book = ledger(tmp_path)
    proposal = book.propose()
    book.finish(proposal.number, record_of(proposal, state, seconds=3.5, trained=state != "pruned", **told))
    trial = trial_of(book, proposal)
    assert (trial.state, trial.user_attrs.get("reason")) == (ends, reason)
    assert trial.value == (told["bpb"] if ends == TrialState.COMPLETE else None)
    assert (trial.user_attrs["trained"], trial.user_attrs["seconds"]) == (state != "pruned", 3.5)
    assert trial.constraints.get(OVER) == (None if told["bytes"] is None else told["bytes"] - LIMIT)
    assert "taught" not in trial.user_attrs
    assert Record.read(book.trial_folder(proposal.recipe.hash)).state == state
    again = record_of(proposal, "failed", reason="later")
    book.finish(proposal.number, again)  # what has ended has ended
    assert (trial_of(book, proposal).state, trial_of(book, proposal).user_attrs.get("reason")) == (ends, reason)
    assert Record.read(book.trial_folder(proposal.recipe.hash)).state == state
    assert book.recorded(proposal)


def test_a_trial_keeps_the_bytes_it_was_stopped_for(tmp_path):
    book = ledger(tmp_path)
    proposal = book.propose()
    assert not book.recorded(proposal)
    book.rungs.report(proposal.number, RUNG | {"bytes": 2 * LIMIT})
    book.finish(proposal.number, record_of(proposal, "pruned", bytes=LIMIT + 7))
    assert trial_of(book, proposal).constraints[OVER] == LIMIT


def test_the_best_record_is_that_of_the_lowest_score_which_is_whole(tmp_path):
    book = ledger(tmp_path)
    assert book.best() is None
    proposals = [book.propose() for _ in range(4)]
    for proposal, bpb in zip(proposals, (2.2, 2.0, 2.1, 1.0), strict=True):
        state = "failed" if bpb == 1.0 else "complete"
        book.finish(proposal.number, record_of(proposal, state, bpb=bpb, bytes=9))
    assert book.best().bpb == 2.0
    path = book.trial_folder(proposals[1].recipe.hash)
    record_of(proposals[1], "failed", bpb=2.0).save(path)  # made again, and it went wrong
    assert book.best().bpb == 2.1
    (book.trial_folder(proposals[2].recipe.hash) / "record.json").write_text("{")
    assert book.best().bpb == 2.2
