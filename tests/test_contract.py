"""The contract every technique keeps, checked over the whole catalogue: a new technique file is covered without an edit here.

The numbers are those of the fourteen points; how techniques act exactly is tested beside each in ``tests/techniques``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from golflab.model.compression.artifact import unpack
from golflab.model.compression.forecast import forecast
from golflab.model.evaluation.score import Evaluator
from golflab.model.network.layers import Linear, Scale, Table, parameters_of
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS, STAGES
from golflab.model.technique import Knob, catalogue, find, parse
from golflab.model.training.optimizers import Adam, Optimizers
from golflab.model.training.state import TrainingState
from tests.contract_helpers import (
    BASE,
    FULL,
    NAMES,
    TEXT_KNOBS,
    TINY,
    TRAINED_STAGES,
    Bytes,
    again,
    awake,
    default,
    documents,
    finished,
    finite,
    fresh,
    ids_and_targets,
    is_default,
    of_stage,
    recipe_with,
    refused,
    scored,
    stream,
    switched_off,
    trained,
    untrained,
    weights_of,
)

every = pytest.mark.parametrize("name", NAMES)
every_model = pytest.mark.parametrize("name", of_stage("model"))
every_trained = pytest.mark.parametrize("name", of_stage("model", "train"))
every_stored = pytest.mark.parametrize("name", of_stage("quantise", "pack"))
every_scoring = pytest.mark.parametrize("name", of_stage("evaluate"))


def with_(name: str) -> Recipe:
    return recipe_with(default(name))


# ------------------------------------------------------------------------------------------------ 1 documented


@every
def test_is_documented_with_a_source_and_defaults_inside_their_ranges(name):
    cls = find(name)
    assert cls.name == name
    assert cls.slot in SLOTS
    assert cls.stage() in STAGES
    assert 20 <= len(cls.summary()) <= 160
    assert cls.summary().endswith((".", ":"))
    assert cls.sources
    assert all(isinstance(source, str) and source for source in cls.sources)
    for knob, rule in cls.knobs().items():
        value = getattr(cls(), knob)
        assert rule.allows(value), f"{knob}={value} is not {rule}"
        assert rule.choices or rule.low < rule.high
        assert not rule.log or rule.low > 0, f"{knob} is searched on a log scale from {rule.low}"
    for other, why in [*cls.clashes.items(), *cls.needs.items()]:
        assert find(other).name == other
        assert why.strip().endswith("."), f"the user is shown {why!r}"


# ------------------------------------------------------------------------------------------------ 2 builds everywhere


@every
def test_builds_and_runs_at_every_bound_or_says_why_not(name):
    """Every bound of every knob gives a recipe that trains a step and scores, or one clear refusal."""
    technique, base = default(name), with_(name)
    tried = 0
    for knob, rule in type(technique).knobs().items():
        for value in bounds(knob, rule):
            recipe = base.with_(dataclasses.replace(technique, **{knob: value}), tokens=64)
            if (refusal := refused(recipe)) is not None:
                assert name in refusal
                assert len(refusal) > 30
                continue
            tried += 1
            _, blob = finished(recipe, trained(recipe).chosen(recipe.technique_in("average")))
            assert finite(recipe, blob), f"{knob}={value}"
    assert tried or not type(technique).knobs()


def bounds(knob: str, rule: Knob) -> tuple[Any, ...]:
    """The ends of a range; of one that counts text only the low end, for the other takes minutes."""
    if rule.choices:
        return rule.choices if len(rule.choices) <= 3 else (rule.choices[0], rule.choices[-1])
    return (rule.low,) if knob in TEXT_KNOBS else (rule.low, rule.high)


@every
def test_rescales_to_another_body_and_back_inside_its_ranges(name):
    technique = find(name)()
    for shape in (TINY, FULL, dataclasses.replace(FULL, layers=1), dataclasses.replace(FULL, width=2048, heads=16)):
        moved = technique.rescale(FULL, shape)  # out of range raises
        assert type(moved) is type(technique)
    assert technique.rescale(FULL, FULL) == technique


# ------------------------------------------------------------------------------------------------ 3 JSON


@every
def test_survives_json_and_the_command_line(name):
    recipe = with_(name)
    back = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert back == recipe
    assert back.hash == recipe.hash
    for technique in recipe.techniques:
        assert parse(str(technique)) == technique


# -------------------------------------------------------------------------------- 4, 5 off leaves no trace, shared tensors


@every
def test_off_leaves_no_trace(name):
    technique = default(name)
    base = switched_off(technique, with_(name))
    off = switched_off(technique, recipe_with(technique, base))
    assert name not in {t.name for t in off.techniques}
    if not is_default(name):
        bare = BASE.without(*(t.name for t in BASE.techniques))
        assert off.techniques_in(technique.slot) == bare.techniques_in(technique.slot)
    assert off == base
    assert off.hash == base.hash
    a, b = fresh(base), fresh(off)
    assert list(weights_of(a)) == list(weights_of(b))
    ids, _ = ids_and_targets()
    assert torch.equal(a.logits(ids), b.logits(ids))


@every_model
def test_shared_tensors_start_bit_identical(name):
    technique = default(name)
    recipe = with_(name)
    on, off = weights_of(fresh(recipe)), weights_of(fresh(switched_off(technique, recipe)))
    shared = set(on) & set(off)
    assert len(shared) >= min(len(on), len(off)) - 8 * TINY.layers
    changed = {n for n in shared if not torch.equal(on[n], off[n])}
    if technique.slot in ("init", "table_init"):  # drawing them is what these are for
        assert changed
    else:
        assert not changed


# ------------------------------------------------------------------------------------------------ 7, 8 causal, no leaks


@every_model
@pytest.mark.parametrize("cut", [1, TINY.context // 2, TINY.context - 1])
def test_is_causal(name, cut):
    """Changing tokens from ``cut`` on changes no earlier token's nats, and does change a later one's."""
    model = awake(with_(name))
    ids, targets = ids_and_targets()
    other = ids.clone()
    other[:, cut:] = 2 + (ids[:, cut:] + 50) % (TINY.vocabulary - 2)
    with torch.no_grad():
        a, b = model.nats(ids, targets), model.nats(other, targets)
    assert torch.allclose(a[:, :cut], b[:, :cut], atol=1e-5)
    assert not torch.allclose(a[:, cut:], b[:, cut:], atol=1e-3)


@every_model
def test_rows_of_a_batch_do_not_see_each_other(name):
    model = awake(with_(name))
    ids, targets = ids_and_targets(rows=3)
    with torch.no_grad():
        together, alone = model.nats(ids, targets), model.nats(ids[1:2], targets[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@every_model
@pytest.mark.parametrize("start", [1, 20, TINY.context - 1])
def test_the_tail_alone_is_the_tail_of_the_whole(name, start):
    """``nats(start)``, which sliding windows use, is the full call's tail."""
    model = awake(with_(name))
    ids, targets = ids_and_targets()
    with torch.no_grad():
        assert torch.allclose(model.nats(ids, targets, start), model.nats(ids, targets)[:, start:], atol=1e-5)


