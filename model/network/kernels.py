"""The four operations that decide the speed of a step, written for a CPU core; on a GPU they are PyTorch's own.

Each has one public function. On the CPU it runs an autograd function that does less work than PyTorch's operators do
there (measured: `benchmarks/training_step.py`); everywhere else, and under ``torch.compile``, it is the plain expression,
which is also what the tests compare against.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Without an epsilon PyTorch's rms_norm uses that of the accumulation type: float32's, for bfloat16 inputs too.
EPSILON = torch.finfo(torch.float32).eps

QUERY_BLOCKS = 4  # more blocks skip more of the masked triangle and make smaller matrix products
LOSS_ROWS = 1024  # rows of logits in memory at once: 4 MB at 1,024 ids, so that they stay in the processor's cache


class LogitMap(Protocol):
    """What a technique in the slot ``logits`` builds: a map of the output layer's values, and its derivative."""

    def __call__(self, z: Tensor) -> Tensor:
        """(N,V) -> (N,V)."""

    def slope(self, out: Tensor) -> Tensor:
        """The derivative (N,V) at ``out = self(z)``, from ``out`` alone."""


def _by_hand(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


# ---------------------------------------------------------------------------- RMSNorm


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = (norm.square_().div_(x.size(-1)).add_(EPSILON)).rsqrt_()
        y = x * inverse.to(x.dtype)
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        y, inverse = ctx.saved_tensors
        along = (gradient * y).sum(-1, keepdim=True, dtype=torch.float32).div_(y.size(-1))
        return (gradient - y * along.to(y.dtype)).mul_(inverse.to(y.dtype))


def rms_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean(x²) + ε) over the last axis, without a learned weight (arXiv 1910.07467)."""
    if x.dtype == torch.bfloat16 and _by_hand(x):
        return _RMSNorm.apply(x)
    return F.rms_norm(x, (x.size(-1),), eps=EPSILON)


# ---------------------------------------------------------------------------- squared activations


class _LeakySquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, slope: float) -> Tensor:
        v = F.leaky_relu(u, slope)
        ctx.slope = slope
        ctx.save_for_backward(v)
        return v * v

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (v,) = ctx.saved_tensors
        # d(v²)/du = 2 v v', and v' is 1 or the slope by the sign of v, which is the sign of u (slope 0: v is 0 there).
        return F.leaky_relu(v, ctx.slope).mul_(gradient).mul_(2.0), None


def leaky_square(u: Tensor, slope: float) -> Tensor:
    """leaky_relu(u)², elementwise; slope 0 is relu²."""
    if _by_hand(u):
        return _LeakySquare.apply(u, slope)
    return F.leaky_relu(u, slope).square()


# ---------------------------------------------------------------------------- causal attention


class _CausalAttention(torch.autograd.Function):
    """Attention in blocks of queries, so that scores above the diagonal's block are never computed.

    The query heads that share a key/value head are laid beside each other and multiplied as one matrix. Probabilities
    are kept for the backward pass: T²/2 numbers per head, which is small at the context lengths a CPU trains.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, exclusive: bool) -> Tensor:
        batch, length, heads, width = q.shape
        keys, shared = k.size(2), heads // k.size(2)
        first = k.size(1) - length  # position of the first query among the keys
        q5 = (q * (1.0 / math.sqrt(width))).view(batch, length, keys, shared, width).permute(0, 2, 3, 1, 4)
        kt = k.transpose(1, 2).reshape(batch * keys, -1, width)
        vt = v.transpose(1, 2).reshape(batch * keys, -1, width)
        out = torch.empty_like(q)
        out5 = out.view(batch, length, keys, shared, width)
        kept = []
        for a, b in _blocks(length):
            rows = q5[:, :, :, a:b].reshape(batch * keys, shared * (b - a), width)
            scores = torch.bmm(rows, kt[:, : first + b].transpose(1, 2))
            mask = torch.ones(b - a, b - a, dtype=torch.bool, device=q.device).triu_(1)
            corner = scores.view(batch * keys, shared, b - a, first + b)[..., first + a :]
            corner.masked_fill_(mask, float("-inf"))
            weights = torch.softmax(scores, -1)
            y = torch.bmm(_off_own(weights, shared, first + a) if exclusive else weights, vt[:, : first + b])
            out5[:, a:b] = y.view(batch, keys, shared, b - a, width).permute(0, 3, 1, 2, 4)
            kept += [rows, weights]
        ctx.save_for_backward(kt, vt, *kept)
        ctx.dims = (batch, length, keys, shared, width, first, exclusive)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        kt, vt, *kept = ctx.saved_tensors
        batch, length, keys, shared, width, first, exclusive = ctx.dims
        g5 = gradient.reshape(batch, length, keys, shared, width).permute(0, 2, 3, 1, 4)
        dq = gradient.new_empty(batch, length, keys, shared, width)
        dk, dv = torch.zeros_like(kt), torch.zeros_like(vt)
        for index, (a, b) in enumerate(_blocks(length)):
            rows, weights = kept[2 * index], kept[2 * index + 1]
            g = g5[:, :, :, a:b].reshape(batch * keys, shared * (b - a), width)
            end = first + b
            used = _off_own(weights, shared, first + a) if exclusive else weights
            dv[:, :end] += torch.bmm(used.transpose(1, 2), g)
            dweights = torch.bmm(g, vt[:, :end].transpose(1, 2))
            if exclusive:
                dweights = _off_own(dweights, shared, first + a)
            dscores = torch.ops.aten._softmax_backward_data(dweights, weights, -1, weights.dtype)
            dk[:, :end] += torch.bmm(dscores.transpose(1, 2), rows)
            d = torch.bmm(dscores, kt[:, :end])
            dq[:, a:b] = d.view(batch, keys, shared, b - a, width).permute(0, 3, 1, 2, 4)
        dq = dq.view(batch, length, keys * shared, width).mul_(1.0 / math.sqrt(width))
        dk, dv = (t.view(batch, keys, -1, width).transpose(1, 2) for t in (dk, dv))
        return dq, dk, dv, None


