"""Adam groups: which parameter learns at which rate."""

from __future__ import annotations

import torch

from golflab.model.network.gpt import GPT
from golflab.model.network.layers import ParameterInfo, parameters_of
from golflab.model.techniques.train.adam_groups import AdamGroups
from golflab.model.training.optimizers import Adam
from tests.contract_helpers import BASE, TINY, default


def test_parameters_are_dealt_by_kind():
    infos = parameters_of(GPT(BASE.with_(default("bigram_hash"), tied=False)))
    groups, betas, eps = AdamGroups(table_lr=0.1, head_lr=0.05, scale_lr=0.3, weight_decay=0.04, beta2=0.9).build(TINY)
    dealt = {name: group for group in groups(infos) for name in group.names}
    assert (betas, eps) == ((0.9, 0.9), 1e-8)
    for info in infos:
        rate = 0.05 if info.role == "head" else {"table": 0.1, "scale": 0.3}.get(info.kind)
        assert (dealt[info.name].lr if info.name in dealt else None) == rate, info.name
    assert all(group.weight_decay == 0.04 and not group.coupled for group in dealt.values())


def test_scales_have_a_decay_and_second_moments_of_their_own():
    """Two steps of AdamW by hand: #1855's tables decay at 0.085, its scales at 0.02."""
    groups, betas, eps = AdamGroups(
        table_lr=0.03, scale_lr=0.02, weight_decay=0.085, scale_decay=0.02 / 0.085, beta2=0.95, scale_beta2=0.99
    ).build(TINY)
    infos = [ParameterInfo("table", "table", "table", (4, 3), None), ParameterInfo("gain", "scale", "scale", (3,), None)]
    named = {info.name: torch.nn.Parameter(torch.ones(info.shape)) for info in infos}
    adam = Adam(named, groups(infos), betas, eps)
    expected = {}
    for name, lr, decay, beta2 in (("table", 0.03, 0.085, 0.95), ("gain", 0.02, 0.02, 0.99)):
        w, m, v = 1.0, 0.0, 0.0
        for step, g in ((1, 0.5), (2, -2.0)):
            m, v = 0.9 * m + 0.1 * g, beta2 * v + (1 - beta2) * g * g
            w = w * (1 - lr * decay) - lr * (m / (1 - 0.9**step)) / ((v / (1 - beta2**step)) ** 0.5 + 1e-8)
        expected[name] = w
    for g in (0.5, -2.0):
        for p in named.values():
            p.grad = torch.full_like(p, g)
        adam.step(1.0, 0.0)
    for name, w in expected.items():
        assert torch.allclose(named[name], torch.full_like(named[name], w), atol=1e-6), name
