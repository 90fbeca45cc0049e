"""x0 injection: λ·x0 after the MLP, nothing at λ = 0."""

from __future__ import annotations

import torch

from golflab.model.network.initialize import initialize
from golflab.model.techniques.model.x0_injection import X0Injection
from tests.contract_helpers import BASE, TINY


def test_it_adds_a_multiple_of_x0():
    inject = initialize(X0Injection().build(TINY, 0), BASE)
    x, x0 = torch.randn(1, 2, 32), torch.randn(1, 2, 32)
    assert torch.equal(inject(x, x0), x)
    torch.nn.init.constant_(inject.weight.weight, -0.3)
    assert torch.allclose(inject(x, x0), x - 0.3 * x0)
