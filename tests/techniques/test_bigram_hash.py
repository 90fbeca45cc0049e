"""BigramHash: buckets by hand, the sum by hand, and what starts at zero (checklist 25)."""

from __future__ import annotations

import itertools

import pytest
import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.bigram_hash import BigramHash, HashedBigrams
from tests.contract_helpers import BASE, TINY

IDS = torch.tensor([[5, 17, 299, 1, 0, 5], [1, 8191, 8190, 3, 3, 3]])


def bucket(now: int, before: int, buckets: int) -> int:
    return ((36313 * now) ^ (27191 * before)) % (buckets - 1)


@pytest.mark.parametrize("buckets", [16, 1024, 10240])
def test_buckets_are_the_published_hash(buckets):
    index = HashedBigrams(buckets, 4, 8, 0.05, "both_live").index(IDS)
    for row, got in zip(IDS.tolist(), index.tolist(), strict=True):
        assert got[0] == buckets - 1
        assert got[1:] == [bucket(now, before, buckets) for before, now in itertools.pairwise(row)]
        assert all(0 <= i <= buckets - 2 for i in got[1:])


def test_products_stay_below_the_wrap_of_int32():
    assert 36313 * 8191 < 2**31


def test_the_embedding_is_scaled_and_projected():
    module = HashedBigrams(64, 4, 8, 0.05, "both_live")
    with torch.no_grad():
        for p in module.parameters():
            p.normal_()
        module.scale.weight.fill_(0.5)
    out = module(IDS, torch.float32)
    for b in range(2):
        for t in range(6):
            row = module.table.weight[module.index(IDS)[b, t]]
            assert torch.allclose(out[b, t], 0.5 * module.project.weight @ row, atol=1e-5)


@pytest.mark.parametrize(("start", "zero"), [("zero_table", ["table"]), ("zero_projection", ["project"]), ("both_live", [])])
def test_what_starts_at_zero(start, zero):
    module = BigramHash(buckets=64, dim=8, start=start).build(TINY)
    initialize(module, BASE)
    for name in ("table", "project"):
        assert module.get_submodule(name).weight.eq(0).all() == (name in zero)
