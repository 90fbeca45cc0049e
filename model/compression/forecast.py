"""Forecast: the size of a recipe's artifact before anything is trained, the bill by tensor, and the largest model that fits.

A trained matrix is close enough to Gaussian rows for its entropy to follow from the quantiser alone
(`golflab.model.compression.entropy`). What is not Gaussian about it differs between schemes (quantiser, codec,
quantisation-aware training …) and hardly inside one: `Calibration` learns one ratio per scheme from finished runs.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from golflab.model.compression.calibration import Calibration
from golflab.model.compression.entropy import gaussian_entropy, gaussian_huffman
from golflab.model.compression.grid import Grid
from golflab.model.data.prepare import rewriting_of
from golflab.model.data.tokenizer import forecast_bytes
from golflab.model.network.layers import ParameterInfo
from golflab.model.recipe import Recipe

HEADER = 56  # bytes of the container's fixed part and of the header's layout and codec entries
HEADER_PER_TENSOR = 7.5  # the compressed header's line of a tensor


@dataclass(frozen=True)
class Forecast:
    """Bytes of an artifact, code included: the true size lies in ``low`` … ``high`` with probability ``coverage``."""

    low: int
    mid: int
    high: int
    coverage: float

    def to_json(self) -> dict[str, int]:
        """What `golflab run --json` prints."""
        return {"low": self.low, "mid": self.mid, "high": self.high}


@dataclass(frozen=True)
class Line:
    """A line of the bill: one tensor, its row scales included."""

    name: str
    kind: str
    role: str
    count: int
    bits: float
    bytes: int
    share: float


@dataclass(frozen=True)
class Bill:
    """What every part of an artifact is expected to cost.

    Attributes:
        lines: one per tensor, in the model's order.
        header_bytes: the container.
        code_bytes: the script that must travel with the weights.
        tokenizer_bytes: the tokenizer's file, which is in no total here.
        total: the forecast of weights and code.
        parameters: elements in all.
    """

    lines: tuple[Line, ...]
    header_bytes: int
    code_bytes: int
    total: Forecast
    parameters: int
    tokenizer_bytes: int = 0

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Role -> (parameters, bytes), largest first."""
        sums: dict[str, tuple[int, int]] = {}
        for line in self.lines:
            count, size = sums.get(line.role, (0, 0))
            sums[line.role] = (count + line.count, size + line.bytes)
        return dict(sorted(sums.items(), key=lambda item: -item[1][1]))

    def to_json(self) -> dict[str, object]:
        """What `golflab cost --json` prints."""
        keys = ("name", "kind", "count", "bits", "bytes")
        tensors = [{key: value for key, value in asdict(line).items() if key in keys} for line in self.lines]
        sizes = {"parameters": self.parameters, "bytes": self.total.to_json(), "code_bytes": self.code_bytes}
        more = {"tokenizer_bytes": self.tokenizer_bytes, "bytes_with_tokenizer": self.total.mid + self.tokenizer_bytes}
        return sizes | more | {"tensors": tensors}


def inventory(recipe: Recipe) -> list[ParameterInfo]:
    """Every parameter the recipe's model has, from the model on the meta device, which takes no memory."""
    built = tuple(t for t in recipe.techniques if t.stage() == "model")  # the rest adds no parameter
    return list(_inventory(Recipe(recipe.shape, techniques=built)))


@functools.lru_cache(maxsize=512)
def _inventory(recipe: Recipe) -> tuple[ParameterInfo, ...]:
    import torch

    from golflab.model.network.gpt import GPT
    from golflab.model.network.layers import parameters_of

    with torch.device("meta"):
        return tuple(parameters_of(GPT(recipe)))


