"""The contract every technique keeps, point 6: alive, every knob of it, eager and traced, and after a switch in mid-run."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

from golflab.model.recipe import Recipe
from golflab.model.technique import catalogue, find
from tests.contract_helpers import (
    BASE,
    NAMES,
    TINY,
    awake,
    changes,
    default,
    ids_and_targets,
    is_default,
    never_learning,
    recipe_with,
    refused,
    switched_off,
    values_of,
)
from tests.pairs import names_in, widened

every = pytest.mark.parametrize("name", NAMES)


def with_(name: str) -> Recipe:
    return recipe_with(default(name))


@every
def test_switching_it_on_changes_something(name):
    """Trained, packed and scored with and without: a dead technique gives the same file and the same bits."""
    technique, on = default(name), with_(name)
    if is_default(name):
        mates = [m for m, cls in catalogue().items() if cls.slot == technique.slot and m != name]
        assert any(changes(on, with_(m)) for m in mates) or not mates
    else:
        alive = changes(on, switched_off(technique, on))
        assert alive or "speed" in find(name).doubt, "a technique that changes nothing, and does not say it is for speed alone"


# Knobs whose effect this body cannot show, and where it is tested instead.
ELSEWHERE = {
    ("value_residual", "first_layer_pair"),  # keeps #680's unread parameters: test_value_residual.py
    ("two_lanes", "spare"),  # keeps the records' unread parameters: test_two_lanes.py
    *((muon, "decay_hold") for muon in ("muon", "muon_eq_r", "parallel_muon")),  # wants two other knobs: test_muon.py
    ("depth_recurrence", "full"),  # wants two other knobs: test_depth_recurrence.py
    ("input_smear", "mask_fused"),  # speaks of text with fused tokens: test_input_smear.py
    ("lora_ttt", "batch"),  # documents side by side, for speed: test_lora_ttt.py
    ("phased_sgd", "momentum"),  # wants several steps in a phase: test_phased_sgd.py
    *(("lora_ttt", k) for k in ("short_chunk", "short_length", "middle_length")),  # want two others: test_lora_ttt.py
    ("lora_ttt", "visits"),  # of blocks that run several times: test_lora_ttt.py
    ("ternary_codebook", "rounds"),  # test_ternary_codebook.py
    ("orthogonal_init", "tables"),  # speaks of a bigram table that starts alive: test_orthogonal_init.py
    ("ste_qat", "extended"),  # a code beyond the clip, which rows this short do not reach: test_ste_qat.py
    ("ste_qat", "where"),  # what the export keeps in fp16, of which there is nothing: test_seeds.py
    ("ste_qat", "bits"),  # likewise
    ("selective_prune", "tolerance"),  # test_selective_prune.py
}


# What a knob acts beside, where nearly everything else would be tried in vain before.
WANTS = {
    **{(muon, "decay_end"): "weight_decay" for muon in ("muon", "muon_eq_r", "parallel_muon")},
    ("ema", "correct"): "decay",
    ("adam_groups", "scale_decay"): "weight_decay",
    ("sd_clip", "by"): "importance",
    ("ste_qat", "floor"): "scales",
}


@pytest.mark.parametrize(("name", "knob"), [(n, k) for n in NAMES for k in find(n).knobs() if (n, k) not in ELSEWHERE])
def test_every_knob_does_something(name, knob):
    """Some other value of the knob changes the result: alone, beside what it may speak of, or beside another choice."""
    technique = default(name)
    others = [(k, v) for k in type(technique).knobs() if k != knob for v in values_of(technique, k)]
    alone = [(company, {}) for company in ("", *COMPANY)]
    needed = [("", {k: v}) for k, v in others if k == WANTS.get((name, knob))]  # tried before what takes much longer
    for company, settings in [alone[0], *needed, *alone[1:], *(("", {k: v}) for k, v in others)]:
        here = dataclasses.replace(technique, **settings)
        try:
            on = recipe_with(here, beside(company))
        except ValueError:
            continue
        for value in values_of(here, knob):
            other = on.with_(dataclasses.replace(here, **{knob: value}))
            if refused(other) is None and changes(on, other):
                return
    pytest.fail(f"no value of {name}.{knob} changes anything")


# What knobs may speak of that the base has not: side tables, an untied head, many rows, rounding that feeds errors forward.
COMPANY = ("side tables and a head", "gptq")


def beside(company: str) -> Recipe:
    if company == "gptq":
        return BASE.with_(default("gptq"))
    if company:
        return BASE.with_(default("bigram_hash"), default("value_embedding"), tied=False, hidden=512, limit=100_000)
    return BASE


# Settings of published entries under which parameters are stored that nothing ever trains.
DEAD = {("asym_logit", "form", "published"), ("two_lanes", "spare", True), ("value_residual", "first_layer_pair", True)}


def test_the_settings_with_parameters_that_never_learn_are_the_known_ones():
    """Every choice of every technique of the model is tried; what leaves a parameter without a gradient is named."""
    assert set(never_learning()) == DEAD


def switches(recipe: Recipe) -> bool:
    """Whether something in the recipe switches on as training goes on: a path that changes, or late fake quantisation."""
    path, fake = recipe.technique_in("path"), recipe.technique_in("fake_quant")
    late = getattr(fake, "threshold", 1.0) < 1.0
    return late or (path is not None and path.build(TINY)(0.0) != path.build(TINY)(1.0))


TRACED = [n for n in NAMES if find(n).stage() == "model" or find(n).slot == "fake_quant"]


@functools.cache
def together() -> list[Recipe]:
    """A few recipes that hold every traced technique between them: tracing takes a second, whatever is on."""
    left, recipes = list(TRACED), []
    while left:
        recipe, on = with_(left[0]), left[:1]
        for name in left[1:]:
            if (wider := widened(recipe, default(name), on)) is not None:
                recipe, on = wider, [*on, name]
        recipes.append(recipe)
        left = [name for name in left if name not in names_in(recipe)]
    return recipes


def losses(recipe: Recipe, traces: bool) -> list[torch.Tensor]:
    """Before and after everything that switches during a run has switched; of the traced model, or of the eager one."""
    model = awake(recipe, 0.0)
    fake = recipe.technique_in("fake_quant")
    controller = None if fake is None else fake.build(recipe.shape)
    if controller is not None:
        controller.attach(model, recipe)
    called = torch.compile(model, fullgraph=True, dynamic=False, backend="eager") if traces else model
    found = []
    for progress in (0.0, 0.999):
        model.set_progress(progress)
        if controller is not None:
            controller.update(1.0 - progress)
        found.append(called(*ids_and_targets()))
    return found


def check_traced(recipe: Recipe) -> None:
    torch._dynamo.reset()
    for when, eager, same in zip(("before", "after"), losses(recipe, False), losses(recipe, True), strict=True):
        assert torch.allclose(eager, same, atol=2e-5), f"{when} the switch: {eager.item()} eager, {same.item()} traced"


@pytest.mark.parametrize("number", range(len(together())))
def test_acts_the_same_traced_and_after_a_switch_in_mid_run(number):
    """The traced loss equals the eager one before and after everything that switches during a run has switched (6, 10)."""
    check_traced(together()[number])


def test_the_traced_recipes_hold_every_technique_that_is_traced():
    assert set(TRACED) <= set().union(*map(names_in, together()))
    assert 3 * len(together()) < len(TRACED), "hardly better than a recipe for each"


@pytest.mark.full
@pytest.mark.parametrize("name", TRACED)
def test_each_by_itself_acts_the_same_traced_and_after_a_switch_in_mid_run(name):
    check_traced(with_(name))


@pytest.mark.parametrize("name", [name for name in TRACED if switches(with_(name))])
def test_what_says_that_it_switches_does(name):
    before, after = losses(with_(name), False)
    assert before.item() != after.item(), "it says it switches on in mid-run and does not"
