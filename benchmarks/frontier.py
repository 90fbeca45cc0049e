"""What every technique of the records is worth: the runs behind docs/frontier.md, and its tables.

    python -m benchmarks.frontier --plan --scales micro:5 --seeds 0 1            # what it would train, and how many tokens
    python -m benchmarks.frontier --run --corpus FOLDER --scales micro:5 --seeds 0 1 --out runs/frontier
    python -m benchmarks.frontier --write docs/frontier/runs.jsonl.xz runs/frontier/runs.jsonl …
    python -m benchmarks.frontier --table docs/frontier/runs.jsonl.xz            # the page's tables, from the file alone

Jobs run side by side, one thread each, the most valuable first. Every result is one line of ``runs.jsonl``, written as soon as
it is there; started again, it goes on where it was. What acts after training shares its training through the stage cache.
A run uses `golflab.model` and `golflab.spaces` alone; tables also use `golflab.analysis`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.frontier_arms import ARMS, GROUPS, IN_TRAINING, RECORDS
from benchmarks.frontier_file import encoded, known, mend, write
from benchmarks.frontier_recipes import baseline, recipe_of, rung_of, stack, still
from golflab.model.compression.artifact import unpack
from golflab.model.data.prepare import prepared
from golflab.model.evaluation.score import Score, evaluate
from golflab.model.network.weights import scored_model
from golflab.model.recipe import Recipe
from golflab.model.record import load_documents
from golflab.model.run import again, run
from golflab.model.system.device import Place

FEW = 40  # documents on which what learns while scoring is scored
GRACE = 60  # seconds that jobs have to end behind the last moment at which one may start


@dataclass(frozen=True)
class Job:
    """One line of the results.

    Attributes:
        group: one of `GROUPS`, or ``data``: tokens are made, and nothing is written.
        arm: within the group.
        rung: like ``micro:5``.
        corpus: ``web`` (the folder that was given) or ``sotu``.
        recipe: what is run, or how the artifact is scored.
        artifact: the recipe whose artifact is scored on the first `FEW` documents, in float32 on the processor; None runs the
            recipe itself and scores it on all of them.
        needs: names of jobs that come first, where they are among the jobs at all.
    """

    group: str
    arm: str
    rung: str
    corpus: str
    seed: int
    recipe: Recipe
    artifact: Recipe | None = None
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Tells a job from every other one."""
        return f"{self.group}/{self.arm}/{self.rung}/{self.corpus}/{self.seed}"

    @property
    def data(self) -> str:
        """The name of the job that makes its tokens."""
        return f"data/{self.recipe.technique_in('text') or 'plain'}-{self.recipe.shape.vocabulary}//{self.corpus}/0"

    @property
    def tokens(self) -> int:
        """Training tokens that it adds."""
        return 0 if self.artifact or self.group in ("rounding", "windows", "data") else self.recipe.schedule.tokens or 0


# ------------------------------------------------------------------------------------------------ which jobs


def jobs(corpus: str, rungs: Sequence[str], seeds: Sequence[int], only: Sequence[str]) -> list[Job]:
    """All jobs in the order in which they should start: two seeds of everything come before a third of anything."""
    found = []
    for pair in (seeds[i : i + 2] for i in range(0, len(seeds), 2)):
        for group in (g for g in GROUPS if g in only):
            found += [job for rung in rungs for seed in pair for job in _group(group, corpus, rung, seed)]
    tokens = {job.data: Job("data", job.data.split("/")[1], "", job.corpus, 0, job.recipe) for job in found}
    return [*tokens.values(), *found]


def _group(group: str, corpus: str, rung: str, seed: int) -> Iterator[Job]:
    if group == "records":
        yield from _records(corpus, rung, seed)
    elif group == "caseops":
        for text, where in (("web", corpus), ("sotu", "sotu")):
            base = baseline(rung, where, seed).with_(split="test")
            for arm in ARMS[group]:
                yield Job(group, arm.name, rung, text, seed, recipe_of(arm, base))
    else:
        base, trained = baseline(rung, corpus, seed), {arm.name: arm for arm in IN_TRAINING}
        for arm in ARMS[group]:
            needs = () if arm.trained is None else (f"in-training/{arm.trained}/{rung}/web/{seed}",)
            artifact = recipe_of(trained[arm.trained or "baseline"], base) if group == "adapters" else None
            yield Job(group, arm.name, rung, "web", seed, recipe_of(arm, base), artifact, needs)


