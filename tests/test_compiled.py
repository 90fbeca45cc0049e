"""Compiled trainings: every recipe of a long-lived worker is compiled, whole, or its training fails."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from golflab.model.job import job
from golflab.model.job.job import Job
from golflab.model.recipe import Recipe
from golflab.model.shape import Schedule
from golflab.model.system.device import Place
from golflab.model.technique import parse
from golflab.model.training import compiled
from golflab.model.training.loop import train
from tests.contract_helpers import BATCH, TINY
from tests.test_train import source

SMALL = Recipe(
    dataclasses.replace(TINY, layers=1), Schedule(2 * BATCH, None, BATCH, BATCH), techniques=(parse("warmdown:fraction=1"),)
)
TWELVE = [
    *(SMALL.with_(seed=seed) for seed in range(3)),
    SMALL.with_(parse("xsa")),
    SMALL.with_(parse("smear_gate")),
    SMALL.with_(hidden=TINY.hidden + 8),
    SMALL.with_(layers=2),
    SMALL.with_(parse("leaky_relu_squared")),
    SMALL.with_(parse("ste_qat")),
    SMALL.with_(parse("depth_recurrence:first=0,final=0,begin=0.5"), parse("ste_qat")),
    SMALL.with_(parse("softcap")),
    SMALL.with_(parse("ln_scale")),
]


@pytest.fixture
def calls(monkeypatch):
    """How often a compiled graph was run, by a backend that compiles nothing."""
    found = []

    def backend(graph, inputs):
        def run(*arguments):
            found.append(graph)
            return graph.forward(*arguments)

        return run

    monkeypatch.setattr(compiled, "BACKEND", backend)
    return found


def test_twelve_recipes_in_one_process_are_all_compiled(calls, monkeypatch):
    monkeypatch.setattr(compiled, "MOST_GRAPHS", 4)  # what the largest of them needs; together they need four times as many
    graphs = []
    for recipe in TWELVE:
        calls.clear()
        done = train(recipe, source(recipe), compiled=True)
        assert len(calls) == 4 + recipe.schedule.steps  # four to prime it, and every step
        graphs.append(done.graphs)
    assert graphs == [1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 1, 1]


@pytest.mark.parametrize(
    ("device", "schedule", "expected"),
    [
        ("cuda", {"tokens": 1_000 * BATCH}, True),
        ("cuda", {"tokens": 999 * BATCH}, False),
        ("cuda", {"tokens": None, "seconds": 600.0}, True),
        ("cpu", {"tokens": 10_000 * BATCH}, False),
    ],
)
def test_short_trainings_are_not_compiled_unless_asked(tmp_path, monkeypatch, device, schedule, expected):
    monkeypatch.setattr(Place, "choose", lambda *a: Place(torch.device(device), torch.float32))
    monkeypatch.setattr(job, "load_corpus", lambda *a: SimpleNamespace(fingerprint="text"))
    monkeypatch.setattr(job, "prepared", lambda *a: SimpleNamespace(tokenizer=SimpleNamespace(fingerprint="ids")))
    recipe = SMALL.with_(**schedule)
    assert Job.begin(recipe, tmp_path, "auto", None).compiled is expected
    assert Job.begin(recipe, tmp_path, "auto", not expected).compiled is not expected


def test_a_training_that_is_not_compiled_says_so():
    assert train(SMALL, source(SMALL)).graphs == 0


def test_more_graphs_than_the_limit_are_an_error_and_not_a_slower_training(calls, monkeypatch):
    monkeypatch.setattr(compiled, "MOST_GRAPHS", 1)
    recipe = TWELVE[9]
    with pytest.raises(Exception, match=r"(?i)recompile"):
        train(recipe, source(recipe), compiled=True)


def test_micro_batches_of_unequal_size_are_compiled_before_the_clock_starts(calls, monkeypatch):
    monkeypatch.setattr(compiled, "MOST_GRAPHS", 2)
    recipe = SMALL.with_(batch_tokens=3 * TINY.context, micro_tokens=3 * TINY.context, tokens=6 * TINY.context)
    assert train(recipe, source(recipe), compiled=True, micro_tokens=2 * TINY.context).graphs == 2
    assert len(calls) == 2 * 4 + 2 * 2


def test_the_compiler_is_left_as_it_was(calls):
    import torch._dynamo

    before = torch._dynamo.config.recompile_limit, torch._dynamo.config.fail_on_recompile_limit_hit
    train(SMALL, source(SMALL), compiled=True)
    assert (torch._dynamo.config.recompile_limit, torch._dynamo.config.fail_on_recompile_limit_hit) == before
