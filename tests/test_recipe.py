"""Recipes: derived, compared, written and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golflab.model.recipe import Recipe
from golflab.model.shape import Data, Schedule, Shape
from golflab.model.technique import catalogue, find, parse
from golflab.spaces.presets import preset

R = Recipe(techniques=(parse("smear_gate"), parse("xsa:last=2")), name="r")


def test_with_replaces_slot_mates_and_itself():
    assert [str(t) for t in R.with_(parse("xsa:last=3")).techniques] == ["smear_gate", "xsa:last=3"]
    both = R.with_(parse("partial_rope"))
    assert both.technique_in("rotary").name == "partial_rope"
    assert both.with_(parse("rope:base=500")).technique_in("rotary").base == 500.0
    assert "partial_rope" not in both.with_(parse("rope")).to_json()["techniques"]


def test_keywords_reach_shape_schedule_data_and_recipe():
    r = R.with_(layers=11, tokens=8192, corpus="x", seed=3, limit=5, name="n")
    assert (r.shape.layers, r.schedule.tokens, r.data.corpus, r.seed, r.limit, r.name) == (11, 8192, "x", 3, 5, "n")
    with pytest.raises(ValueError, match=r"unknown field 'layer'\. Did you mean 'layers'[?] The fields are: "):
        R.with_(layer=3)


def test_a_slot_is_built_by_the_technique_in_it_for_the_shape_and_the_layer():
    recipe = Recipe(Shape(layers=3), techniques=(parse("xsa:last=1"),))
    assert recipe.build("schedule")(0.0) == 1.0  # the slot's default
    assert recipe.build("stem") is None  # an empty slot
    assert [recipe.build("attn_out", layer) is None for layer in range(3)] == [True, True, False]


def test_without_names_what_is_not_there():
    assert R.without("xsa").without("SmearGate").techniques == ()
    with pytest.raises(ValueError, match=r"'bigram_hash' is not switched on here\. On are: smear_gate, xsa"):
        R.without("bigram_hash")
    with pytest.raises(ValueError, match="Did you mean"):
        R.without("xsb")


def test_a_default_written_out_is_the_same_recipe():
    told = R.with_(*(cls() for cls in catalogue().values() if cls.name in ("rope", "muon", "warmdown")))
    assert told == R
    assert told.hash == R.hash
    assert R.with_(parse("muon:lr=0.02")) != R


def test_order_and_name_do_not_matter():
    other = Recipe(techniques=(parse("xsa:last=2"), parse("smear_gate")), name="other")
    assert other == R
    assert other.hash == R.hash


def test_everything_else_changes_the_hash():
    changes = [
        R.with_(seed=1),
        R.with_(layers=8),
        R.with_(limit=3),
        R.with_(tokens=9999),
        R.with_(split="test"),
        R.without("xsa"),
    ]
    assert len({R.hash, *(c.hash for c in changes)}) == len(changes) + 1


def test_the_hash_is_the_same_in_another_process():
    code = "import json,sys; from golflab.model.recipe import Recipe; print(Recipe.from_json(json.load(sys.stdin)).hash)"
    told = json.dumps(R.to_json())
    done = subprocess.run([sys.executable, "-c", code], input=told, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == R.hash


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"shapes": {}}, "unknown field 'shapes'. Did you mean 'shape'"),
        ({"shape": {"depth": 3}}, "depth"),
        ({"techniques": {"xsb": {}}}, "Did you mean"),
        ({"techniques": {"xsa": {"last": 0}}}, "out of range"),
        ({"techniques": {"xsa": {"first": 1}}}, "first"),
    ],
)
def test_bad_json_is_refused(body, words):
    with pytest.raises(ValueError, match=words):
        Recipe.from_json(body)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Shape(layers=0),
        lambda: Shape(width=100, heads=8),
        lambda: Shape(heads=8, kv_heads=3),
        lambda: Schedule(tokens=None),
        lambda: Schedule(batch_tokens=100, micro_tokens=64),
        lambda: Schedule(tokens=10),
        lambda: Schedule(seconds=0.0),
        lambda: Data(split="train"),
        lambda: Recipe(techniques=(parse("rope:base=500"), parse("partial_rope"))),
        lambda: Recipe(techniques=(parse("xsa"), parse("xsa:last=1"))),
    ],
)
def test_impossible_parts_are_refused(make):
    with pytest.raises(ValueError, match=r"^(shape|schedule|data|recipe): "):
        make()


def test_clashes_and_needs_are_refused_with_a_reason():
    for cls in catalogue().values():
        for other, why in cls.clashes.items():
            if cls.slot != find(other).slot:
                with pytest.raises(ValueError, match="cannot be combined") as refusal:
                    Recipe(techniques=(cls(), find(other)())).check()
                assert why in str(refusal.value)
        if cls.needs:
            with pytest.raises(ValueError, match="needs"):
                Recipe(techniques=(cls(),)).check()


@settings(max_examples=40, deadline=None)
@given(st.sets(st.sampled_from(sorted(catalogue())), max_size=6), st.integers(0, 99))
def test_any_recipe_survives_json(names, seed):
    taken: dict[str, str] = {find(n).slot: n for n in names}
    recipe = Recipe(seed=seed).with_(*(find(n)() for n in taken.values()))
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    ("make", "same"),
    [
        (lambda: Recipe().with_(seconds=60), lambda: Recipe().with_(seconds=60.0)),
        (lambda: Recipe().with_(tokens=524288.0), lambda: Recipe().with_(tokens=524288)),
        (lambda: Recipe().with_(limit=1e6, seed=3.0), lambda: Recipe().with_(limit=1_000_000, seed=3)),
        (lambda: Recipe().with_(seed=np.int64(3), layers=np.int32(5)), lambda: Recipe().with_(seed=3, layers=5)),
        (lambda: Recipe().with_(width=512.0, tied=1), lambda: Recipe()),
        (lambda: Recipe().with_(find("ema")(correct=1)), lambda: Recipe().with_(find("ema")(correct=True))),
        (lambda: Recipe().with_(find("ema")(decay=0)), lambda: Recipe().with_(find("ema")(decay=0.0))),
        (lambda: Recipe().with_(find("ema")(decay=-0.0)), lambda: Recipe().with_(find("ema")())),
        (lambda: Recipe().with_(find("xsa")(last=np.float64(3.0))), lambda: Recipe().with_(find("xsa")(last=3))),
        (lambda: Recipe().with_(corpus=Path("a") / "b"), lambda: Recipe().with_(corpus="a/b")),
        (lambda: Recipe(techniques=[parse("xsa")]), lambda: Recipe(techniques=(parse("xsa"),))),
    ],
)
def test_equal_values_make_equal_recipes_with_equal_hashes(make, same):
    a, b = make(), same()
    assert a == b
    assert a.hash == b.hash
    assert json.dumps(a.to_json()) == json.dumps(b.to_json())
    assert a.schedule.steps is None or isinstance(a.schedule.steps, int)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Recipe(seed="x"), "recipe: seed='x' must be a whole number"),
        (lambda: Recipe(seed=True), "seed=True must be a whole number"),
        (lambda: Recipe(seed=1.5), "seed=1.5"),
        (lambda: Recipe(seed=-1), "seed=-1"),
        (lambda: Recipe(limit=-1), "limit=-1 must be a positive number of bytes"),
        (lambda: Recipe(limit=0), "limit=0"),
        (lambda: Recipe(name=3), "name=3 must be a text"),
        (lambda: Recipe(shape={"layers": 3}), "shape=.* must be a Shape"),
        (lambda: Recipe(techniques=("xsa",)), "'xsa' is no technique"),
        (lambda: Shape(layers="9"), "layers='9' must be a whole number"),
        (lambda: Shape(width=512.5), "width=512.5"),
        (lambda: Shape(tied="yes"), "tied='yes' must be true or false"),
        (lambda: Shape(tied=2), "tied=2"),
        (lambda: Schedule(tokens="many"), "tokens='many'"),
        (lambda: Schedule(seconds=float("nan")), "seconds=nan must be a positive number"),
        (lambda: Schedule(seconds=float("inf")), "seconds=inf"),
        (lambda: Schedule(batch_tokens=True), "batch_tokens=True"),
        (lambda: Data(corpus=3), "corpus=3 must be a text"),
        (lambda: find("xsa")(last=2.5), "xsa: last=2.5 must be a whole number"),
        (lambda: find("ema")(correct="true"), "ema: correct='true' must be true or false"),
        (lambda: find("ema")(horizon="0.1"), "horizon='0.1' must be a number"),
        (lambda: find("gptq")(order=1), "order=1 must be a text"),
        (lambda: Recipe.from_json({"techniques": ["xsa"]}), "recipe"),
    ],
)
def test_a_value_of_another_kind_is_refused_at_once(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_every_knob_of_the_catalogue_says_what_kind_it_holds():
    """Whatever a space or a file writes for a default comes back as that default."""
    for cls in catalogue().values():
        for name, default in cls().settings().items():
            other = {bool: int, int: float, float: np.float64, str: str}[type(default)](default)
            assert cls(**{name: other}) == cls()
            assert json.dumps(cls(**{name: other}).settings()) == json.dumps(cls().settings())


def test_recipes_keep_the_hashes_under_which_experiments_know_them():
    assert preset("baseline", "proxy").with_(limit=730_000).hash == "6485e1d029fa"  # its limit until November 2026
    assert preset("baseline", "full").hash == "44ef713f6c38"
    assert Recipe(techniques=(parse("xsa:last=2"), parse("ema"))).with_(seconds=600.0, seed=1).hash == "0892598211b7"
