"""Spaces: every sample is a valid recipe, clashes and needs are resolved, and parameters survive the way there and back."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.model.recipe import Recipe
from golflab.model.technique import catalogue, find
from golflab.search.sampler.encoding import Encoding
from golflab.spaces.catalogue import describe, space, spaces
from golflab.spaces.presets import BASELINE, PRESETS, preset
from golflab.spaces.scales import at_scale
from golflab.spaces.space import OFF, Space

PROXY = preset("baseline", "proxy")


@pytest.mark.parametrize("name", list(spaces()))
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_sample_of_every_space_is_a_valid_recipe(name, seed):
    chosen = space(name, PROXY)
    params = chosen.random(random.Random(seed))
    recipe = chosen.recipe(params).check()
    assert Recipe.from_json(recipe.to_json()) == recipe
    canonical = chosen.canonical(params)
    assert chosen.recipe(canonical) == recipe
    assert chosen.canonical(canonical) == canonical


@pytest.mark.parametrize("name", list(spaces()))
def test_the_preset_lies_in_its_space(name):
    chosen = space(name, PROXY)
    assert chosen.recipe(chosen.params(PROXY)).hash == PROXY.hash


def test_rivals_for_a_slot_become_one_choice_and_a_lone_technique_a_switch():
    mine = Space("mine", PROXY, techniques=("ema", "swa", "xsa"))
    told = mine.distributions()
    assert set(told["average"].choices) == {OFF, "ema", "swa"}
    assert told["xsa"].choices == (False, True)
    recipe = mine.recipe({"average": "swa", "xsa": True})
    assert {"swa", "xsa"} <= {t.name for t in recipe.techniques}


def test_knobs_are_flat_and_ignored_while_their_technique_is_off():
    mine = Space("mine", PROXY, techniques=("bigram_hash",), knobs=("bigram_hash.dim",), shape={"layers": (3, 4)})
    on = {"bigram_hash": True, "bigram_hash.dim": 24, "shape.layers": 3}
    assert mine.recipe(on).techniques_in("embed")[0].dim == 24
    assert mine.recipe(on | {"bigram_hash": False}) == mine.recipe(on | {"bigram_hash": False, "bigram_hash.dim": 48})
    assert mine.owners == {"bigram_hash.dim": ("bigram_hash", True)}
    assert mine.recipe(on).shape.layers == 3


def test_a_preset_technique_that_is_listed_can_be_switched_off():
    mine = Space("mine", PROXY, techniques=("unet_skips",))
    assert mine.params(PROXY) == {"unet_skips": True}
    assert "unet_skips" not in {t.name for t in mine.recipe({"unet_skips": False}).techniques}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"techniques": ("smeer_gate",)}, "smear_gate"),
        ({"knobs": ("xsa.last",)}, "neither listed nor in the preset"),
        ({"techniques": ("xsa",), "knobs": ("xsa.nothing",)}, "no knob"),
        ({"shape": {"layer": (3,)}}, "layers"),
    ],
)
def test_a_wrong_space_says_what_is_wrong(arguments, said):
    with pytest.raises(ValueError, match=said):
        Space("mine", PROXY, **arguments)


def test_unknown_parameters_are_refused():
    with pytest.raises(ValueError, match="no parameter"):
        space("starter", PROXY).recipe({"nothing": True})


def test_users_bring_their_own_space(tmp_path, monkeypatch):
    assert {"shape.layers"} < set(space("examples.my_space:SPACE", PROXY).distributions())
    (tmp_path / "my_space.py").write_text(
        "from golflab.spaces.presets import preset\nfrom golflab.spaces.space import Space\n"
        "SPACE = Space('mine', preset('baseline'), techniques=('xsa',))\n"
        "def around(recipe):\n    return Space('around', recipe, techniques=('ema',))\nNOTHING = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert space("my_space:SPACE", PROXY).techniques == ("xsa",)
    assert space("my_space:around", PROXY).preset == PROXY
    for wrong in ("my_space:NOTHING", "my_space:MISSING", "no_such_module:SPACE", "sarter"):
        with pytest.raises(ValueError, match="space"):
            space(wrong, PROXY)


def test_proxies_keep_techniques_and_proportions():
    for recipe in PRESETS.values():
        small = at_scale(recipe, "proxy").check()
        assert {t.name for t in small.techniques} == {t.name for t in recipe.techniques}
        assert small.shape.width == 128
        assert small.shape.heads // small.shape.kv_heads == recipe.shape.heads // recipe.shape.kv_heads
        assert small.shape.hidden / small.shape.width == pytest.approx(recipe.shape.hidden / recipe.shape.width)
        assert at_scale(recipe, "full") is recipe
    assert PROXY.shape.layers == 5
    assert BASELINE.shape.layers == 9


def test_unknown_presets_and_scales_are_refused():
    with pytest.raises(ValueError, match="baseline"):
        preset("baselin")
    with pytest.raises(ValueError, match="nano, micro, proxy, small, full"):
        preset("baseline", "tiny")


def test_the_catalogue_is_described_in_full():
    rows = {row["name"]: row for row in describe()}
    assert set(rows) == set(catalogue())
    assert all(set(row) == {"name", "stage", "slot", "summary", "knobs", "sources", "used_by"} for row in rows.values())
    assert "baseline" in rows["unet_skips"]["used_by"]
    assert rows["ema"]["stage"] == find("ema").stage() == "train"


SOUND = [name for name in PRESETS if name.startswith(("baseline", "seed_")) and not name.endswith("_as_published")]


@pytest.mark.parametrize("name", SOUND)
def test_the_seeds_space_reaches_every_seed_and_the_samplers_encoding_gives_it_back(name):
    found = space("seeds", preset("seed_1499", "proxy"))
    params = found.params(preset(name, "proxy").with_(limit=found.preset.limit))
    encoding = Encoding(found.distributions(), found.owners, found.params(found.preset))
    assert found.recipe(params).hash == preset(name, "proxy").with_(limit=found.preset.limit).hash
    assert found.recipe(encoding.params(encoding.rows([params])[0])).hash == found.recipe(params).hash


@pytest.mark.parametrize("name", ["optimizer", "everything"])
def test_no_space_draws_what_changes_the_bytes_that_scores_are_by(name):
    assert {find(t).slot for t in space(name, preset("baseline", "proxy")).techniques}.isdisjoint({"text"})


def test_no_space_draws_what_only_reproduces_a_fault():
    found = space("seeds", preset("seed_849", "proxy"))
    faults = [(name, knob) for name in found.techniques for knob, rule in find(name).knobs().items() if rule.faults]
    assert ("hedge_mixer", "entropy_expert") in faults
    told = found.distributions()
    assert "hedge_mixer.entropy_expert" not in told, "one choice is none"
    for name, knob in faults:
        drawn = told.get(f"{name}.{knob}")
        assert drawn is None or set(drawn.choices).isdisjoint(find(name).knobs()[knob].faults)
    published = preset("seed_849_as_published", "proxy")  # asked for by name, it may vary
    assert space("seeds", published).distributions()["hedge_mixer.entropy_expert"].choices == ("uniform", "as_published")


@pytest.mark.parametrize(("scale", "layers"), [("proxy", 5), ("full", 9)])
def test_ranges_follow_the_body(scale, layers):
    """What counts layers ends at the layers there are; sizes go with the width; the deepest body of the space counts."""
    around = preset("baseline", scale)
    told = Space("mine", around, techniques=tuple(catalogue()), knobs=("*",)).distributions()
    for name in ("xsa", "xsa_diagonal", "parallel_residual", "two_lanes", "value_embedding"):
        assert (told[f"{name}.last"].low, told[f"{name}.last"].high) == (1, layers)
    assert told["depth_recurrence.final"].high == layers - 1
    assert told["adamw_ttt.blocks"].high == told["sgd_ttt.freeze"].high == layers
    assert told["bigram_hash.buckets"].high == 65_536 * around.shape.width // 512
    assert told["partial_rope.dims"].high == around.shape.head_width
    assert all(value % 2 == 0 for value in _drawn_values(told["partial_rope.dims"]))
    assert told["sliding_window.stride"].high == told["lora_ttt.chunk"].high == around.shape.context
    assert "lora_ttt.batch" not in told, "documents side by side are a matter of speed"
    deeper = Space("mine", around, techniques=("xsa",), knobs=("xsa.last",), shape={"layers": (3, layers + 4)})
    assert deeper.distributions()["xsa.last"].high == layers + 4


def _drawn_values(rule):
    return range(rule.low, rule.high + 1, rule.step)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_presets_knobs_lie_in_the_ranges_around_it(name):
    around = preset(name, "proxy")
    told = Space("mine", around, techniques=(), knobs=tuple(t.name for t in around.techniques if t.knobs())).distributions()
    for key, rule in told.items():
        technique, _, knob = key.partition(".")
        value = next(getattr(t, knob) for t in around.techniques if t.name == technique)
        assert value in rule.choices if hasattr(rule, "choices") else rule.low <= value <= rule.high, key


def test_parameters_that_mean_one_model_are_one_recipe():
    """The documentation's own example: EMA with a fixed decay has no horizon, XSA has no more layers than the model."""
    mine = Space("mine", PROXY, techniques=("ema", "xsa"), knobs=("*",))
    one = {"ema": True, "xsa": True, "ema.decay": 0.99, "ema.horizon": 0.01, "xsa.last": 5}
    assert mine.recipe(one | {"ema.horizon": 0.9}).hash == mine.recipe(one).hash
    assert mine.recipe(one | {"ema.decay": 0.0, "ema.horizon": 0.9}).hash != mine.recipe(one | {"ema.decay": 0.0}).hash
    hashes = {mine.recipe(one | {"xsa.last": last}).hash for last in range(1, 6)}
    assert len(hashes) == 5, "every value that a space draws is another model"


def test_knobs_of_the_presets_own_techniques_that_cannot_work_together_are_the_presets():
    base = preset("seed_1499", "nano")
    space = Space("own", base, knobs=("depth_recurrence.*", "warmdown.fraction"))
    wrong = {"depth_recurrence.first": 3, "depth_recurrence.final": 1, "warmdown.fraction": 0.5}
    found = space.recipe(wrong)
    assert found.technique_in("path") == base.technique_in("path")
    assert found.technique_in("schedule").fraction == 0.5  # what can work is kept
    draw = random.Random(0)
    assert all(space.recipe(space.random(draw)).check() for _ in range(40))
