"""The ledger, statement by statement: what it proposes, adopts and makes again, and what it writes of that."""

import pytest
from fake_runs import Forecaster, run, size
from optuna.trial import TrialState

from golflab.model.record import Record
from golflab.search.ledger.counts import OVER
from golflab.search.sampler.selection import REFUSED, Proposed
from golflab.spaces.space import Space
from tests.ledgers import LARGE, LIMIT, OFF, PLAN, RUNG, SPACE, Learning, Recalling, finish, ledger, record_of, trial_of

# ---------------------------------------------------------------------- asked


def test_what_the_sampler_is_told(tmp_path):
    book = ledger(tmp_path)
    assert book.sampler._size.overrun(LARGE) == size(SPACE.recipe(LARGE)) / LIMIT
    assert book.sampler._seed == 0
    assert book.sampler._design == 4
    assert ledger(tmp_path, sampling={"design": 7}).sampler._design == 7
    later = Space("later", SPACE.preset, techniques=("xsa", "zstd_codec"))
    for asked, variants in (({}, 0), ({"variants": 2}, 2)):
        book_of_variants = ledger(tmp_path / str(variants), space=later, sampling=asked)
        assert book_of_variants.sampler._variants.count == variants
    assert [SPACE.recipe(params).hash for params in book.problem.starts] == [SPACE.preset.hash]


def test_a_forecast_is_worked_out_once_until_something_is_learned(tmp_path):
    book = ledger(tmp_path, forecaster=Learning())
    proposal = book.propose()
    book.problem.forecaster.asked.clear()
    assert book.problem.chance_that_fits(proposal.recipe) == 1.0
    assert book.problem.forecaster.asked == []
    book.problem.learn(record_of(proposal))
    assert book.problem.forecast(proposal.recipe)["mid"] == proposal.forecast["mid"] + 1
    assert book.problem.forecaster.asked == [proposal.recipe.hash]


def test_a_proposal_enters_what_was_asked_and_refused_on_the_way(tmp_path):
    book = ledger(tmp_path)
    assert book.refusal() is None
    found = Proposed(OFF | {"xsa": True}, 3, 2, "posterior", LARGE)
    book.sampler.propose = lambda trials, number: found
    proposal, large = book.propose(), SPACE.recipe(LARGE)
    told = trial_of(book, proposal).user_attrs
    assert (told["asked"], told["not_fitting"], told["source"]) == (3, 2, "posterior")
    assert (told["recipe"], told["driver"]) == (proposal.recipe.hash, book.presence.name)
    assert book.refusal() == {"recipe": large.to_json(), "bytes": Forecaster()(large)}
    assert trial_of(book, proposal).params == found.params
    assert (book.trial_folder(proposal.recipe.hash) / "recipe.json").exists()
    book.sampler.propose = lambda trials, number: Proposed(None, 5, 5, "none")
    assert book.propose() is None
    assert len(book.study.trials) == 1


def test_a_proposal_counts_although_combinations_were_refused_before_it(tmp_path):
    """It counted as never started, so that a search ran on for one trial more after each of them."""
    book = ledger(tmp_path, target=1)
    book.sampler.propose = lambda trials, number: Proposed(OFF, 2, 1, "design", LARGE)
    finish(book, book.propose())
    assert book.remaining() == 0
    assert book.propose() is None


def test_an_invalid_request_is_no_example_of_what_is_too_large(tmp_path):
    book = ledger(tmp_path)
    book.enqueue(OFF | {"xsa": "perhaps"})
    book.propose()
    assert book.refusal() is None
    assert book.study.trials[0].user_attrs["invalid"].startswith("enqueued: xsa='perhaps'")


def test_what_is_enqueued_is_counted_as_asked_for(tmp_path):
    book = ledger(tmp_path)
    for params in (LARGE, OFF | {"xsa": True}):
        book.enqueue(params)
    proposal, large = book.propose(), SPACE.recipe(LARGE)
    refused, taken = book.study.trials
    assert proposal.number == 1
    assert (refused.state, refused.user_attrs["reason"]) == (TrialState.PRUNED, "its forecast does not fit")
    assert (refused.user_attrs["asked"], refused.user_attrs["not_fitting"]) == (1, 1)
    assert refused.constraints[OVER] == size(large) - LIMIT
    assert book.refusal() == {"recipe": large.to_json(), "bytes": Forecaster()(large)}
    assert (taken.user_attrs["asked"], taken.user_attrs["not_fitting"]) == (1, 0)
    assert taken.user_attrs["driver"] == refused.user_attrs["driver"] == book.presence.name
    assert book.counts()["asked"] == 2
    book.enqueue(OFF | {"smear_gate": True})
    book.chance = lambda recipe: REFUSED  # hardly a chance, and yet one
    assert book.propose().number == 2


