"""Adam groups: which parameter learns at which rate."""

from __future__ import annotations

from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.techniques.train.adam_groups import AdamGroups
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
