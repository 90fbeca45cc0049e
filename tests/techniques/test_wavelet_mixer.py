"""The wavelet mixer as published, step by step, against what is computed (checklist 7)."""

from __future__ import annotations

import pytest
import torch

from golflab.model.techniques.model.wavelet_mixer import WaveletMixer
from tests.contract_helpers import TINY


def published(w, s):
    """The Haar transform, the leak of its low band, and back: w (T,C) float64."""
    low, high = [], []
    for t in range(len(w)):
        p = w[t - 1] if t else w[0]
        low.append((w[t] + p) / 2**0.5)
        high.append((w[t] - p) / 2**0.5)
    leaked = [low[t] + s * ((low[t - 1] if t else low[0]) - low[t]) for t in range(len(w))]
    return torch.stack([(a + b) / 2**0.5 for a, b in zip(leaked, high, strict=True)])


@pytest.mark.parametrize("length", [1, 2, 3, 9])
@pytest.mark.parametrize("channels", [1, 16, 32])
def test_it_is_the_published_transform(length, channels):
    mixer = WaveletMixer(channels=channels).build(TINY, 0)
    torch.nn.init.normal_(mixer.weight.weight)
    x = torch.randn(1, length, 32)
    out = mixer(x)
    expected = published(x[0, :, :channels].double(), mixer.weight.weight.double())
    assert torch.allclose(out[0, :, :channels].double(), expected, atol=1e-5)
    assert torch.equal(out[..., channels:], x[..., channels:])


def test_without_a_leak_it_is_the_identity():
    mixer, x = WaveletMixer(start=0.0).build(TINY, 0), torch.randn(1, 5, 32)
    torch.nn.init.zeros_(mixer.weight.weight)
    assert torch.equal(mixer(x), x)