@every_scoring
def test_scoring_is_causal_and_proper(name):
    """Changing later tokens changes no earlier token's nats; distributions sum to one and say what the score says."""
    recipe = with_(name)
    weights = weights_of(awake(recipe))
    text = np.concatenate(documents())
    other = text.copy()
    cut = len(text) // 2
    other[cut:] = np.where(text[cut:] == 1, 1, 2 + (text[cut:] + 50) % (TINY.vocabulary - 2))
    a, b = scored(recipe, weights, text), scored(recipe, weights, other)
    assert np.allclose(a[: cut - 1], b[: cut - 1], atol=1e-5, equal_nan=True)
    evaluator = Evaluator(awake(recipe), Bytes(), recipe)
    for end in (40, 150):
        probabilities = evaluator.distribution(text[:end])
        assert math.isclose(probabilities.sum(), 1.0, abs_tol=1e-5)
        assert math.isclose(-math.log(probabilities[text[end]]), evaluator.score(text[: end + 1])[-1], abs_tol=1e-4)


# ------------------------------------------------------------------------------------------------ 9 parameters


@every_trained
def test_every_parameter_has_a_kind_an_optimiser_and_a_gradient(name):
    recipe = with_(name).with_(tokens=6 * 64)
    run = TrainingState(recipe, torch.device("cpu"), torch.float32)
    owners = [m for m in run.model.modules() if isinstance(m, Linear | Table | Scale)]
    assert {id(m.weight) for m in owners} == {id(p) for p in run.model.parameters()}
    assert [i.name for i in parameters_of(run.model)] == run.names
    dealt = dealt_names(run.optimizers)
    assert sorted(dealt) == sorted(run.names), "every parameter is in exactly one optimiser group"
    assert not (never := untrained(recipe)), f"no gradient in six steps: {sorted(never)}"


