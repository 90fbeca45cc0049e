"""What follows the worked search: prune the winner, confirm on the test part, train ten times as long, and tell (docs/seeds.md).

    python -m benchmarks.worked_finish prune --corpus TEXT     # what the winner can do without is switched off
    python -m benchmarks.worked_finish confirm --corpus TEXT   # fresh seeds, on the test part
    python -m benchmarks.worked_finish adapt --corpus TEXT     # the same weights, scored by what learns from the text
    python -m benchmarks.worked_finish longer --corpus TEXT    # at ten times the tokens
    python -m benchmarks.worked_finish table                   # of what there is so far
    python -m benchmarks.worked_finish write docs/seeds/worked.jsonl.xz
    python -m benchmarks.worked_finish table --file docs/seeds/worked.jsonl.xz

Every finished run is a line of a file in ``--folder``; started again, a phase goes on where it was.
"""

from __future__ import annotations

import argparse
import functools
import json
import lzma
import multiprocessing
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.worked_search import (
    METHODS,
    SCALE,
    SEEDS,
    TOKENS,
    Setting,
    append,
    best,
    quiet,
    read,
    recipe_of,
    trained,
)
from golflab.analysis.comparison.paired import paired
from golflab.analysis.inference.significance import holm, record_rules
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.spaces.presets import preset

FRESH = (100, 101)  # seeds that no search had
PRUNING = 200  # the seed of pruning
LITTLE = 0.003  # bits per byte that a technique must be worth to be kept without being asked twice
BYTES_PER_TOKEN = 2.44  # of the challenge's text and 1,024 ids: its rules are in nats per token
FREE = 0.001  # by which the score may rise when one is left out

Lines = dict[str, list[dict[str, Any]]]  # by phase


def phases(folder: Path) -> Lines:
    """All lines of a folder, by phase."""
    found = {"search": [line for file in sorted((folder / "search").glob("*.jsonl")) for line in read(file)]}
    return found | {name: read(folder / f"{name}.jsonl") for name in ("prune", "confirm", "adapt", "longer")}


def stream(lines: Lines, contender: str, number: int) -> list[dict[str, Any]]:
    """The trainings of one contender's search."""
    return [line for line in lines["search"] if (line["contender"], line["search"]) == (contender, number)]


def label(contender: str, number: int) -> str:
    return contender if contender in SEEDS else f"{contender} {number + 1}"


def contenders(lines: Lines) -> dict[str, Recipe]:
    """The best recipe of every search on the development part, by label; the pruned winner last, once there is one."""
    found = {}
    for name, number in [*((name, 0) for name in SEEDS), *((m, n) for m in METHODS for n in range(3))]:
        line = best(stream(lines, name, number))
        if line is not None:
            found[label(name, number)] = recipe_of(line)
    ended = [line for line in lines["prune"] if line["what"] == "pruned"]
    return found | ({"pruned": recipe_of(ended[-1])} if ended else {})


def winner(lines: Lines) -> Recipe:
    """The best of our searches on the development part."""
    return recipe_of(min(filter(None, (best(stream(lines, "ours", n)) for n in range(3))), key=lambda line: line["bpb"]))


# ------------------------------------------------------------------------------------------------ phases


def prune(setting: Setting) -> None:
    """Leave out each technique of the winner; then, the most useless first, all that it can do without."""
    lines = phases(setting.folder)
    if any(line["what"] == "pruned" for line in lines["prune"]):
        return
    score = functools.partial(_score, setting=setting, phase="prune")
    current = winner(lines).with_(seed=PRUNING)
    here = score(current, "winner")
    alone = {}
    for technique in current.techniques:
        less = current.without(technique.name)
        if _runs(less) and (found := score(less, f"without {technique.name}")) is not None:
            alone[technique.name] = found - here
    for name in sorted((n for n, delta in alone.items() if delta <= LITTLE), key=alone.__getitem__):
        less = current.without(name)
        if _runs(less) and (found := score(less, f"pruning {name}")) is not None and found <= here + FREE:
            current, here = less, found
    score(current, "pruned")


def _score(recipe: Recipe, what: str, *, setting: Setting, phase: str) -> float | None:
    """Bits per byte of a recipe, trained unless the file has it; None where it does not fit."""
    file = setting.folder / f"{phase}.jsonl"
    for line in read(file):
        if line["what"] == what:
            return line["bpb"] if line["fits"] else None
    same = next((line for line in read(file) if recipe_of(line).hash == recipe.hash), None)
    line = {"what": what} | ({k: v for k, v in same.items() if k != "what"} if same else trained(recipe, setting))
    append(file, line)
    return line["bpb"] if line["fits"] else None


def _runs(recipe: Recipe) -> bool:
    try:
        recipe.check()
    except ValueError:
        return False
    return True


