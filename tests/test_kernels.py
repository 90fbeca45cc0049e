"""The CPU kernels against plain expressions, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from golflab.model.network.kernels import causal_attention, head_loss, leaky_square, rms_norm
from golflab.model.techniques.model.softcap import Softcap

RNG = torch.Generator().manual_seed(0)


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=RNG).to(dtype).requires_grad_()


def gradients(f, *inputs):
    y = f(*inputs)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), inputs)]


def close(a, b, tolerance):
    for x, y in zip(a, b, strict=True):
        assert torch.allclose(x.double(), y.double(), atol=tolerance, rtol=tolerance)


def slow_attention(q, k, v, exclusive=False):
    """One query, one head, one key at a time, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    shared, before = q.size(2) // k.size(2), k.size(1) - q.size(1)
    rows = []
    for b in range(q.size(0)):
        for t in range(q.size(1)):
            for h in range(q.size(2)):
                keys, values = k[b, : before + t + 1, h // shared], v[b, : before + t + 1, h // shared]
                weights = torch.exp(torch.stack([q[b, t, h] @ key for key in keys]) / math.sqrt(q.size(-1)))
                weights = weights / weights.sum()
                used = len(keys) - 1 if exclusive else len(keys)
                rows.append(sum((weights[s] * values[s] for s in range(used)), 0 * weights[0] * values[0]))
    return torch.stack(rows).view(q.shape)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(("length", "asked", "heads", "kv"), [(9, 9, 4, 2), (9, 4, 4, 1), (3, 3, 2, 2), (1, 1, 2, 1)])
def test_attention_is_the_loop(length, asked, heads, kv, exclusive):
    q, k, v = random(2, asked, heads, 6), random(2, length, kv, 6), random(2, length, kv, 6)
    fast = gradients(lambda *a: causal_attention(*a, exclusive=exclusive), q, k, v)
    slow = gradients(lambda *a: slow_attention(*a, exclusive=exclusive).float(), q, k, v)
    close(fast, slow, 1e-5)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("asked", [8, 3])
def test_traced_attention_is_the_same(asked, exclusive):
    q, k, v = random(2, asked, 4, 6), random(2, 8, 2, 6), random(2, 8, 2, 6)
    torch._dynamo.reset()
    traced = torch.compile(causal_attention, backend="eager", fullgraph=True)
    close([traced(q, k, v, exclusive)], [causal_attention(q, k, v, exclusive)], 1e-5)


def test_query_heads_share_neighbouring_key_heads():
    """Query head h uses key/value head ⌊h/G⌋: interleaved, not tiled."""
    v = torch.zeros(1, 1, 2, 4)
    v[0, 0, 1] = 1.0
    y = causal_attention(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 4), v)
    assert y[0, 0].mean(-1).tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_rms_norm(dtype, tolerance):
    x = random(3, 5, 16, dtype=dtype)

    def slow(x):
        wide = x.double()
        return (wide / (wide.square().mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()).to(dtype)

    close(gradients(rms_norm, x), gradients(slow, x), tolerance)
    assert torch.isfinite(rms_norm(torch.zeros(2, 8, dtype=dtype))).all()


@pytest.mark.parametrize("slope", [0.0, 0.5, 0.9])
def test_leaky_square(slope):
    u = random(4, 33)
    slow = lambda u: torch.where(u > 0, u, slope * u) ** 2
    close(gradients(lambda u: leaky_square(u, slope), u), gradients(slow, u), 1e-6)


@pytest.mark.parametrize("cap", [None, Softcap(cap=5.0).build(None)])
@pytest.mark.parametrize("rows", [7, 1500])
def test_head_loss_is_cross_entropy_of_capped_logits(cap, rows):
    x, weight = random(rows, 8), random(20, 8)
    targets = torch.randint(20, (rows,), generator=RNG)

    def slow(x, weight):
        z = x.double() @ weight.double().T
        return F.cross_entropy(z if cap is None else 5.0 * torch.tanh(z / 5.0), targets).float()[None]

    close(gradients(lambda x, w: head_loss(x, w, targets, cap)[None], x, weight), gradients(slow, x, weight), 1e-5)