def dealt_names(optimizers: Optimizers) -> list[str]:
    names = []
    for part in optimizers.parts:
        if isinstance(part, Adam):
            names += [n for group in part.names for n in group]
        else:
            names += {key.partition(".")[2] for key in part.state()}
    return names


# ------------------------------------------------------------------------------------------------ 11, 12 bytes


@every_stored
def test_forecast_holds_the_packed_bytes(name):
    """On a body large enough for its matrices to be Gaussian, the true length lies in the forecast's interval."""
    recipe = with_(name).with_(width=96, hidden=256, vocabulary=512, layers=6, limit=10_000_000)
    if find(name).slot != "bits" and "int4_rows" in {t.name for t in recipe.techniques}:
        recipe = recipe.with_(parse("int6_rows"))
    model = awake(recipe)
    quantised, blob = finished(recipe, weights_of(model))
    told = forecast([q.info for q in quantised.values()], recipe, 0)
    assert told.low <= told.mid <= told.high
    assert told.low * 0.97 <= len(blob) <= told.high * 1.03, f"{len(blob)} bytes, forecast {told}"


@every_stored
def test_the_artifact_is_read_back_exactly(name):
    recipe = with_(name)
    quantised, blob = finished(recipe, weights_of(awake(recipe)))
    back = unpack(blob)
    assert list(back) == list(quantised)
    for key, q in quantised.items():
        assert torch.equal(back[key], q.dequantised()), key
        if q.grid is not None:
            assert int(q.values.min()) >= q.grid.lowest
            assert int(q.values.max()) <= q.grid.largest
    assert finished(recipe, weights_of(awake(recipe)))[1] == blob


# ------------------------------------------------------------------------------------------------ 13 deterministic


@every
def test_the_seed_decides_everything(name):
    """What acts after training is tried on one training, for the trainings of all others are repeated."""
    recipe = with_(name).with_(tokens=2 * 64)
    afresh = find(name).stage() in TRAINED_STAGES
    (blob, nats), (same_blob, same_nats) = again(recipe, afresh), again(recipe, afresh)
    assert blob == same_blob
    assert np.array_equal(nats, same_nats, equal_nan=True)
    other = recipe.with_(seed=1)
    assert blob != finished(other, trained(other).chosen(other.technique_in("average")))[1]


def test_the_catalogue_is_whole():
    """Every slot's default exists, and every slot has a technique: a slot is there only where a technique fills it."""
    filled = {cls.slot for cls in catalogue().values()}
    assert not {s.default for s in SLOTS.values() if s.default} - set(NAMES)
    assert set(SLOTS) == filled, f"empty slots: {sorted(set(SLOTS) - filled)}"
    assert len(stream()) > TINY.context