def _off_own(weights: Tensor, shared: int, own: int) -> Tensor:
    """A copy of a block's weights (rows, shared·n, keys) with zero where a query meets its own key, ``own`` for the first."""
    copy = weights.clone()
    copy.unflatten(1, (shared, -1))[..., own:].diagonal(dim1=-2, dim2=-1).zero_()
    return copy


def _blocks(length: int) -> list[tuple[int, int]]:
    """Cut ``length`` queries into at most `QUERY_BLOCKS` nearly equal runs."""
    cuts = [round(i * length / QUERY_BLOCKS) for i in range(QUERY_BLOCKS + 1)]
    return [(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def causal_attention(q: Tensor, k: Tensor, v: Tensor, exclusive: bool = False) -> Tensor:
    """softmax(q kᵀ/√d) v with a causal mask.

    Args:
        q: (B,Tq,H,d), the last ``Tq`` of the ``T`` positions.
        k: (B,T,K,d); query head h uses key/value head ⌊h·K/H⌋.
        v: (B,T,K,d).
        exclusive: leave each position's own value out of its sum, without renormalising (XSA's diagonal form).

    Returns:
        (B,Tq,H,d).
    """
    if _by_hand(q) or (exclusive and not torch.compiler.is_compiling()):
        return _CausalAttention.apply(q, k, v, exclusive)
    if exclusive:
        return _exclusive_attention(q, k, v)
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if q.size(2) == k.size(2):
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    else:
        seen = torch.ones(q.size(2), k.size(2), dtype=torch.bool, device=q.device).tril(k.size(2) - q.size(2))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    return y.transpose(1, 2)


def segmented_attention(q: Tensor, k: Tensor, v: Tensor, segments: Tensor) -> Tensor:
    """`causal_attention` within segments: position t sees the positions s ≤ t with the same number in ``segments`` (B,T)."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    own = segments[:, -q.size(2) :]
    seen = (own[:, :, None] == segments[:, None, :]).tril(k.size(2) - q.size(2))[:, None]  # (B,1,Tq,T)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True).transpose(1, 2)


def _exclusive_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The diagonal form of XSA as a plain expression, for the compiler: it makes the (T,T) matrix."""
    shared = q.size(2) // k.size(2)
    k, v = (t.repeat_interleave(shared, 2) for t in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k).float() / math.sqrt(q.size(-1))
    future = torch.ones(q.size(1), k.size(1), dtype=torch.bool, device=q.device).triu_(k.size(1) - q.size(1) + 1)
    weights = scores.masked_fill(future, float("-inf")).softmax(-1).tril(k.size(1) - q.size(1) - 1)
    return torch.einsum("bhqk,bkhd->bqhd", weights.to(v.dtype), v)


# ---------------------------------------------------------------------------- output layer and loss


class _HeadLoss(torch.autograd.Function):
    """Output matrix, logit map and cross-entropy in portions; the gradient is computed while the logits are in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: LogitMap | None) -> Tensor:
        rows = targets.numel()
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dweight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        nats = x.new_empty(rows, dtype=torch.float32)
        for a in range(0, rows, LOSS_ROWS):
            part, target = x[a : a + LOSS_ROWS], targets[a : a + LOSS_ROWS, None]
            z = (part @ weight.t()).float()
            if cap is not None:
                z = cap(z)
            norm = torch.logsumexp(z, -1, keepdim=True)
            nats[a : a + LOSS_ROWS] = (norm - z.gather(1, target)).squeeze(1)
            if dx is None and dweight is None:
                continue
            slope = None if cap is None else cap.slope(z)
            dz = z.sub_(norm).exp_()
            dz.scatter_add_(1, target, dz.new_full((), -1.0).expand_as(target))
            if slope is not None:
                dz.mul_(slope)
            dz = dz.div_(rows).to(x.dtype)
            if dx is not None:
                dx[a : a + LOSS_ROWS] = dz @ weight
            if dweight is not None:
                dweight += dz.t() @ part
        ctx.save_for_backward(dx, dweight)
        ctx.weight_dtype = weight.dtype
        return nats.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        dx, dweight = ctx.saved_tensors
        dx = None if dx is None else dx * gradient.to(dx.dtype)
        dweight = None if dweight is None else (dweight * gradient).to(ctx.weight_dtype)
        return dx, dweight, None, None


def head_loss(x: Tensor, weight: Tensor, targets: Tensor, cap: LogitMap | None) -> Tensor:
    """Mean cross-entropy in nats of ``cap(x Wᵀ)`` against ``targets``, in float32.

    Args:
        x: (N,D) final hidden states.
        weight: (V,D) output matrix in the type of ``x``.
        targets: (N,) ids.
        cap: what the technique in the slot ``logits`` builds, or None.
    """
    if _by_hand(x) and not isinstance(cap, nn.Module):  # a map that learns needs gradients of its own
        return _HeadLoss.apply(x, weight, targets, cap)
    z = F.linear(x, weight).float()
    return F.cross_entropy(z if cap is None else cap(z), targets)