def jobs(phase: str, lines: Lines) -> list[tuple[str, Recipe]]:
    """What a phase trains or scores, by label."""
    found = {name: recipe.with_(split="test") for name, recipe in contenders(lines).items()}
    if phase == "confirm":
        return [(name, recipe.with_(seed=seed)) for seed in FRESH for name, recipe in found.items()]
    if phase == "adapt":
        return [(name, adapting(name, found[name]).with_(seed=FRESH[0])) for name in (*SEEDS, "pruned") if name in found]
    means = pd.DataFrame(lines["confirm"]).groupby("what")["bpb"].mean()
    names = ["pruned", *means[[name for name in SEEDS if name in means]].sort_values().index[:2]]
    return [(name, found[name].with_(seed=FRESH[0], tokens=10 * TOKENS)) for name in names]


def adapting(name: str, recipe: Recipe) -> Recipe:
    """A seed with what its submission does at evaluation; another recipe with what seed_849 does."""
    published = preset(name if name in SEEDS else "seed_849", SCALE)
    return recipe.with_(*(t for t in published.techniques if SLOTS[t.slot].stage == "evaluate"))


def several(phase: str, setting: Setting, processes: int) -> None:
    """Run what a phase lacks, side by side."""
    lines = phases(setting.folder)
    done = {(line["what"], line["spec"]["seed"]) for line in lines[phase]}
    todo = [job for job in jobs(phase, lines) if (job[0], job[1].seed) not in done]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for said in pool.imap_unordered(functools.partial(_one, phase=phase, setting=setting), todo, chunksize=1):
            print(said, flush=True)


def _one(job: tuple[str, Recipe], phase: str, setting: Setting) -> str:
    quiet()
    if setting.out_of_time():
        return f"{phase} {job[0]}: no time"
    line = {"what": job[0]} | trained(job[1], setting, documents=True)
    append(setting.folder / f"{phase}.jsonl", line)
    return f"{phase} {job[0]} {job[1].seed}: {line['bpb']}, {line['bytes']} bytes, {line['wall']} s"


# ------------------------------------------------------------------------------------------------ tables


def tables(lines: Lines) -> str:
    """All tables as Markdown."""
    parts = [_searched(lines)]
    if lines["confirm"]:
        parts += [_confirmed(lines["confirm"]), _rules(lines["confirm"])]
    if lines["adapt"]:
        parts.append(_adapted(lines))
    if lines["longer"]:
        parts.append(_longer(lines["longer"]))
    if lines["prune"]:
        parts.append(_pruned(lines["prune"]))
    return "\n\n".join(parts)


def _markdown(rows: list[dict[str, Any]]) -> str:
    heads = list(rows[0])
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *([str(row[h]) for h in heads] for row in rows)]
    return re.sub(r"(?<=[ (])-(?=\d)", "−", "\n".join("| " + " | ".join(line) + " |" for line in lines))


def _searched(lines: Lines) -> str:
    rows = []
    for name, number in [*((name, 0) for name in SEEDS), *((m, n) for m in METHODS for n in range(3))]:
        own = stream(lines, name, number)
        found = best(own)
        if found is None:
            continue
        first = next((line for line in own if line["bpb"] is not None), found)
        fitted = f"{first['bpb']:.4f}" + ("" if first["fits"] else " (too large)")
        row = {"contender": label(name, number), "trainings": sum(line["state"] != "refused" for line in own)}
        rows.append(row | {"first": fitted, "best": f"{found['bpb']:.4f}", "bytes": f"{found['bytes']:,}"})
    return _markdown(rows)


def _bits(lines: list[dict[str, Any]], what: str) -> tuple[np.ndarray, np.ndarray]:
    """(seeds, documents) bits, and (documents,) bytes, in the order of the seeds."""
    own = sorted((line for line in lines if line["what"] == what), key=lambda line: line["spec"]["seed"])
    return np.array([line["documents"]["bits"] for line in own], float), np.array(own[0]["documents"]["bytes"], float)


def _confirmed(lines: list[dict[str, Any]]) -> str:
    means = pd.DataFrame(lines).groupby("what")["bpb"].mean()
    leader = "pruned" if "pruned" in means else means.idxmin()
    others = [name for name in means.sort_values().index if name != leader]
    size = _bits(lines, leader)[1]
    gaps = {name: paired(_bits(lines, leader)[0], _bits(lines, name)[0], size).iloc[0] for name in others}
    adjusted = dict(zip(others, holm(np.array([gaps[name]["p"] for name in others])), strict=True))
    rows = []
    for name in (leader, *others):
        own = [line for line in lines if line["what"] == name]
        scores = ", ".join(f"{line['bpb']:.4f}" for line in sorted(own, key=lambda line: line["spec"]["seed"]))
        row = {"contender": name, "bits per byte, test": scores, "bytes": f"{max(line['bytes'] for line in own):,}"}
        row["fits"] = "yes" if all(line["fits"] for line in own) else "no"
        gap = gaps.get(name)
        row[f"{leader} − it ± se"] = "–" if gap is None else f"{gap['delta_bpb']:+.4f} ± {gap['se']:.4f}"
        rows.append(row | {"p (Holm)": "–" if gap is None else f"{adjusted[name]:.2g}"})
    return _markdown(rows)


