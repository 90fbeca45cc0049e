"""CROWN-Q in both forms, by loops."""

from __future__ import annotations

import pytest
import torch

from golflab.model.technique import parse
from golflab.model.techniques.train.crown_q import CrownQ
from tests.contract_helpers import BASE, TINY, awake


def by_hand(model, form, largest, weight):
    total = 0.0
    for name, p in model.named_parameters():
        if p.ndim != 2 or not name.startswith("blocks") or "enter" in name:
            continue
        steps = [float(row.abs().max()) / largest for row in p]
        squares = [float(row.square().mean()) for row in p.double()]
        terms = [s * d * d for s, d in zip(squares, steps, strict=True)]
        total += sum(terms) if form == "rows" else sum(terms) / len(terms)
    return weight / 12 * total


@pytest.mark.parametrize("form", ["rows", "mean"])
def test_it_is_the_formula_below_the_threshold(form):
    recipe = BASE.with_(parse("int5_rows"))
    model, penalty = awake(recipe), CrownQ(weight=3.0, form=form).build(TINY)
    penalty.attach(model, recipe)
    assert penalty(0.51) == 0.0
    assert float(penalty(0.5)) == pytest.approx(by_hand(model, form, 15, 3.0), rel=1e-4)


def test_the_mean_form_holds_the_step_constant():
    recipe, gradients = BASE.with_(parse("int5_rows")), {}
    for form in ("rows", "mean"):
        model, penalty = awake(recipe), CrownQ(weight=1.0, form=form).build(TINY)
        penalty.attach(model, recipe)
        penalty(0.0).backward()
        w = model.blocks[0].mlp.up.weight
        gradients[form] = (w.grad / w).detach()[0]
    assert torch.allclose(gradients["mean"], gradients["mean"][0].expand(TINY.width), rtol=1e-4)
    assert not torch.allclose(gradients["rows"], gradients["rows"][0].expand(TINY.width), rtol=1e-2)


def test_where_nothing_is_rounded_there_is_no_penalty():
    recipe = BASE.with_(parse("int5_rows:small=65536"))
    model, penalty = awake(recipe), CrownQ().build(TINY)
    penalty.attach(model, recipe)
    assert penalty(0.1) == 0.0
