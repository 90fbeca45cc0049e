"""What a run tells of itself while it works: its stages in their order, and every step."""

from __future__ import annotations

import contextlib
import itertools
from types import SimpleNamespace

import pytest

from golflab.model.run import run
from golflab.model.training.reporting import ReportingSource
from tests.contract_helpers import BASE, BATCH, made_up_corpus


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    corpus = made_up_corpus(tmp_path_factory.mktemp("corpus"))
    return BASE.with_(corpus=str(corpus), tokens=8 * BATCH, limit=10**7, layers=1)


def test_a_run_tells_its_stages_and_every_step(tiny, tmp_path):
    told = []
    settings = {"device": "cpu", "on_rung": lambda point: None, "on_stage": lambda *what: told.append(what)}
    run(tiny, None, tmp_path, **settings)
    stages = [stage for stage, _ in itertools.groupby(told, key=lambda what: what[0])]
    ends = ["packing", "scoring"]
    assert stages == ["preparing", "waiting", *["training", "measuring"] * 3, "training", *ends]
    steps = [how_far for stage, how_far in told if stage == "training" and how_far]
    assert [s["step"] for s in steps] == list(range(8))
    assert all((s["steps"], s["seconds"], s["batch_tokens"]) == (8, None, BATCH) for s in steps)
    assert told[-1] == ("scoring", {"progress": 1.0})
    told.clear()
    run(tiny, None, tmp_path, **settings)  # from the stage cache
    assert [how_far for stage, how_far in told if "step" in how_far] == []


def test_while_it_compiles_it_says_so(tiny):
    told = []
    tell = lambda stage, how_far: told.append((stage, how_far["step"]))
    source = ReportingSource(SimpleNamespace(batch=lambda *place: place), tiny.schedule, tell, priming=True)
    assert [source.batch(0), source.batch(7, 1, 2)] == [(0, 0, 1), (7, 1, 2)]
    assert told == [("compiling", 0), ("training", 7)]


def test_of_several_processes_only_the_first_tells_anything(tiny, tmp_path):
    """The others are sent their settings; nothing in them calls back."""
    sent = []

    def together(recipe, settings):
        sent.append(settings)
        return contextlib.nullcontext()

    run(tiny, None, tmp_path, device="cpu", together=together, on_stage=lambda *_: None, on_step=lambda _: None)
    assert not any(map(callable, sent[0].values()))
