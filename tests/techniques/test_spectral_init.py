"""Spectral init: S_k/S_1 = k^-p to 1e-5, the largest stays (checklist 5)."""

from __future__ import annotations

import pytest
import torch

from golflab.model.techniques.model.spectral_init import SpectralInit
from tests.contract_helpers import BASE, fresh


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_spectrum_is_a_power_law(power):
    plain = fresh(BASE).table.weight.double()
    table = fresh(BASE.with_(SpectralInit(power=power))).table.weight.double()
    s = torch.linalg.svdvals(table)
    k = torch.arange(1, len(s) + 1, dtype=torch.float64)
    assert torch.allclose(s / s[0], k**-power, atol=1e-5)
    assert torch.allclose(s[0], torch.linalg.svdvals(plain)[0], rtol=1e-4)


def test_directions_stay():
    plain, table = fresh(BASE).table.weight.double(), fresh(BASE.with_(SpectralInit())).table.weight.double()
    u, _, vt = torch.linalg.svd(plain, full_matrices=False)
    inside = u.T @ table @ vt.T
    assert torch.allclose(inside, inside.diag().diag(), atol=1e-5)