def test_a_withdrawn_trial_says_why(tmp_path):
    first, second = ledger(tmp_path, target=1), ledger(tmp_path, target=1)
    twin = first.propose()
    copied = first.study.get_trials(deepcopy=True)[0]
    first.study.add_trial(copied)
    assert first._entries.withdraw_if_surplus(type(twin)(1, twin.recipe, twin.forecast), first.target)
    other = second._entries.enter(SPACE.recipe(OFF | {"xsa": True}), {}, {}, {})
    assert second._entries.withdraw_if_surplus(other, second.target)
    assert not first._entries.withdraw_if_surplus(twin, first.target)
    reasons = [t.user_attrs.get("reason") for t in first.study.trials]
    assert reasons == [None, "another driver was first", "the search was full"]
    assert [t.user_attrs.get("withdrawn", False) for t in first.study.trials] == [False, True, True]
    assert first.remaining() == 0
    assert ledger(tmp_path, target=0).remaining() == 0


# ---------------------------------------------------------------------- a plan


def test_a_plan_is_run_in_its_order_and_what_cannot_fit_is_closed_and_counted(tmp_path):
    first = ledger(tmp_path, plan=PLAN, proposes=False)
    one = first.propose()
    finish(first, one)
    first.presence.leave()
    second = ledger(tmp_path, plan=PLAN, proposes=False)
    two = second.propose()
    assert [one.recipe, two.recipe] == [PLAN[0], PLAN[2]]
    finish(second, two)
    assert second.propose() is None
    refused = second.study.trials[1]
    assert (refused.state, refused.user_attrs["reason"]) == (TrialState.PRUNED, "its forecast does not fit")
    assert refused.constraints[OVER] == size(PLAN[1]) - LIMIT
    told = [[t.user_attrs[key] for key in ("asked", "not_fitting", "source")] for t in second.study.trials]
    assert told == [[1, 0, "plan"], [1, 1, "plan"], [1, 0, "plan"]]
    assert [t.params for t in second.study.trials] == [{}, {}, {}]
    counts = second.counts()
    assert (counts["asked"], counts["not_fitting"], counts["pruned"], counts["complete"]) == (3, 1, 0, 2)
    third = ledger(tmp_path / "other", plan=PLAN, proposes=False)
    third.problem.chance_that_fits = lambda recipe: REFUSED
    assert third.propose().recipe == PLAN[0]
    assert third.propose().recipe == PLAN[1]


def test_a_search_begins_with_its_plan_whatever_its_size_and_learns_from_it(tmp_path):
    elsewhere = SPACE.preset.with_(tokens=9 * 2**20)
    book = ledger(tmp_path, plan=[PLAN[1], PLAN[0].with_(seed=3), elsewhere], sampling={"design": 9})
    large, seed, other = (book.propose() for _ in range(3))
    assert [p.recipe for p in (large, seed, other)] == [PLAN[1], PLAN[0].with_(seed=3), elsewhere]
    assert trial_of(book, large).user_attrs["not_fitting"] == 0
    assert trial_of(book, large).params == LARGE
    assert trial_of(book, seed).params == OFF | {"xsa": True}
    assert trial_of(book, other).params == {}
    assert book.rungs.report(large.number, RUNG | {"bytes": 2 * LIMIT}) is None  # the limit does not bind a design
    book.finish(large.number, record_of(large, bpb=2.0, bytes=2 * LIMIT))
    assert trial_of(book, large).state == TrialState.COMPLETE
    proposed = book.propose()
    assert trial_of(book, proposed).user_attrs["source"] != "plan"
    assert "over the limit" in book.rungs.report(proposed.number, RUNG | {"bytes": 2 * LIMIT})


def test_the_limit_binds_an_ablation(tmp_path):
    book = ledger(tmp_path, plan=PLAN[:1], proposes=False)
    proposal = book.propose()
    assert "over the limit" in book.rungs.report(proposal.number, RUNG | {"bytes": 2 * LIMIT})
    book.finish(proposal.number, record_of(proposal, bpb=2.0, bytes=LIMIT + 1))
    assert trial_of(book, proposal).state == TrialState.PRUNED


# ---------------------------------------------------------------------- drivers that are gone


def test_what_happened_to_a_trial_is_kept_in_order(tmp_path):
    first, second = ledger(tmp_path), ledger(tmp_path)
    ours, theirs = first.propose(), second.propose()
    first.lost(ours.number)
    first.lost(ours.number)
    first.presence.leave()
    third = ledger(tmp_path)
    assert third.has_orphans()
    assert third.orphans() == [ours]
    assert not third.has_orphans()
    lost = "its worker was lost: handed out again"
    told = trial_of(third, ours).user_attrs
    assert told["history"] == [lost, lost, "its driver was gone: continued by another"]
    assert told["driver"] == third.presence.name
    assert trial_of(third, theirs).user_attrs["driver"] == second.presence.name
    assert third.damaged() == []


