"""The records as presets: their published sizes before any training, and a step of training at the smaller scales."""

from __future__ import annotations

import math

import numpy as np
import pytest

from golflab.model.compression.forecast import forecast, inventory
from golflab.model.data.shards import Stream
from golflab.model.shape import Schedule
from golflab.model.training.loop import source_of, train
from golflab.spaces.presets import PRESETS, at_scale, preset
from tests.contract_helpers import BATCH, TINY, untrained

# Parameters and bytes of the packed weights without code, as the entries' logs state them.
PUBLISHED = {
    "record_1394": (35_943_512, 15_973_467),
    "record_1493": (35_944_536, 15_975_300),
    "record_1855": (35_945_671, 15_865_260),
    "record_2014": (35_945_673, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_number_and_the_forecast_is_within_one_percent(name):
    recipe, (parameters, blob) = preset(name, "full").check(), PUBLISHED[name]
    infos = inventory(recipe)
    assert sum(info.count for info in infos) == parameters
    if blob is not None:  # of #2014 only the bytes with its code are known
        assert forecast(infos, recipe, 0).mid == pytest.approx(blob, rel=0.01)


def test_what_never_learns_in_2014_is_asym_logit_and_the_spare_lanes():
    schedule = Schedule(tokens=BATCH, batch_tokens=BATCH, micro_tokens=BATCH)
    nano = at_scale(PRESETS["record_2014"], "nano")
    dead = untrained(nano.with_(schedule=schedule, vocabulary=TINY.vocabulary, context=TINY.context))
    assert {"cap.positive.weight", "cap.negative.weight"} <= dead
    assert all(".wiring." in name for name in dead - {"cap.positive.weight", "cap.negative.weight"})


@pytest.mark.parametrize("scale", ["nano", "proxy"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_smaller_scales_train_a_step(name, scale):
    recipe = preset(name, scale).check()
    batch = 2 * recipe.shape.context
    recipe = recipe.with_(schedule=Schedule(tokens=batch, batch_tokens=batch, micro_tokens=batch))
    ids = np.random.default_rng(0).integers(2, recipe.shape.vocabulary, 4096)
    trained = train(recipe, source_of(recipe, Stream([ids.astype(np.uint16)])))
    assert 0 < trained.curve[-1]["loss"] < 1.5 * math.log(recipe.shape.vocabulary)