def _records(corpus: str, rung: str, seed: int) -> Iterator[Job]:
    """Each stack, on the whole test part without what adapts, and on few documents both ways."""
    whole = {name: stack(name, rung, corpus, seed) for name in RECORDS}
    for name, recipe in whole.items():
        yield Job("records", name, rung, "web", seed, still(recipe))
    for name, recipe in whole.items():
        needs = (f"records/{name}/{rung}/web/{seed}",)
        yield Job("records", f"{name} adapts", rung, "web", seed, recipe, still(recipe), needs)
        yield Job("records", f"{name} still", rung, "web", seed, still(recipe), still(recipe), needs)


def plan(todo: Sequence[Job]) -> str:
    """How many jobs and training tokens each group has, as Markdown."""
    lines = ["| group | rung | jobs | training tokens, millions |", "|---|---|---:|---:|"]
    for group, rung in dict.fromkeys((job.group, job.rung) for job in todo):
        mine = [job for job in todo if (job.group, job.rung) == (group, rung)]
        lines.append(f"| {group} | {rung or '–'} | {len(mine)} | {sum(job.tokens for job in mine) / 1e6:.1f} |")
    return "\n".join([*lines, f"| all | | {len(todo)} | {sum(job.tokens for job in todo) / 1e6:.1f} |"])


# ------------------------------------------------------------------------------------------------ one job


def work(job: Job, cache: Path, device: str) -> dict[str, Any]:
    """Do a job; return its line. A failure is a line, too: it has an ``error``."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    line: dict[str, Any] = {name: getattr(job, name) for name in ("group", "arm", "rung", "corpus", "seed")}
    line |= {"hash": job.recipe.hash, "state": "failed"}
    try:
        line |= (
            _tokens(job, cache)
            if job.group == "data"
            else _few(job, cache, device)
            if job.artifact
            else _all(job, cache, device)
        )
    except Exception as error:  # one that fails does not end the others
        line["error"] = "".join(traceback.format_exception(error))[-2000:]
    return line | {"took": round(time.perf_counter() - began, 1)}


def _tokens(job: Job, cache: Path) -> dict[str, Any]:
    prepared(job.recipe, cache / "data")
    return {"state": "complete"}


def _all(job: Job, cache: Path, device: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        record = run(job.recipe, Path(folder), cache, device=device, compiled=False, rungs=False, float_score=False)
        line = {"state": record.state, "error": record.reason, "machine": _machine(device), "bpb": record.bpb}
        line |= {"bytes": record.bytes, "tokens": record.tokens, "parameters": record.parameters, "seconds": record.seconds}
        line |= {"hidden": job.recipe.shape.hidden, "vocabulary": job.recipe.shape.vocabulary, "stages": record.stages}
        return line | (encoded(*load_documents(Path(folder))) if record.state == "complete" else {})


def _few(job: Job, cache: Path, device: str) -> dict[str, Any]:
    assert job.artifact is not None
    made = run(job.artifact, None, cache, device=device, compiled=False, rungs=False, float_score=False)  # at once if it ran
    blob = again(job.artifact, cache, made, device)[1]  # of this very training: on a GPU it could be compiled, and is not
    weights, data = unpack(blob), prepared(job.artifact, cache / "data")
    model = scored_model(job.recipe, weights, torch.device("cpu"), torch.float32)
    score: Score = evaluate(model, data.split(job.recipe.data.split)[:FEW], data.tokenizer, job.recipe)
    line = {"state": "complete", "machine": f"{_machine(device)}, scored on the processor", "bpb": score.bpb}
    return line | {"tokens": score.tokens, "seconds": round(score.seconds, 1)} | encoded(score.bits, score.bytes)


def _machine(device: str) -> str:
    return torch.cuda.get_device_name() if Place.choose(device).device.type == "cuda" else "CPU"


# ------------------------------------------------------------------------------------------------ all jobs


def execute(todo: Sequence[Job], out: Path, cache: Path, device: str, processes: int, seconds: float) -> None:
    """Run jobs side by side until all are done, or no time is left; their lines go to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    mend(out / "runs.jsonl")
    done = {
        (line["group"], line["arm"], line["rung"], line["corpus"], line["seed"], line["hash"])
        for line in known(out / "runs.jsonl")
    }
    left = [j for j in todo if (j.group, j.arm, j.rung, j.corpus, j.seed, j.recipe.hash) not in done]
    waited_for = {job.data for job in left if job.group != "data"}
    left = [job for job in left if job.group != "data" or job.name in waited_for]
    print(f"{len(todo) - len(left)} of {len(todo)} jobs are done or not needed.", flush=True)
    began, results = time.monotonic(), queue.SimpleQueue[tuple[str, dict[str, Any]]]()
    running: set[str] = set()
    with multiprocessing.get_context("spawn").Pool(processes) as pool, (out / "runs.jsonl").open("a", encoding="utf-8") as file:
        while running or (left and time.monotonic() - began < seconds):
            while left and len(running) < processes and time.monotonic() - began < seconds:
                blocked = running | {job.name for job in left}
                job = next((j for j in left if not blocked.intersection((j.data, *j.needs)) or j.group == "data"), None)
                if job is None:
                    break
                left.remove(job)
                running.add(job.name)
                pool.apply_async(work, (job, cache, device), callback=_sender(results, job.name))
            if not running:  # the time ran out just now
                break
            try:
                name, line = results.get(timeout=max(0.1, seconds + GRACE - (time.monotonic() - began)))
            except queue.Empty:
                print(f"Time is over; not finished: {', '.join(sorted(running))}", flush=True)
                break
            running.discard(name)
            _tell(line, file, time.monotonic() - began)
        pool.terminate()
    print(f"{len(left)} jobs were not started." if left else "Every job was started.", flush=True)


