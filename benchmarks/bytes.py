"""What bytes cost: codecs against the entropy on really trained weights, speed at 27 million parameters, forecast errors.

    python benchmarks/bytes.py codecs --cache .cache        trains the proxy baseline once, then packs it every way
    python benchmarks/bytes.py speed                        packing, unpacking and GPTQ at full size, on synthetic weights
    python benchmarks/bytes.py forecast runs/NAME …         forecast against truth over finished experiments, in their order

Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch

from model.artifact import pack, unpack
from model.calibration import Calibration
from model.entropy import empirical_entropy
from model.forecast import inventory, raw_forecast, scheme
from model.gptq import factorise, gptq_round
from model.layers import ParameterInfo
from model.quantize import Quantised, grid_of, quantise
from model.recipe import Recipe
from model.record import records_in
from model.run import run
from model.stages import Cache
from model.technique import parse
from spaces.presets import preset

SCHEMES = (
    "int8_rows",
    "int8_rows sd_clip",
    "int6_rows",
    "int6_rows:table=6 sd_clip",
    "int5_rows",
    "int4_rows:table=6 mse_clip",
    "mixed_rows:table=8",
    "ternary_rows:table=8",
)
PACKERS = ("byte_shuffle zlib_codec", "byte_shuffle zstd_codec", "byte_shuffle lzma_codec", "byte_shuffle brotli_codec")
PACKERS += ("shared_row brotli_codec", "byte_shuffle rans_codec", "shared_row rans_codec")


def bound(quantised: dict[str, Quantised]) -> float:
    """Bytes of a perfect coder that knows every tensor's own histogram of integers, and of its fp16 numbers' two bytes."""
    total = 0.0
    for q in quantised.values():
        floats = (q.values if q.scales is None else q.scales).numpy().astype("<f2").view(np.uint8).reshape(-1, 2)
        arrays = [floats[:, 0], floats[:, 1]] + ([] if q.scales is None else [q.values.numpy().astype(np.int64).ravel() + 128])
        total += sum(a.size * empirical_entropy([float(c) for c in np.bincount(a)]) / 8 for a in arrays if a.size)
    return total


def trained(recipe: Recipe, cache: Path) -> dict[str, torch.Tensor]:
    """Last weights of the recipe's training, from the cache where it was done before."""
    record = run(recipe, None, cache)
    stored = Cache(cache).read("train", record.training)
    assert stored is not None
    return {name.removeprefix("last."): w for name, w in stored[0].items() if name.startswith("last.")}


def codecs(cache: Path) -> None:
    """Packed bytes over the entropy bound, per scheme and packer."""
    recipe = preset("baseline", "proxy")
    weights, infos = trained(recipe, cache), inventory(recipe)
    print(f"| scheme | bound, bytes | {' | '.join(PACKERS)} |\n|---|---|{'---|' * len(PACKERS)}")
    for names in SCHEMES:
        chosen = recipe.without("row_bytes", "zlib_codec").with_(*map(parse, names.split()))
        quantised = quantise(weights, infos, chosen)
        least, cells = bound(quantised), []
        for packer in PACKERS:
            blob = pack(quantised, chosen.with_(*map(parse, packer.split())))
            assert all(torch.equal(w, quantised[name].dequantised()) for name, w in unpack(blob).items())
            cells.append(f"{100 * (len(blob) / least - 1):+.2f} %")
        print(f"| {names} | {least:,.0f} | {' | '.join(cells)} |", flush=True)


def full_size() -> list[ParameterInfo]:
    """An entry of 27 million parameters: 11 layers, width 512, MLP 1536, 4 KV heads."""
    shapes = {"q": (512, 512), "k": (256, 512), "v": (256, 512), "o": (512, 512), "up": (1536, 512), "down": (512, 1536)}
    out = [ParameterInfo("table", "table", "table", (1024, 512), None)]
    return out + [ParameterInfo(f"{n}{i}", "linear", "mlp", s, i) for i in range(11) for n, s in shapes.items()]