def test_an_adopted_trial_runs_what_its_folder_or_its_plan_says(tmp_path):
    first = ledger(tmp_path, plan=PLAN, proposes=False)
    planned = first.propose()
    path = first.trial_folder(planned.recipe.hash) / "recipe.json"
    first.presence.leave()
    path.unlink()
    second = ledger(tmp_path, plan=PLAN, proposes=False)
    assert [p.recipe for p in second.orphans()] == [PLAN[0]]  # it has no parameters
    second.presence.leave()
    other = ledger(tmp_path, plan=PLAN[1:], proposes=False)
    assert [p.recipe for p in other.orphans()] == [PLAN[0]]  # written down again by the second
    other.presence.leave()
    assert [p.recipe for p in ledger(tmp_path).orphans()] == [PLAN[0]]


@pytest.mark.parametrize("enqueued", [True, False])
def test_a_trial_without_a_recipe_is_withdrawn_and_what_was_enqueued_waits_again(tmp_path, enqueued):
    first = ledger(tmp_path)
    if enqueued:
        first.enqueue(OFF | {"xsa": True})
    first.study.ask()
    first.presence.leave()
    second = ledger(tmp_path)
    assert second.orphans() == []
    trials = second.study.trials
    assert [t.state for t in trials] == [TrialState.FAIL, *([TrialState.WAITING] if enqueued else [])]
    assert trials[0].user_attrs["reason"] == "its driver was gone before it had a recipe"
    assert trials[0].user_attrs["withdrawn"] is True


def test_a_finished_trial_whose_record_is_damaged_is_made_again(tmp_path):
    first = ledger(tmp_path)
    done, kept, gone, running = (first.propose() for _ in range(4))
    for proposal in (done, kept, gone):
        finish(first, proposal)
    path = first.trial_folder(done.recipe.hash) / "record.json"
    (first.trial_folder(gone.recipe.hash) / "record.json").unlink()
    (first.trial_folder(running.recipe.hash) / "record.json").write_text("{")  # its driver will write it
    before = first.counts()
    for times in (1, 2):
        path.write_text("{")
        assert first.has_orphans()
        assert first.damaged() == [done]
        assert first.damaged() == []
        assert path.with_suffix(".damaged").read_text() == "{"
        assert first.study.user_attrs["made_again"] == [done.number] * times
        assert first.rungs.report(done.number, RUNG | {"step": 77}) is None
        finish(first, done)
        assert Record.read(path.parent).state == "complete"
    assert 77 not in trial_of(first, done).intermediate_values
    assert first.counts() == before


def test_a_driver_is_told_what_records_say_of_the_dead_and_not_of_the_living(tmp_path):
    first, second = ledger(tmp_path), ledger(tmp_path)
    dead = [first.propose() for _ in range(3)]
    living = second.propose()
    for proposal in (*dead[:2], living):
        run(proposal.recipe, first.trial_folder(proposal.recipe.hash), tmp_path / "cache")
    first.presence.leave()
    third = ledger(tmp_path)
    assert third.reconcile() == 2
    states = [t.state for t in third.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING, TrialState.RUNNING]
    assert third.orphans() == [dead[2]]


def test_a_resume_teaches_the_forecaster_what_finished_trials_showed(tmp_path):
    first = ledger(tmp_path, forecaster=Learning())
    ends = (("complete", {"bpb": 2.0}), ("failed", {}), ("pruned", {}), ("complete", {"bpb": 2.1}), ("complete", {"bpb": 2.2}))
    proposals = [first.propose() for _ in ends]
    first.propose()  # still runs
    for proposal, (state, told) in zip(proposals, ends, strict=True):
        first.finish(proposal.number, record_of(proposal, state, bytes=9, **told))
    names = [p.recipe.hash for p, (state, _) in zip(proposals, ends, strict=True) if state != "failed"]
    assert first.study.trials[0].user_attrs["taught"] == {"of": names[0]}

    def taught(kind, remembers=None, edited=()):
        again = ledger(tmp_path, forecaster=kind())
        again.problem.forecaster.edited = edited
        if remembers is not None:
            again.problem.forecaster.remembers = remembers
        again.reconcile()
        return again.problem.forecaster.taught

    assert taught(Learning) == names
    assert taught(Recalling) == [f"recalled {name}" for name in names[-2:]]
    assert taught(Recalling, edited=names[-1:]) == [f"recalled {names[-2]}", names[-1]]
    assert taught(Recalling, remembers=5) == [f"recalled {name}" for name in names[:2]] + [
        f"recalled {name}" for name in names[2:]
    ]
    assert taught(Learning, remembers=4) == names


@pytest.mark.parametrize("recorded", [False, True])
def test_a_driver_that_died_before_it_saw_that_another_was_first_leaves_no_twin(tmp_path, recorded):
    first, second = ledger(tmp_path), ledger(tmp_path)
    proposal = first.propose()
    second._entries.enter(proposal.recipe, {}, {}, {"asked": 1, "not_fitting": 0})  # and is killed before it looks
    second.presence.leave()
    if recorded:
        finish(first, proposal)
    third = ledger(tmp_path)
    assert third.reconcile() == 0
    assert third.orphans() == []
    states = [(t.state, t.user_attrs.get("withdrawn", False)) for t in third.study.trials]
    assert states == [(TrialState.COMPLETE if recorded else TrialState.RUNNING, False), (TrialState.FAIL, True)]
