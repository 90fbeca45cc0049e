"""What follows the worked search: prune the winner, confirm on the test part, train ten times as long (docs/seeds.md).

    python -m benchmarks.worked_finish prune --corpus TEXT     # what the winner can do without is switched off
    python -m benchmarks.worked_finish confirm --corpus TEXT   # fresh seeds, on the test part
    python -m benchmarks.worked_finish adapt --corpus TEXT     # the same weights, scored by what learns from the text
    python -m benchmarks.worked_finish audit --corpus TEXT     # whether that scoring follows the rules
    python -m benchmarks.worked_finish longer --corpus TEXT    # at ten times the tokens
    python -m benchmarks.worked_finish table                   # of what there is so far
    python -m benchmarks.worked_finish write docs/seeds/worked.jsonl.xz
    python -m benchmarks.worked_finish table --file docs/seeds/worked.jsonl.xz

Every finished run is a line of a file in ``--folder``; started again, a phase goes on where it was.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from pathlib import Path

import pandas as pd

from benchmarks.worked_contenders import SCALE, SEEDS, TOKENS
from benchmarks.worked_search import Setting, append, best, quiet, read, recipe_of, trained
from benchmarks.worked_tables import FRESH, ORDER, Lines, kept, label, leader, phases, stream, tables, write
from golflab.model.audit.recipe import audit_recipe
from golflab.model.recipe import Recipe
from golflab.model.slots import SLOTS
from golflab.spaces.presets import preset

PRUNING = 200  # the seed of pruning
LITTLE = 0.003  # bits per byte that a technique must be worth to be kept without being asked twice
AUDIT = 30.0  # seconds for the experiments
FREE = 0.001  # by which the score may rise when one is left out


def contenders(lines: Lines) -> dict[str, Recipe]:
    """The best recipe of every search on the development part, by label; the pruned winner last, once there is one."""
    found: dict[str, Recipe] = {}
    for name, number in ORDER:
        line = best(stream(lines, name, number))
        if line is not None and (recipe := recipe_of(line)) not in found.values():  # two searches may end with one recipe
            found[label(name, number)] = recipe
    ended = [line for line in lines["prune"] if line["what"] == "pruned"]
    return found | ({"pruned": recipe_of(ended[-1])} if ended else {})


# ------------------------------------------------------------------------------------------------ phases


def prune(setting: Setting) -> None:
    """Leave out each technique of the winner; then, the most useless first, all that it can do without."""
    lines = phases(setting.folder)
    if any(line["what"] == "pruned" for line in lines["prune"]):
        return
    score = functools.partial(_score, setting=setting, phase="prune")
    current = contenders(lines)[leader(lines)].with_(seed=PRUNING)
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
        return [
            (name, adapting(name, found[name]).with_(seed=FRESH[0]))
            for name in (*SEEDS, leader(lines), "pruned")
            if name in found
        ]
    means = pd.DataFrame(lines["confirm"]).groupby("what")["bpb"].mean()
    names = [leader(lines), means[[name for name in SEEDS if name in means]].idxmin(), "pruned"]
    return [(name, found[name].with_(seed=FRESH[0], tokens=10 * TOKENS)) for name in names]


def adapting(name: str, recipe: Recipe) -> Recipe:
    """A seed with what its submission does at evaluation; another recipe with what seed_849 does."""
    published = preset(name if name in SEEDS else "seed_849", SCALE)
    return recipe.with_(*(t for t in published.techniques if SLOTS[t.slot].stage == "evaluate"))


def audited(setting: Setting) -> None:
    """Audit the winner and its pruned form, as `adapt` scores them."""
    file, found = setting.folder / "audit.jsonl", contenders(lines := phases(setting.folder))
    done = {line["what"] for line in read(file)}
    for name in {leader(lines), "pruned"} & found.keys() - done:
        recipe = setting.place(adapting(name, found[name]).with_(seed=FRESH[0], split="test"))
        result = audit_recipe(recipe, setting.folder / "cache", device=setting.device, seed=0, budget=AUDIT)
        append(file, {"what": name, "states": {verdict.name: verdict.state for verdict in result.verdicts}})


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=("prune", "confirm", "adapt", "audit", "longer", "table", "write"))
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
    elif given.phase == "audit":
        audited(setting)
    else:
        several(given.phase, setting, given.processes)


if __name__ == "__main__":
    main()
