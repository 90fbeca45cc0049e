"""Masked training against documents that are read one by one."""

import itertools

import numpy as np
import pytest
import torch

from golflab.model.network.kernels import causal_attention, segmented_attention
from golflab.model.recipe import Recipe
from golflab.model.technique import parse
from tests.scoring import RECIPE, SHAPE, model_of

BODIES = [(), ("depth_recurrence:first=1,final=2", "unet_skips", "xsa", "value_residual", "partial_rope:dims=4")]


def rows():
    """Four rows: a document at the start, some within, one BOS at the end, none at all, two BOS side by side."""
    random = np.random.default_rng(0)
    ids = torch.from_numpy(random.integers(4, SHAPE.vocabulary, (4, 33)))
    for row, column in ((0, 0), (0, 11), (0, 12), (1, 31), (2, 5), (2, 20), (2, 27)):
        ids[row, column] = 1
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


@pytest.mark.parametrize("others", BODIES)
def test_a_batch_reads_as_its_documents_one_by_one(others):
    """Positions are relative everywhere, so a document in mid-row is read as if it began the row."""
    gpt = model_of(RECIPE.with_(*(parse(t) for t in others), parse("document_mask")))
    gpt.set_progress(1.0)
    ids, targets = rows()
    nats = []
    for row, wanted in zip(ids, targets, strict=True):
        edges = [0, *(int(b) for b in torch.where(row == 1)[0] if b), len(row)]
        nats += [gpt.nats(row[None, a:b], wanted[None, a:b])[0] for a, b in itertools.pairwise(edges)]
    slow = torch.cat(nats)
    assert torch.allclose(gpt.nats(ids, targets, training=True).flatten(), slow, atol=2e-5)
    assert torch.allclose(gpt(ids, targets), slow.mean(), atol=1e-5)
    assert (gpt.nats(ids, targets).flatten() - slow).abs().max() > 0.01, "evaluation is not masked"
    assert all(block.attention.segments is None for block in gpt.blocks)


def test_gradients_are_those_of_the_documents_one_by_one():
    masked, plain = model_of(RECIPE.with_(parse("document_mask"))), model_of()
    ids, targets = rows()
    masked(ids[:1], targets[:1]).backward()
    parts = ((0, 11), (11, 12), (12, 32))
    (sum(plain.nats(ids[:1, a:b], targets[:1, a:b]).sum() for a, b in parts) / 32).backward()
    for a, b in zip(masked.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_one_segment_is_causal_attention():
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, heads, 8, generator=random) for n, heads in ((5, 4), (9, 2), (9, 2)))
    assert torch.allclose(segmented_attention(q, k, v, torch.zeros(2, 9)), causal_attention(q, k, v), atol=1e-6)


def test_a_kernel_of_its_own_is_refused():
    with pytest.raises(ValueError, match="knows no documents"):
        Recipe(SHAPE, techniques=(parse("document_mask"), parse("xsa_diagonal"))).check()