def _sender(results: queue.SimpleQueue[tuple[str, dict[str, Any]]], name: str) -> Any:
    return lambda line: results.put((name, line))


def _tell(line: dict[str, Any], file: Any, at: float) -> None:
    """Keep a finished job's line and print it in short; a failed one is printed and not kept, so that it is tried again."""
    if line["state"] == "complete" and line["group"] != "data":
        file.write(json.dumps(line) + "\n")
        file.flush()
    told = f"{line['bpb']:.5f}" if line.get("bpb") else line["state"]
    words = f"{at:6.0f} s  {line['group']} {line['arm']} {line['rung']} {line['corpus']} seed {line['seed']}: {told}"
    print(f"{words}, {line.get('bytes') or 0:,} bytes, took {line['took']} s {line.get('error') or ''}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run what is left to run")
    parser.add_argument("--plan", action="store_true", help="print how many jobs and tokens that would be")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write the lines of FILES, and its own, to this file (….jsonl.xz)"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the tables of such a file")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILES", help="runs.jsonl files, for --write")
    parser.add_argument("--corpus", default="sotu", help="folder of the web text")
    parser.add_argument("--scales", nargs="+", default=["micro:5"], metavar="SCALE:DURATION")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1], metavar="SEED", help="the seeds themselves, not how many"
    )
    parser.add_argument("--only", default=",".join(GROUPS), help=f"groups, joined by commas: {','.join(GROUPS)}")
    parser.add_argument("--out", type=Path, default=Path("runs/frontier"), help="folder of runs.jsonl")
    parser.add_argument("--cache", type=Path, help="stage cache; by default the folder cache in that folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--seconds", type=float, default=420.0, help="after this no job starts; 60 s later all are ended")
    given = parser.parse_args()
    if unknown := sorted(set(given.only.split(",")) - set(GROUPS)):
        parser.error(f"--only: {', '.join(unknown)} must be among {', '.join(GROUPS)}")
    try:
        if given.run or given.plan:
            for rung in given.scales:
                rung_of(rung)
            todo = jobs(given.corpus, given.scales, given.seeds, given.only.split(","))
            print(plan(todo), flush=True)
            if given.run:
                execute(todo, given.out, given.cache or given.out / "cache", given.device, given.processes, given.seconds)
        if given.write:
            lines = known(given.write) + [line for file in given.files for line in known(file, must_exist=True)]
            write(lines, given.write)
        if given.table:
            from benchmarks.frontier_tables import tables

            print(tables(known(given.table, must_exist=True)))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
