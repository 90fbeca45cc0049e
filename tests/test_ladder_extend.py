"""A ladder that has ended is extended: by seeds, rungs and techniques; what ran stays."""

import json
import math

import pytest

from golflab.search.cli import ladder as command
from golflab.search.design.extend import merged, rungs_of, seconds_left, seeds_done
from golflab.search.design.ladder import Pace, rungs
from golflab.search.experiment.folder import append, read_plan
from golflab.search.experiment.start import options_of, resume
from golflab.search.upkeep.status import status_of
from tests.made import made
from tests.test_cli import golflab

PACE = {"nano": Pace(20_000, 5.0), "micro": Pace(9_000, 11.0)}
TECHNIQUES = ("smear_gate", "unet_skips", "ema")


def asked(durations=(5.0, 20.0), techniques=TECHNIQUES, scales=("nano",), **changes):
    return rungs("baseline", scales, durations, techniques, **changes)


def plan_of(found, seeds=2):
    return found.recipes([seeds] * len(found.rungs))


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """A ladder of two rungs with two seeds that has run to its end, at no cost; nothing runs on Ray."""
    monkeypatch.setattr("golflab.search.design.ladder.measure", lambda found, cache: PACE)
    plan = plan_of(asked())
    options = {"preset": "baseline", "scale": "nano", "binding": False, "rungs": False, "float_score": False, "limit": None}
    return made(tmp_path, "l", trials=len(plan), design="ladder", plan=plan, **options)


def extend(folder, **told):
    """`golflab ladder … --name l`, up to where it would run."""
    options = options_of(folder)
    made = command.plan("baseline", told["found"], PACE, told.get("budget", math.inf), 1, read_plan(folder))
    return append(options, made.recipes()), made


def test_rungs_are_read_back_from_a_plan():
    found = asked(scales=("nano", "micro"))
    back = rungs_of(plan_of(found))
    assert [(r.scale, round(r.tokens_per_parameter)) for r in back.rungs] == [
        (r.scale, r.tokens_per_parameter) for r in found.rungs
    ]
    for mine, theirs in zip(back.rungs, found.rungs, strict=True):
        assert {name: arm.hash for name, arm in mine.arms.items()} == {name: arm.hash for name, arm in theirs.arms.items()}
    assert set(back.techniques) == set(TECHNIQUES)
    assert seeds_done(back, plan_of(found, 3)) == [3] * 4


def test_what_is_new_joins_what_ran():
    before, more = rungs_of(plan_of(asked())), asked((5.0, 80.0), ("smear_gate", "xsa"))
    both = merged(before, more)
    assert [round(r.tokens_per_parameter) for r in both.rungs] == [5, 20, 80]
    assert set(both.rungs[0].arms) == {"", *TECHNIQUES, "xsa"}
    assert set(both.rungs[1].arms) == {"", *TECHNIQUES}
    assert seeds_done(both, plan_of(asked())) == [0, 2, 0]  # xsa has not run on the first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 5}, "seed: 0 then, 5 now"),
        ({"corpus": "/another/text"}, "data.corpus"),
        ({"techniques": ("smear_gate", "unet_skips", "ema:decay=0.5")}, "ema at nano"),
    ],
)
def test_another_ladder_is_no_extension(change, said):
    with pytest.raises(ValueError, match=said):
        merged(rungs_of(plan_of(asked())), asked(**change))


def test_seeds_and_rungs_are_added_and_what_ran_stays(ended):
    before = read_plan(ended)
    longer, told = extend(ended, found=merged(rungs_of(before), asked((5.0, 20.0, 80.0))))
    plan = read_plan(ended)
    assert [r.hash for r in plan[: len(before)]] == [r.hash for r in before]
    assert longer.trials == len(plan) == len(before) + 2 * 4
    assert told.json()["runs"] == 8
    assert [row["runs"] for row in told.json()["rungs"]] == [0, 0, 8]
    with pytest.raises(ValueError, match="in its plan already"):
        append(options_of(ended), plan)


def test_after_a_crash_behind_the_plan_a_resume_is_that_of_before(ended):
    """The plan's file is longer, and nothing else knows of it yet."""
    trials = options_of(ended).trials
    extend(ended, found=merged(rungs_of(read_plan(ended)), asked((5.0, 20.0, 80.0))))
    assert options_of(ended).trials == trials
    assert resume(ended).finished
    assert status_of(ended)["counts"]["complete"] == trials


def test_more_seeds_are_bought_where_they_tell_and_planned_runs_are_paid_first(ended):
    found = rungs_of(read_plan(ended))
    made = command.plan("baseline", found, PACE, 600.0, 1, read_plan(ended))
    told = made.json()
    assert 0 < told["seconds"] <= 600
    assert told["seconds"] == pytest.approx(sum(row["seconds"] for row in told["rungs"]))
    assert all(seeds >= 2 for seeds in made.seeds)
    assert sum(made.seeds) > 4
    assert not command.plan("baseline", found, PACE, -5.0, 1, read_plan(ended)).recipes()
    assert seconds_left(found, PACE, read_plan(ended), set()) == pytest.approx(
        2 * sum(r.seconds(PACE["nano"]) for r in found.rungs)
    )
    assert seconds_left(found, PACE, read_plan(ended), {r.hash for r in read_plan(ended)}) == 0


def test_a_search_or_a_running_ladder_is_not_extended(ended, tmp_path):
    with pytest.raises(ValueError, match="does not run a plan"):
        append(options_of(made(tmp_path, "s", trials=2)), plan_of(asked()))
    from golflab.search.ledger.drivers import Presence

    driver = Presence(ended)
    with pytest.raises(ValueError, match="is running"):
        append(options_of(ended), plan_of(asked((80.0,))))
    driver.leave()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resume", "l", "--budget", "1s"], "larger --budget"),
        (["resume", "l", "--budget", "50trainings"], "is a time"),
        (["ladder", "baseline", "--name", "l", "--scales", "nano", "--seed", "3"], "seed: 0 then, 3 now"),
        (["ladder", "baseline", "--name", "other", "--budget", "5gpuh"], "is a time"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(ended, monkeypatch, capsys, words, said):
    before = (ended / "plan.json").read_text()
    assert golflab(monkeypatch, *words, "--runs", str(ended.parent)) == 2
    assert said in capsys.readouterr().err
    assert (ended / "plan.json").read_text() == before


def test_plan_only_says_what_would_be_added(ended, monkeypatch, capsys):
    words = ["ladder", "baseline", "--name", "l", "--scales", "nano", "--durations", "5,80", "--technique", "ema"]
    assert golflab(monkeypatch, *words, "--runs", str(ended.parent), "--plan-only", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["runs"] == 4
    assert len(read_plan(ended)) == 16


def test_a_ladder_goes_on_with_a_larger_budget(ray_cluster, ended, monkeypatch, capsys):
    records = {path: path.read_bytes() for path in ended.glob("trials/*/record.json")}
    assert golflab(monkeypatch, "resume", "l", "--runs", str(ended.parent), "--budget", "3m", "--json") == 0
    told = status_of(ended)
    assert told["counts"]["complete"] > len(records) == 16
    assert told["state"] == "finished"
    assert all(path.read_bytes() == body for path, body in records.items())
    assert options_of(ended).trials == len(read_plan(ended)) == told["counts"]["complete"]
    assert resume(ended).finished