def synthetic(infos: list[ParameterInfo], spread: float = 0.1) -> dict[str, torch.Tensor]:
    """Gaussian weights whose rows and columns differ in size."""
    dice = torch.Generator().manual_seed(0)
    lines = {i.name: [torch.randn(n, generator=dice) * spread for n in i.shape] for i in infos}
    sizes = {name: torch.exp(rows[:, None] + columns[None, :]) for name, (rows, columns) in lines.items()}
    return {i.name: 0.1 * sizes[i.name] * torch.randn(i.shape, generator=dice) for i in infos}


def speed() -> None:
    """Seconds of processor time at full size, one thread."""
    infos = full_size()
    weights = synthetic(infos)
    print("| scheme | packer | bytes | pack, s | unpack, s |\n|---|---|---|---|---|")
    for names in ("int8_rows", "int6_rows sd_clip", "ternary_rows:attention=2,table=8"):
        quantised = quantise(weights, infos, Recipe().with_(*map(parse, names.split())))
        for packer in PACKERS:
            recipe = Recipe().with_(*map(parse, packer.split()))
            begun = time.process_time()
            blob = pack(quantised, recipe)
            packed = time.process_time()
            unpack(blob)
            print(
                f"| {names} | {packer} | {len(blob):,} | {packed - begun:.1f} | {time.process_time() - packed:.1f} |",
                flush=True,
            )
    begun, grid = time.process_time(), grid_of(6)
    assert grid is not None
    for info in infos:
        x = torch.randn(2048, info.shape[1], generator=torch.Generator().manual_seed(1))
        factor, w = factorise(x.T @ x / len(x)), weights[info.name]
        gptq_round(w, w.abs().amax(1) / grid.largest, grid, factor)
    print(f"\nGPTQ of {sum(i.count for i in infos):,} weights with a Hessian each: {time.process_time() - begun:.1f} s")


def forecasts(folders: list[Path]) -> None:
    """Errors of the forecast made before each trial, from the trials before it, and what its interval covered."""
    calibration, errors, runs = Calibration(), [], {}
    records = sorted(((p, r) for folder in folders for p, r in records_in(folder)), key=lambda item: item[0].stat().st_mtime)
    for _, record in records:
        if record.state != "complete" or record.bytes is None or record.code_bytes is None:
            continue
        recipe = Recipe.from_json(record.spec)
        name, predicted = scheme(recipe), raw_forecast(inventory(recipe), recipe)
        actual = record.bytes - record.code_bytes
        low, middle, high = calibration.interval(name)
        before = runs.get(name.partition("|")[0], 0)
        errors.append((before, math.log(actual / predicted / middle), low <= actual / predicted <= high))
        runs[name.partition("|")[0]] = before + 1
        calibration.learn(name, predicted, actual)
    print(f"{len(errors)} trials of {len(runs)} schemes\n")
    print("| runs of the scheme before | trials | mean abs. error | largest | covered |\n|---|---|---|---|---|")
    for title, wanted in (("none", range(1)), ("1 to 4", range(1, 5)), ("5 and more", range(5, 10**6))):
        rows = [(abs(e), hit) for before, e, hit in errors if before in wanted]
        if rows:
            sizes = [e for e, _ in rows]
            covered = sum(hit for _, hit in rows) / len(rows)
            print(
                f"| {title} | {len(rows)} | {100 * np.mean(sizes):.2f} % | {100 * max(sizes):.2f} % | {100 * covered:.0f} % |"
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("codecs", "speed", "forecast"))
    parser.add_argument("folders", nargs="*", type=Path, help="experiments, for forecast")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="stage cache, for codecs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "codecs":
        codecs(options.cache)
    elif options.what == "speed":
        speed()
    else:
        forecasts(options.folders)


if __name__ == "__main__":
    main()
