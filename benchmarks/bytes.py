"""What bytes cost: codecs against the entropy on really trained weights, speed at 27 million parameters, forecast errors.

    python -m benchmarks.bytes codecs --cache .cache        trains the proxy baseline once, then packs it every way
    python -m benchmarks.bytes archivers                    rows sorted by likeness; lrzip and zpaq where they are installed
    python -m benchmarks.bytes speed                        packing, unpacking and GPTQ at full size, on synthetic weights
    python -m benchmarks.bytes gptq                         the last line of that alone
    python -m benchmarks.bytes full                         forecasts of the presets at full shape beside the published sizes
    python -m benchmarks.bytes forecast runs/NAME …         forecast against truth over finished experiments, in their order
    python -m benchmarks.bytes refused runs/NAME            what that search would refuse of random combinations, and the truth

Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import entropy

from benchmarks.archivers import ARCHIVERS, archived
from golflab.model.compression.artifact import pack, unpack
from golflab.model.compression.calibration import Calibration
from golflab.model.compression.forecast import forecast, inventory, raw_forecast, scheme
from golflab.model.compression.gptq import collect
from golflab.model.compression.grid import Quantised
from golflab.model.compression.quantize import quantise
from golflab.model.network.gpt import GPT
from golflab.model.network.initialize import initialize
from golflab.model.network.layers import ParameterInfo, parameters_of
from golflab.model.recipe import Recipe
from golflab.model.record import records_in
from golflab.model.run import run
from golflab.model.stages import Cache
from golflab.model.system.device import Place
from golflab.model.technique import parse
from golflab.spaces.presets import PRESETS, preset

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
        total += sum(a.size * entropy(np.bincount(a), base=2) / 8 for a in arrays if a.size)
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


SORTED = ("byte_shuffle", "similar_rows:transpose=false", "similar_rows")


def archivers(cache: Path) -> None:
    """Packed bytes over the entropy bound with rows sorted by likeness, and what the records' archivers make of these planes.

    The archivers are programs of their own; only those that are installed are asked.
    """
    recipe = preset("baseline", "proxy")
    weights, infos = trained(recipe, cache), inventory(recipe)
    there = [name for name in ARCHIVERS if shutil.which(name)]
    print(f"installed: {', '.join(there) or 'neither lrzip nor zpaq'}")
    print("| scheme | layout | bound, bytes | brotli | lzma | rans |" + "".join(f" {name} |" for name in there))
    print("|---|---|---|---|---|---|" + "---|" * len(there))
    for names in ("int6_rows sd_clip", "int6_rows:table=6 sd_clip", "int8_rows"):
        chosen = recipe.without("row_bytes", "zlib_codec").with_(*map(parse, names.split()))
        quantised = quantise(weights, infos, chosen)
        least = bound(quantised)
        for layout in SORTED:
            packed = [pack(quantised, chosen.with_(parse(layout), parse(f"{c}_codec"))) for c in ("brotli", "lzma", "rans")]
            sizes = [*map(len, packed), *(archived(quantised, layout, name) for name in there)]
            cells = " | ".join(f"{100 * (size / least - 1):+.2f} %" for size in sizes)
            print(f"| {names} | {layout} | {least:,.0f} | {cells} |", flush=True)


def full_size() -> list[ParameterInfo]:
    """An entry of 27 million parameters: 11 layers, width 512, MLP 1536, 4 KV heads."""
    shapes = {"q": (512, 512), "k": (256, 512), "v": (256, 512), "o": (512, 512), "up": (1536, 512), "down": (512, 1536)}
    out = [ParameterInfo("table", "table", "table", (1024, 512), None)]
    return out + [ParameterInfo(f"{n}{i}", "linear", "mlp", s, i) for i in range(11) for n, s in shapes.items()]


def synthetic(infos: list[ParameterInfo], spread: float = 0.1) -> dict[str, torch.Tensor]:
    """Gaussian weights whose rows and columns differ in size."""
    generator = torch.Generator().manual_seed(0)
    lines = {i.name: [torch.randn(n, generator=generator) * spread for n in i.shape] for i in infos}
    sizes = {name: torch.exp(rows[:, None] + columns[None, :]) for name, (rows, columns) in lines.items()}
    return {i.name: 0.1 * sizes[i.name] * torch.randn(i.shape, generator=generator) for i in infos}


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
    gptq_speed()


def gptq_speed(tokens: int = 32_768) -> None:
    """Seconds of processor time for Hessians and rounding of seed_849 at full shape, freshly drawn weights, one thread."""
    recipe = preset("seed_849", "full")
    model = GPT(recipe, Place.choose("cpu").dtype)
    initialize(model, recipe)
    model.set_progress(1.0)
    generator, context = torch.Generator().manual_seed(0), recipe.shape.context
    batches = [torch.randint(0, recipe.shape.vocabulary, (1, context), generator=generator) for _ in range(tokens // context)]
    begun = time.process_time()
    hessians = collect(model, batches)
    collected = time.process_time()
    infos = parameters_of(model)
    quantise({name: w.detach() for name, w in model.named_parameters()}, infos, recipe, hessians)
    print(
        f"\n{sum(i.count for i in infos):,} weights of seed_849: Hessians over {tokens:,} tokens {collected - begun:.1f} s, "
        f"pruning, clipping and GPTQ {time.process_time() - collected:.1f} s"
    )


def forecasts(folders: list[Path]) -> None:
    """Errors of the forecast made before each trial, from the trials before it, and what its interval covered."""
    calibration, errors, runs, rungs = Calibration(), [], {}, {}
    records = sorted(((p, r) for folder in folders for p, r in records_in(folder)), key=lambda item: item[0].stat().st_mtime)
    seen = set()
    for _, record in records:
        if record.state != "complete" or record.bytes is None or record.code_bytes is None or record.recipe in seen:
            continue
        seen.add(record.recipe)  # an experiment may hold copies of another's records
        recipe = Recipe.from_json(record.spec)
        name, predicted = scheme(recipe), raw_forecast(inventory(recipe), recipe)
        actual = record.bytes - record.code_bytes
        low, middle, high = calibration.interval(name)
        before = runs.get(name.partition("|")[0], 0)
        absolute = "floor=True" in name
        errors.append((before, math.log(actual / predicted / middle), low <= actual / predicted <= high, absolute))
        for point in record.curve:
            if "bytes" in point and not absolute:
                share = round(4 * point["tokens"] / record.tokens) / 4
                rungs.setdefault(share, []).append(math.log((point["bytes"] - record.code_bytes) / actual))
        runs[name.partition("|")[0]] = before + 1
        calibration.learn(name, predicted, actual)
    print(
        f"{len(errors)} trials of {len(runs)} schemes; the forecast before each training, from the trials that ended before\n"
    )
    print("| steps | runs before | trials | RMS | mean | largest | covered (90 % stated) |\n|---|---|---|---|---|---|---|")
    for kind in ("follow the weights", "absolute (floor)"):
        for title, wanted in (("none", range(1)), ("1 to 4", range(1, 5)), ("5 and more", range(5, 10**6))):
            rows = [(e, hit) for before, e, hit, absolute in errors if before in wanted and absolute == (kind[0] == "a")]
            if rows:
                sizes, covered = np.array([e for e, _ in rows]), sum(hit for _, hit in rows)
                errors = (np.sqrt((sizes**2).mean()), np.abs(sizes).mean(), np.abs(sizes).max())
                shown = " | ".join(f"{100 * number:.2f} %" for number in errors)
                print(f"| {kind} | {title} | {len(rows)} | {shown} | {covered} of {len(rows)} |")
    print("\n| measured at this share of the run, against the end | trials | RMS | largest |\n|---|---|---|---|")
    for share, gaps in sorted(rungs.items()):
        print(
            f"| {share:.0%} | {len(gaps)} | {100 * np.sqrt(np.mean(np.square(gaps))):.2f} % "
            f"| {100 * np.abs(gaps).max():.2f} % |"
        )


def refused(folder: Path, cache: Path, train: int, draws: int = 300) -> None:
    """What a finished search would now refuse, and the truth about those of them that are nearest to the limit."""
    from golflab.search.experiment.drive import open_ledger
    from golflab.search.experiment.start import options_of
    from golflab.search.sampler.selection import LIKELY, REFUSED, SURE

    ledger = open_ledger(options_of(folder.name, str(folder.parent)))
    ledger.reconcile()  # which teaches the forecast
    counts, generator = ledger.counts(), random.Random(1)
    parts = [f"{counts[key]} {key}" for key in ("asked", "not_fitting", "trained", "over_limit", "complete")]
    print(f"{folder.name}: {', '.join(parts)}\n")
    recipes = {r.hash: r for r in (ledger.space.recipe(ledger.space.random(generator)) for _ in range(draws))}
    chances = {name: ledger.chance(recipe) for name, recipe in recipes.items()}

    def measured(recipe: Recipe) -> int:
        """Bytes over the limit; the run stops before it is scored."""
        record = run(recipe, None, cache, on_rung=lambda point: "measured" if point["progress"] == 1 else None)
        return (record.bytes or 0) - recipe.limit

    print("| chance to fit | random combinations | nearest trained | fit | bytes over the limit |\n|---|---|---|---|---|")
    groups = {"surely": (SURE, 1.01), "likely": (LIKELY, SURE), "hardly": (REFUSED, LIKELY), "refused": (0.0, REFUSED)}
    for title, (low, high) in groups.items():
        inside = sorted((n for n, c in chances.items() if low <= c < high), key=lambda n: abs(chances[n] - 0.5))
        over = [measured(recipes[name]) for name in inside[:train]]
        words = f"{min(over):+,} … {max(over):+,}" if over else ""
        print(f"| {title} ({low:.0%} to {high:.0%}) | {len(inside)} | {len(over)} | {sum(o <= 0 for o in over)} | {words} |")
    ledger.presence.leave()


# Packed weights as the entries' pages and logs state them, without code. #211's log is of its int8 model.
PUBLISHED = {"baseline": 15_815_847, "seed_211": 15_304_615, "seed_849": 15_852_562}
PUBLISHED |= {"seed_680": 15_768_240, "seed_1499": 14_021_703, "seed_295": 15_888_496}
PUBLISHED |= {"record_1394": 15_973_467, "record_1493": 15_975_300, "record_1855": 15_865_260}


def full() -> None:
    """The forecast of every preset's weights at full shape, beside the size its page states."""
    print("| preset | parameters | forecast of the weights | published | forecast over it |\n|---|---|---|---|---|")
    for name in PRESETS:
        recipe = preset(name, "full")
        infos, stated = inventory(recipe), PUBLISHED.get(name.removesuffix("_as_published"))
        size = forecast(infos, recipe, 0)
        beside = "– | –" if stated is None else f"{stated:,} | {100 * (size.mid / stated - 1):+.1f} %"
        count = sum(i.count for i in infos)
        print(f"| {name} | {count:,} | {size.mid:,} ({size.low:,} … {size.high:,}) | {beside} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("codecs", "archivers", "speed", "gptq", "full", "forecast", "refused"))
    parser.add_argument("folders", nargs="*", type=Path, help="experiments, for forecast and refused")
    parser.add_argument("--train", type=int, default=10, help="combinations of each group to train, for refused")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="stage cache, for codecs and refused")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "codecs":
        codecs(options.cache)
    elif options.what == "archivers":
        archivers(options.cache)
    elif options.what == "speed":
        speed()
    elif options.what == "gptq":
        gptq_speed()
    elif options.what == "full":
        full()
    elif options.what == "refused":
        refused(options.folders[0], options.cache, options.train)
    else:
        forecasts(options.folders)


if __name__ == "__main__":
    main()
