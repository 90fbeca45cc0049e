"""Growing sequences against steps that are written out."""

import dataclasses

import numpy as np
import pytest
import torch

from golflab.model.network.initialize import initialize
from golflab.model.shape import Shape
from golflab.model.technique import find, parse
from golflab.model.training.loop import _micro_batches, train
from golflab.model.training.optimizers import Optimizers
from tests.contract_helpers import BASE, GPT, TINY, stream, weights_of

KNOBS = "context_growth:first=0.25,middle=0.75,middle_from=0.25,full_from=0.75,warm=0.25"
PLAIN = BASE.with_(tokens=8 * 64)


def test_the_published_lengths_and_changes():
    growth = parse("context_growth").build(dataclasses.replace(Shape(), context=3072))
    assert growth.stages == ((0.0, 1024), (0.1, 2048), (0.7, 3072))
    assert [growth.length(p) for p in (0.0, 0.099, 0.1, 0.69, 0.7, 1.0)] == [1024, 1024, 2048, 2048, 3072, 3072]


def test_rates_rise_again_after_each_change_and_not_at_the_start():
    growth = parse("context_growth:warm=0.1").build(Shape())
    found = [growth.factor(p) for p in (0.0, 0.05, 0.1, 0.15, 0.2, 0.69, 0.7, 0.775, 0.9)]
    assert found == pytest.approx([1, 1, 0, 0.5, 1, 1, 0, 0.75, 1])
    assert parse("context_growth:warm=0").build(Shape()).factor(0.1) == 1


def test_stages_without_time_or_change_are_left_out():
    shape = dataclasses.replace(Shape(), context=64)
    assert parse("context_growth:first=0.5,middle=0.5").build(shape).stages == ((0.0, 32), (0.7, 64))
    assert parse("context_growth:middle_from=0").build(shape).stages == ((0.0, 43), (0.7, 64))
    assert parse("context_growth:first=1,middle=1").build(shape).stages == ((0.0, 64),)
    with pytest.raises(ValueError, match=r"middle_from=0.8 is later than full_from=0.7"):
        PLAIN.with_(parse("context_growth:middle_from=0.8")).check()


def test_a_cut_batch_holds_every_token_once_beside_its_own_target():
    ids = torch.arange(5 * 32).view(5, 32)
    parts = _micro_batches(ids, ids + 1, 64, 12)
    assert [tuple(i.shape) for i, _ in parts] == [(5, 12), (5, 12), (5, 8)]
    assert {i.size(1) for i, _ in parts} == {12, 8}
    assert sorted(torch.cat([i.flatten() for i, _ in parts]).tolist()) == list(range(160))
    for i, t in parts:
        assert torch.equal(t, i + 1)
        assert (i[:, 1:] - i[:, :-1] == 1).all()
        assert all(int(row[0]) // 32 == int(row[-1]) // 32 for row in i), "no sequence goes beyond its row"


def by_hand(recipe, growth):
    """Every step written out: rows cut into sequences, the mean over all tokens, the schedule times the rising factor."""
    model = GPT(recipe)
    initialize(model, recipe)
    optimizers, schedule = Optimizers(model, recipe), recipe.build("schedule")
    source = recipe.build("batches")(stream(), recipe.schedule.batch_tokens, recipe.seed)
    for step in range(8):
        ids, targets = source.batch(step)
        progress, length = step / 8, {0: 8, 1: 8}.get(step, 24 if step < 6 else 32)
        model.set_progress(progress)
        total = torch.zeros(())
        for row, wanted in zip(ids, targets, strict=True):
            for a in range(0, 32, length):
                total = total + model.nats(row[None, a : a + length], wanted[None, a : a + length]).sum()
        (total / ids.numel()).backward()
        optimizers.step(schedule(progress) * {2: 0.0, 3: 0.5, 6: 0.0, 7: 0.5}.get(step, 1.0), progress)
        model.zero_grad(set_to_none=True)
    return weights_of(model)


def test_it_trains_as_the_steps_written_out_do():
    recipe = PLAIN.with_(parse(KNOBS))
    source = recipe.build("batches")(stream(), recipe.schedule.batch_tokens, recipe.seed)
    fast, slow = train(recipe, source).weights, by_hand(recipe, parse(KNOBS).build(TINY))
    plain = train(PLAIN, source).weights
    moved = max(float((fast[n] - plain[n]).abs().max()) for n in fast)
    assert max(float((fast[n] - slow[n]).abs().max()) for n in fast) < 0.02 * moved
    assert moved > 1e-3


def test_what_waits_for_a_low_rate_does_not_see_the_rising_factor():
    """An average that begins when the schedule falls below a threshold begins at the same step with and without growth."""
    seen = []

    class Watching:
        name = "swa"

        def update(self, parameters, step, progress, multiplier):
            seen.append(multiplier)

    from golflab.model.training import loop

    recipe = PLAIN.with_(parse(KNOBS))
    source = recipe.build("batches")(stream(), recipe.schedule.batch_tokens, recipe.seed)
    state = loop.TrainingState(recipe, torch.device("cpu"), torch.float32)
    state.averages = [(find("swa")(), Watching())]
    parts = loop.StepParts(
        state.model, source, recipe.build("schedule"), recipe.build("growth"), None, None, [], recipe.schedule.micro_tokens
    )
    for step in range(3):
        loop._step(state, parts, step / 8)
    assert seen == pytest.approx([1.0, 1 - 1 / 8, 1 - 2 / 8])
    assert np.isfinite(state.losses).all()