def forecast(
    infos: list[ParameterInfo],
    recipe: Recipe,
    code_bytes: int,
    calibration: Calibration | None = None,
    coverage: float = 0.9,
) -> Forecast:
    """Expected bytes of the recipe's artifact, code included, with an interval.

    Args:
        infos: the model's parameters (`inventory`).
        recipe: its quantise and pack techniques set the rate.
        code_bytes: length of the exported script.
        calibration: learned from finished runs; None uses the Gaussian theory alone, with its wide interval.
        coverage: probability with which the interval contains the true size.
    """
    raw = sum(tensor_bytes(infos, recipe)) + header_bytes(infos)
    low, mid, high = (calibration or Calibration()).interval(scheme(recipe), coverage)
    sizes = [code_bytes + round(raw * ratio) for ratio in (low, mid, high)]
    return Forecast(sizes[0], sizes[1], sizes[2], coverage)


def raw_forecast(infos: list[ParameterInfo], recipe: Recipe) -> float:
    """Bytes of the packed weights by theory alone: what `Calibration.learn` compares the truth with."""
    return sum(tensor_bytes(infos, recipe)) + header_bytes(infos)


def bill(
    infos: list[ParameterInfo], recipe: Recipe, code_bytes: int, calibration: Calibration | None = None, coverage: float = 0.9
) -> Bill:
    """The forecast by tensor; arguments as for `forecast`."""
    total = forecast(infos, recipe, code_bytes, calibration, coverage)
    raw, header = tensor_bytes(infos, recipe), header_bytes(infos)
    ratio = (total.mid - code_bytes) / (sum(raw) + header)
    lines = tuple(
        Line(i.name, i.kind, i.role, i.count, 8 * size * ratio / max(i.count, 1), round(size * ratio), size * ratio / total.mid)
        for i, size in zip(infos, raw, strict=True)
    )
    tokenizer = forecast_bytes(recipe.data.tokenizer, recipe.shape.vocabulary, rewriting_of(recipe))
    return Bill(lines, round(header * ratio), code_bytes, total, sum(i.count for i in infos), tokenizer)


def tensor_bytes(infos: list[ParameterInfo], recipe: Recipe) -> list[float]:
    """Expected packed bytes per tensor by theory, row scales included."""
    rate = _Rate(recipe)
    sizes = {info.name: rate.tensor(info) for info in infos}
    for adding in rate.adding:
        for name, more in adding.more_bytes(infos, rate.grid, rate.columns).items():
            sizes[name] += more
    return list(sizes.values())


def header_bytes(infos: list[ParameterInfo]) -> float:
    """Expected bytes of the container."""
    return HEADER + HEADER_PER_TENSOR * len(infos)


class _Rate:
    """Bits per weight of the recipe's quantise and pack techniques, built once."""

    def __init__(self, recipe: Recipe) -> None:
        # Techniques in these slots also describe their effect on a Gaussian: a clip its reach, a layout its shares of the two
        # bytes of fp16, a codec its overhead over the entropy.
        fixed: list[Any] = [recipe.technique_in(slot) for slot in ("prune", "clip", "trim", "layout", "codec")]
        prune, self.clip, self.trim, self.layout, self.codec = fixed
        self.grid: Callable[[ParameterInfo], Grid | None] = recipe.build("bits")
        self.pruned: float = getattr(prune, "fraction", 0.0)
        self.adding: list[Any] = [t for slot in ("protect", "correct") for t in recipe.techniques_in(slot)]

    def tensor(self, info: ParameterInfo) -> float:
        """Expected bytes of one tensor with its scales."""
        grid = self.grid(info)
        if grid is None:
            share = self.layout.float_share if info.kind != "scale" else self.layout.scale_share
            return 2.0 * info.count * share
        rows, columns = info.shape
        if grid.largest == 1 and hasattr(self.trim, "coded_bytes"):
            return float(self.trim.coded_bytes(info.count)) + 2.0 * rows * self.layout.scale_share
        cells = round(self.ratio(info, grid, columns), 4), grid.largest, self.pruned
        entropy = gaussian_entropy(*cells)
        coded = gaussian_huffman(*cells) if self.codec.whole_bits else entropy
        return info.count * coded / 8 * self.overhead(entropy) + 2.0 * rows * self.layout.scale_share

    def columns(self, info: ParameterInfo, columns: int, largest: int) -> float:
        """Expected bytes of the integers of ``columns`` columns of a matrix on a grid of ``largest`` levels."""
        ratio = self.ratio(info, Grid(largest, -largest), columns)
        entropy = gaussian_entropy(round(ratio, 4), largest, self.pruned)
        return info.shape[0] * columns * entropy / 8 * self.overhead(entropy)

    def ratio(self, info: ParameterInfo, grid: Grid, columns: int) -> float:
        """Deviation over step of a Gaussian row."""
        if grid.largest == 1:
            return 1.2533  # the step is the mean of |w|, which is √(2/π) σ
        return float(grid.largest / self.clip.reach(columns, grid.largest, info))

    def overhead(self, entropy: float) -> float:
        """The codec's bytes over the entropy's, interpolated in what was measured at a few entropies."""
        points = sorted(self.codec.overhead.items())
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if entropy <= x1:
                return y0 + (y1 - y0) * max(0.0, (entropy - x0) / (x1 - x0))
        return float(points[-1][1])


