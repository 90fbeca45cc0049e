from __future__ import annotations

import io

import pytest
from rich.console import Console

from golflab.analysis.report.words import counts_in_words
from golflab.model.system.wording import did_you_mean, number_of, was
from golflab.search.terminal import show
from golflab.search.upkeep.repair import Rebuilt


def test_the_most_similar_name_is_proposed_and_none_where_nothing_is_similar():
    assert did_you_mean("trial", ["seed", "trials", "trains"]) == " Did you mean 'trials'?"
    assert did_you_mean("zzz", ["seed", "trials"]) == ""
    assert did_you_mean("gate", ["smear_gate"], cutoff=0.5) == " Did you mean 'smear_gate'?"
    assert did_you_mean("gate", ["smear_gate"], cutoff=0.8) == ""


def test_a_noun_follows_its_count():
    counts = (0, 1, 2, 1024, 1.0, 2.5)
    assert [number_of(count, "trial") for count in counts] == [
        *("0 trials", "1 trial", "2 trials", "1,024 trials", "1 trial", "2.5 trials")
    ]
    assert [was(count) for count in (0, 1, 2)] == ["were", "was", "were"]


@pytest.mark.parametrize(
    ("count", "sentences"),
    [
        (
            0,
            "The search considered 0 recipes. None was refused for its size. 0 trainings ran; 0 runs completed, 0 were stopped "
            "early, and 0 failed.",
        ),
        (
            1,
            "The search considered 1 recipe. 1 of them could not fit the byte limit and was not trained. 1 training ran; 1 run "
            "completed, 1 was stopped early (1 of them because the measured bytes exceeded the limit), and 1 failed.",
        ),
        (
            2,
            "The search considered 2 recipes. 2 of them could not fit the byte limit and were not trained. 2 trainings ran; 2 "
            "runs completed, 2 were stopped early (2 of them because the measured bytes exceeded the limit), and 2 failed.",
        ),
    ],
)
def test_a_report_counts_in_singular_and_plural(count, sentences):
    kinds = ("asked", "not_fitting", "trained", "over_limit", "pruned", "failed", "complete")
    assert counts_in_words(dict.fromkeys(kinds, count)) == sentences


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, ("0 running of 0 trials", "0 of 0 combinations could not fit and were not started", "0 were stopped because")),
        (1, ("0 running of 1 trial;", "1 of 1 combination could not fit and was not started", "1 was stopped because")),
        (2, ("0 running of 2 trials", "2 of 2 combinations could not fit and were not started", "2 were stopped because")),
        (10_000, ("0 running; 10000 trained",)),  # what only a budget limits has no number of trials
    ],
)
def test_a_status_counts_in_singular_and_plural(count, words):
    kinds = ("asked", "not_fitting", "trained", "over_limit", "pruned", "failed", "complete")
    summary = {"name": "s", "state": "finished", "reason": "", "seconds": 1.0, "trials": count, "running": [], "failed": []}
    summary |= {"counts": dict.fromkeys(kinds, count), "spent": {}, "rungs": [], "best": None, "budget": ""}
    console = Console(record=True, width=300, file=io.StringIO())
    show.status(console, summary)
    printed = " ".join(console.export_text().split())
    assert all(part in printed for part in words), printed


@pytest.mark.parametrize(
    ("count", "trials", "lines", "records"),
    [
        (
            1,
            "1 trial was taken",
            "1 damaged line of the journal was left out",
            "1 damaged record was left out, and its trial",
        ),
        (
            2,
            "2 trials was taken",
            "2 damaged lines of the journal were left out",
            "records were left out, and their trials",
        ),
    ],
)
def test_a_repair_counts_in_singular_and_plural(count, trials, lines, records):
    done = Rebuilt("s", True, {"complete": count}, from_records=count, lines=[1] * count, damaged=["x"] * count)
    assert all(part in " ".join(done.sentences()) for part in (trials, lines, records)), done.sentences()
