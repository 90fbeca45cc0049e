"""Split groups: Muon keeps the attention, Adam with coupled decay takes the MLP."""

from __future__ import annotations

from golflab.model.network.gpt import GPT
from golflab.model.network.layers import parameters_of
from golflab.model.techniques.train.split_groups import SplitGroups
from golflab.model.training.optimizers import Muon, Optimizers
from tests.contract_helpers import BASE, TINY


def test_the_four_groups():
    recipe = BASE.with_(SplitGroups(mlp_lr=0.02, mlp_decay=0.01))
    model = GPT(recipe)
    infos = parameters_of(model)
    dealt = {name: group for group in SplitGroups().build(TINY)[0](infos) for name in group.names}
    for info in infos:
        if info.role == "mlp":
            assert (dealt[info.name].coupled, dealt[info.name].weight_decay) == (True, 0.01)
        elif info.kind != "linear":
            assert not dealt[info.name].coupled
    muon = {
        k.removeprefix("momentum.") for part in Optimizers(model, recipe).parts if isinstance(part, Muon) for k in part.state()
    }
    assert muon == {i.name for i in infos if i.role == "attention"}