def _rules(lines: list[dict[str, Any]]) -> str:
    """The challenge's rules, of the pruned winner against every tuned seed."""
    scores = pd.DataFrame(lines).sort_values("what").groupby("what")["bpb"].apply(np.array)
    if "pruned" not in scores:
        return ""
    rows = []
    for name in SEEDS:
        if name in scores:
            told = record_rules(scores["pruned"], scores[name], BYTES_PER_TOKEN)
            rows += [
                {"against": name, "rule": r.rule, "statistic": f"{r.statistic:.3g}", "limit": f"{r.limit:.3g}"}
                | {"passes": "yes" if r.passes else "no"}
                for r in told.itertuples()
            ]
    return _markdown(rows)


def _adapted(lines: Lines) -> str:
    still = {line["what"]: line for line in lines["confirm"] if line["spec"]["seed"] == FRESH[0]}
    rows = []
    for line in lines["adapt"]:
        before = still.get(line["what"])
        if before is None:
            continue
        row = {"contender": line["what"], "without": f"{before['bpb']:.4f}", "with": f"{line['bpb']:.4f}"}
        row["seconds without"] = f"{before['stages'].get('evaluate', 0):.0f}"
        rows.append(row | {"seconds with": f"{line['stages'].get('evaluate', 0):.0f}"})
    return _markdown(sorted(rows, key=lambda row: row["with"]))


def _longer(lines: list[dict[str, Any]]) -> str:
    size = np.array(lines[0]["documents"]["bytes"], float)
    base = next((line for line in lines if line["what"] == "pruned"), lines[0])
    rows = []
    for line in sorted(lines, key=lambda line: line["bpb"]):
        gap = paired(np.array([base["documents"]["bits"]], float), np.array([line["documents"]["bits"]], float), size).iloc[0]
        row = {"contender": line["what"], "bits per byte, test": f"{line['bpb']:.4f}", "bytes": f"{line['bytes']:,}"}
        row["fits"] = "yes" if line["fits"] else "no"
        rows.append(row | {f"{base['what']} − it": "–" if line is base else f"{gap['delta_bpb']:+.4f}"})
    return _markdown(rows)


def _pruned(lines: list[dict[str, Any]]) -> str:
    here = next(line for line in lines if line["what"] == "winner")["bpb"]
    rows = [
        {"left out": line["what"].removeprefix("without "), "change, bits per byte": f"{line['bpb'] - here:+.4f}"}
        for line in lines
        if line["what"].startswith("without ") and line["bpb"] is not None
    ]
    return _markdown(rows)


# ------------------------------------------------------------------------------------------------ the file


def write(lines: Lines, file: Path) -> None:
    """Keep all lines in one compressed file, the same bytes for the same lines; texts' places are left out."""
    body = []
    for phase, own in lines.items():
        for line in own:
            kept = {key: value for key, value in line.items() if key not in ("params", "observed")}
            kept["spec"] = {**line["spec"], "data": {"split": line["spec"]["data"]["split"]}}
            body.append(json.dumps({"phase": phase, **kept}, sort_keys=True))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(lzma.compress("\n".join(body).encode(), preset=9))


def kept(file: Path) -> Lines:
    """Read what `write` wrote."""
    found: Lines = {name: [] for name in ("search", "prune", "confirm", "adapt", "longer")}
    for text in lzma.decompress(file.read_bytes()).decode().splitlines():
        line = json.loads(text)
        found[line.pop("phase")].append(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("prune", "confirm", "adapt", "longer", "table", "write"))
    parser.add_argument("to", nargs="?", type=Path, help="of write: the file")
    parser.add_argument("--corpus", default="sotu")
    parser.add_argument("--folder", type=Path, default=Path("runs/worked"))
    parser.add_argument("--file", type=Path, help="of table: a file that write wrote, instead of the folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="no training starts after so many")
    given = parser.parse_args()
    quiet()
    setting = Setting(given.corpus, given.folder, given.device, time.time() + given.seconds)
    if given.phase == "table":
        print(tables(kept(given.file) if given.file else phases(given.folder)))
    elif given.phase == "write":
        write(phases(given.folder), given.to)
    elif given.phase == "prune":
        prune(setting)
    else:
        several(given.phase, setting, given.processes)


if __name__ == "__main__":
    main()
