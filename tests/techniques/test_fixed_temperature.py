import torch

from golflab.model.technique import parse
from tests.scoring import SHAPE


def test_it_divides():
    logits = torch.randn(2, 3, 64)
    assert torch.equal(parse("fixed_temperature:temperature=0.8").build(SHAPE)(logits), logits / 0.8)
    assert torch.equal(parse("fixed_temperature:temperature=1.0").build(SHAPE)(logits), logits)
