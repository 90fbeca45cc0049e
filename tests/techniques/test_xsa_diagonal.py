"""XSA's diagonal form against the full softmax matrix."""

from __future__ import annotations

import torch

from golflab.model.techniques.model.xsa_diagonal import XSADiagonal
from tests.contract_helpers import TINY


def test_it_drops_the_diagonal_without_renormalising():
    q, k, v = torch.randn(1, 7, 4, 8), torch.randn(1, 7, 2, 8), torch.randn(1, 7, 2, 8)
    y = XSADiagonal(last=1).build(TINY, 3)(q, k, v)
    for h in range(4):
        scores = (q[0, :, h].double() @ k[0, :, h // 2].double().T) / 8**0.5
        weights = torch.softmax(scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf), -1)
        expected = (weights - weights.diag().diag()) @ v[0, :, h // 2].double()
        assert torch.allclose(y[0, :, h].double(), expected, atol=1e-5)
    assert not y[:, 0].any()


def test_only_the_last_layers_have_it():
    assert [XSADiagonal(last=1).build(TINY, layer) is not None for layer in range(4)] == [False, False, False, True]
