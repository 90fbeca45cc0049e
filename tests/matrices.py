"""Small parameter sets for the tests of the quantise and pack stages."""

import torch

from golflab.model.network.layers import ParameterInfo


def infos(hidden=48, layers=2):
    out = [ParameterInfo("table.weight", "table", "table", (64, 32), None)]
    for layer in range(layers):
        for name, shape, role in (
            ("query", (32, 32), "attention"),
            ("key", (16, 32), "attention"),
            ("up", (hidden, 32), "mlp"),
            ("down", (32, hidden), "mlp"),
        ):
            out.append(ParameterInfo(f"blocks.{layer}.{name}.weight", "linear", role, shape, layer))
        out.append(ParameterInfo(f"blocks.{layer}.gain.weight", "scale", "scale", (2, 32), layer))
    return out


def weights(parameters, seed=0, spread=0.3, size=0.1):
    dice = torch.Generator().manual_seed(seed)
    out = {}
    for info in parameters:
        rows = torch.exp(spread * torch.randn(info.shape[0], *[1] * (len(info.shape) - 1), generator=dice))
        out[info.name] = size * rows * torch.randn(info.shape, generator=dice)
    return out


def matrix(rows=64, columns=96, seed=0, spread=0.0):
    dice = torch.Generator().manual_seed(seed)
    lines = torch.exp(spread * torch.randn(rows, 1, generator=dice)) * torch.exp(
        spread * torch.randn(1, columns, generator=dice)
    )
    return lines * torch.randn(rows, columns, generator=dice)


LINEAR = ParameterInfo("w", "linear", "mlp", (64, 96), 0)
TABLE = ParameterInfo("t", "table", "table", (64, 96), None)
GAIN = ParameterInfo("g", "scale", "scale", (96,), 0)


def dequantise(quantised):
    """name -> the weights that are scored."""
    return {name: q.dequantised() for name, q in quantised.items()}


def weighted_error(weight, stored, hessian):
    """tr((W − Q) H (W − Q)ᵀ): what the outputs lose, summed over them."""
    gap = (weight - stored).float()
    return float(((gap @ hessian.float()) * gap).sum())


def wrong_trits(before, after):
    """What a codebook costs: share of trits that changed, and energy of the change over the energy before."""
    gap = (before.values.float() - after.values.float()).square().sum()
    share = float((before.values != after.values).float().mean())
    return share, float(gap / before.values.float().square().sum().clamp_min(1))
