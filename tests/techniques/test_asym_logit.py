"""AsymLogit: value and derivatives by hand, and the published form, which never learns."""

from __future__ import annotations

import math

import pytest
import torch

from golflab.model.technique import parse
from golflab.model.techniques.model.asym_logit import AsymLogit
from tests.contract_helpers import BASE, FULL, TINY, awake, fresh, ids_and_targets, trained


def bounds(form: str) -> torch.nn.Module:
    module = AsymLogit(cap=30.0, form=form).build(TINY)
    torch.nn.init.constant_(module.positive.weight, 20.0)
    torch.nn.init.constant_(module.negative.weight, 40.0)
    return module


@pytest.mark.parametrize("form", ["live", "published"])
def test_each_sign_has_its_bound(form):
    module = bounds(form)
    z = torch.tensor([-500.0, -3.0, 0.0, 3.0, 500.0], requires_grad=True)
    out = module(z)
    expected = [40 * math.tanh(v / 40) if v < 0 else 20 * math.tanh(v / 20) for v in z.tolist()]
    assert torch.allclose(out, torch.tensor(expected), atol=1e-5)
    out.sum().backward()
    assert torch.allclose(module.slope(out.detach()), z.grad, atol=1e-6)


def test_the_live_form_is_trained_on_what_is_scored():
    model, (ids, targets) = awake(BASE.with_(AsymLogit())), ids_and_targets()
    assert torch.allclose(model(ids, targets), model.nats(ids, targets).mean(), atol=1e-5)
    model(ids, targets).backward()
    expected = torch.autograd.grad(model.nats(ids, targets).mean(), list(model.cap.parameters()))
    assert torch.allclose(torch.cat([p.grad for p in model.cap.parameters()]), torch.cat(expected), atol=1e-7)


def test_the_published_form_is_softcap_with_two_parameters_that_never_move():
    recipe = BASE.with_(parse("asym_logit:form=published"))
    after, softcap = trained(recipe).weights, trained(BASE.with_(parse("softcap"))).weights
    assert set(after) - set(softcap) == {"cap.positive.weight", "cap.negative.weight"}
    assert all(float(after[name]) == 30.0 for name in set(after) - set(softcap))
    assert all(torch.equal(after[name], softcap[name]) for name in softcap)
    live = trained(BASE.with_(AsymLogit())).weights
    assert all(float(live[name]) != 30.0 for name in set(after) - set(softcap))
    assert sum(p.numel() for p in AsymLogit().build(FULL).parameters()) == 2


def test_both_forms_start_as_softcap():
    ids, _ = ids_and_targets()
    expected = fresh(BASE.with_(parse("softcap"))).logits(ids)
    assert torch.equal(fresh(BASE.with_(AsymLogit())).logits(ids), expected)
