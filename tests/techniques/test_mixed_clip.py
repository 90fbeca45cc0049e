"""A clip for every role: each parameter is scaled as its role's own technique scales it."""

import torch

from golflab.model.network.initialize import generator
from golflab.model.network.layers import ParameterInfo
from golflab.model.shape import Shape
from golflab.model.technique import parse


def test_every_role_has_a_clip_of_its_own():
    """`mixed_clip` sends each parameter to its role's rule."""
    rules = {"mlp": "percentile", "attention": "row_max_floor", "bigram": "sd_clip", "side": "mse_clip", "table": "row_max"}
    text = ",".join(f"{role}={rule}" for role, rule in rules.items())
    mixed = parse(f"mixed_clip:{text}")
    clip, w = mixed.build(Shape()), torch.randn(8, 64, generator=generator(1, "w")) * 0.1
    kinds = {"mlp": "linear", "attention": "linear", "bigram": "table", "side": "linear", "table": "table"}
    alone = {"row_max_floor": "row_max:floor=true"}
    for role, rule in rules.items():
        info = ParameterInfo("w", kinds[role], "bigram" if role == "side" else role, (8, 64), 0)
        other = parse(alone.get(rule, rule)).build(Shape())
        assert torch.equal(clip(w, 31, info), other(w, 31, info)), role
        assert mixed.reach(64, 31, info) == parse(alone.get(rule, rule)).reach(64, 31, info)