def scheme(recipe: Recipe) -> str:
    """A recipe as `Calibration` knows it: how it is quantised and packed, a bar, how it was trained.

    What is before the bar names its scheme; runs of one scheme deviate from theory together.
    """
    slots = ("fake_quant", "rotate", "prune", "bits", "clip", "protect", "rounding", "correct", "trim", "layout", "codec")
    stored = [str(t) for slot in slots for t in recipe.techniques_in(slot)]
    early = [t for t in recipe.techniques if t.stage() in ("model", "train") and t.slot != "fake_quant"]
    trained = [word for t in early for word in dict.fromkeys((t.name, str(t)))]
    steps = recipe.schedule.steps
    length = [] if steps is None else [f"steps~2^{math.log2(max(steps, 1)):.0f}"]
    return " ".join([*stored, "|", *trained, *length])


def fit(recipe: Recipe, limit: int, size: Callable[[Recipe], float], grow: str = "hidden", multiple: int = 1) -> Recipe:
    """The widest MLP, or the most layers, with which the recipe still fits.

    Args:
        recipe: everything else stays as it is here.
        limit: bytes, code included.
        size: recipe -> bytes to hold under the limit (``lambda r: forecast(inventory(r), r, code).high``, say).
        grow: ``hidden`` or ``layers``.
        multiple: the answer is a multiple of this (64 keeps GPU kernels fast).

    Raises:
        ValueError: not even the smallest such model fits, or ``grow`` is something else.
    """
    if grow not in ("hidden", "layers"):
        raise ValueError(f"fit: grow={grow!r} must be 'hidden' or 'layers'.")

    def fits(count: int) -> bool:
        return size(recipe.with_(**{grow: count * multiple})) <= limit

    if not fits(1):
        raise ValueError(f"fit: even {grow}={multiple} is larger than {limit:,} bytes; use fewer bits or a smaller model.")
    low, high = 1, 2
    while fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return recipe.with_(**{grow: low * multiple})


def marginal(recipe: Recipe, code_bytes: int, calibration: Calibration | None = None) -> dict[str, int]:
    """Bytes that one more MLP unit in every layer, and one more layer, would add to the forecast."""

    def mid(other: Recipe) -> float:
        return forecast(inventory(other), other, code_bytes, calibration).mid

    here, hidden, layers = mid(recipe), recipe.shape.hidden, recipe.shape.layers
    # Sixteen units at once: the effect of one is smaller than the rounding.
    unit = (mid(recipe.with_(hidden=hidden + 16)) - here) / 16
    return {"mlp_unit": round(unit), "layer": round(mid(recipe.with_(layers=layers + 1)) - here)}
