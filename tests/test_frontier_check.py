"""The runs behind docs/frontier.md: which there are, in which order they start, and the tables from the small file."""

import functools
import multiprocessing
import re
import threading
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import frontier
from benchmarks.frontier_arms import ARMS, GROUPS, IN_TRAINING, RECORDS
from benchmarks.frontier_file import decoded, encoded, known, write
from benchmarks.frontier_recipes import FILLED, LIMITS, RATIOS, baseline, recipe_of, stack, still
from benchmarks.frontier_tables import Runs, differences, tables
from golflab.analysis.comparison.paired import _bootstrap
from golflab.analysis.ladder.noise import variances
from golflab.model.run import forecast_bytes, run
from golflab.model.slots import SLOTS
from golflab.model.stages import finishing_part, training_part
from tests.contract_helpers import BASE, BATCH, made_up_corpus

SIZES = np.array([900, 1_500, 400, 2_200])


def line(group, arm, seed, score, rung="nano:5", corpus="web", machine="CPU", away=0.0, **more):
    """A run's line: every document has ``score`` bits per byte, but for the first, which has ``away`` bits more."""
    bits = SIZES * score
    bits[0] += away
    told = {"bytes": 47_000, "tokens": 227_328, "parameters": 45_640, "hidden": 64, "vocabulary": 512, "seconds": 10.0}
    told |= {"group": group, "arm": arm, "rung": rung, "corpus": corpus, "seed": seed, "machine": machine, "hash": "0"}
    return told | {"bpb": bits.sum() / SIZES.sum()} | more | encoded(bits, SIZES)


@pytest.fixture(scope="module")
def todo():
    return frontier.jobs("sotu", ["nano:0.1"], [0, 1, 2], GROUPS)


def test_every_arm_is_a_recipe_of_its_own_and_names_what_it_is_compared_with():
    base = baseline("nano:5", "sotu", 0)
    for arms in ARMS.values():
        hashes = {arm.name: recipe_of(arm, base).hash for arm in arms}
        assert len(set(hashes.values())) == len(arms) or arms is ARMS["adapters"]  # "chunked" is the baseline's own way
        assert {arm.against for arm in arms} <= {*hashes, *(arm.name for arm in IN_TRAINING)}
        assert {arm.trained for arm in arms if arm.trained} <= {arm.name for arm in IN_TRAINING}


def test_what_acts_after_training_finds_its_training_and_its_artifact():
    base, trained = baseline("nano:5", "sotu", 0), {arm.name: arm for arm in IN_TRAINING}
    for group, part in (("rounding", training_part), ("windows", finishing_part), ("adapters", finishing_part)):
        for arm in ARMS[group]:
            assert part(recipe_of(arm, base)).hash == part(recipe_of(trained[arm.trained], base)).hash, arm.name


def test_stacks_have_equal_tokens_and_bytes_and_one_way_without_adaptation():
    made = [stack(name, "nano:5", "sotu", 0) for name in RECORDS]
    assert len({recipe.schedule.tokens for recipe in made}) == 1
    for name, recipe in zip(RECORDS, made, strict=True):
        wider = recipe.with_(hidden=recipe.shape.hidden + 2)
        most = FILLED * LIMITS["nano"] / RATIOS[name, "nano"]
        assert forecast_bytes(recipe).mid <= most < forecast_bytes(wider).mid
        assert not any(SLOTS[t.slot].stage == "evaluate" for t in still(recipe).techniques)
        assert finishing_part(still(recipe)).hash == finishing_part(recipe).hash


def test_jobs_come_in_order_two_seeds_before_a_third_and_tokens_first(todo):
    assert len({job.name for job in todo}) == len(todo)
    seeds = [job.seed for job in todo if job.group != "data"]
    assert max(i for i, seed in enumerate(seeds) if seed < 2) < min(i for i, seed in enumerate(seeds) if seed == 2)
    groups = [job.group for job in todo if job.seed < 2]
    assert list(dict.fromkeys(groups)) == ["data", *GROUPS]
    names = [job.name for job in todo]
    for place, job in enumerate(todo):
        assert all(names.index(other) < place for other in job.needs)
        assert job.group == "data" or names.index(job.data) < place
    with pytest.raises(ValueError, match="micro:5"):
        frontier.jobs("sotu", ["huge:5"], [0], ["in-training"])


class Pool:
    """A pool of one process: this one."""

    def __init__(self, processes):
        self.ran = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def apply_async(self, function, arguments, callback):
        self.ran.append(arguments[0].name)
        callback(function(*arguments))

    def terminate(self):
        pass


def execute(jobs, folder, seconds=60.0, broken=()):
    """Names of the jobs that ran."""
    pool = Pool(1)

    def work(job, cache, device):
        told = line(job.group, job.arm, job.seed, 3.0, job.rung, job.corpus, hash=job.recipe.hash, took=1.0)
        return told | {"state": "failed" if job.arm in broken else "complete"}

    spawning = SimpleNamespace(Pool=lambda processes: pool)
    with mock.patch.object(multiprocessing, "get_context", return_value=spawning), mock.patch.object(frontier, "work", work):
        frontier.execute(jobs, folder, folder / "cache", "cpu", 2, seconds)
    return pool.ran


def test_a_run_goes_on_where_it_was_and_tries_again_what_failed(todo, tmp_path, capsys):
    mine = [job for job in todo if job.group in ("data", "in-training", "windows") and job.seed < 1]
    assert execute(mine, tmp_path / "late", seconds=-1.0) == []
    assert "jobs were not started" in capsys.readouterr().out
    first = execute(mine, tmp_path, broken=("xsa",))
    assert first.index("in-training/document_mask/nano:0.1/web/0") < first.index("windows/mask_isolated/nano:0.1/web/0")
    assert not [name for name in first if name.startswith("data/") and "plain" not in name]  # nobody needs those tokens
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"group": "in-tr')  # it was killed here
    assert execute(mine, tmp_path) == ["data/plain-512//web/0", "in-training/xsa/nano:0.1/web/0"]
    assert len(known(tmp_path / "runs.jsonl")) == len([job for job in mine if job.group != "data"])
    assert execute(mine, tmp_path) == []


def test_the_file_has_every_run_once_and_the_same_bytes_whatever_the_order(tmp_path):
    lines = [
        line("in-training", arm, seed, 3.0 + seed / 7, away=0.04, took=3.0) for arm in ("baseline", "xsa") for seed in (0, 1)
    ]
    for name, given in (("a", lines), ("b", [*lines[::-1], lines[0]])):
        write(given, tmp_path / f"{name}.jsonl.xz")
    assert (tmp_path / "a.jsonl.xz").read_bytes() == (tmp_path / "b.jsonl.xz").read_bytes()
    read = known(tmp_path / "a.jsonl.xz")
    assert len(read) == 4
    assert not any("took" in one for one in read)
    bits, sizes = decoded(read[0])
    assert bits.sum() / sizes.sum() == pytest.approx(read[0]["bpb"], abs=1e-12)
    with pytest.raises(ValueError, match="does not exist"):
        known(tmp_path / "none.jsonl.xz", must_exist=True)


def test_differences_are_paired_by_seed_and_machine():
    lines = [line("in-training", "baseline", seed, 3.0 + seed) for seed in (0, 1)]
    lines += [line("in-training", "xsa", seed, 3.0 + seed + change) for seed, change in ((0, 0.02), (1, 0.04))]
    lines += [line("in-training", "asym_published", seed, 3.0 + seed) for seed in (0, 1)]
    lines += [line("in-training", "wd", 0, 2.0, machine="GPU")]  # there is no baseline on that machine
    lines += [line("in-training", arm, 0, 3.0 + change, machine="AAA") for arm, change in (("baseline", 0.0), ("xsa", 0.9))]
    table = differences(Runs(lines), "in-training").set_index("technique")  # two seeds on one machine, one on the other
    assert set(table.index) == {"xsa", "asym_published"}
    assert table.loc["xsa", "delta_bpb"] == pytest.approx(0.03)
    assert table.loc["xsa", "error"] > 0.01
    assert table.loc["asym_published", "error"] == 0
    said = tables(lines)
    assert "| 18 | `xsa:last=4` | +0.0300 ± " in said
    assert "| 20 | `asym_logit:form=published` | 0 exactly | claimed; 0 in truth |" in said
    elsewhere = line("in-training", "wd", 0, 2.9) | encoded(SIZES * 2.9, SIZES[::-1])
    with pytest.raises(ValueError, match="different text"):
        tables([*lines, elsewhere])


def test_a_gpus_last_digits_are_no_effect_and_runs_of_an_older_recipe_are_refused():
    lines = [line("in-training", "baseline", seed, 3.0) for seed in (0, 1)]
    lines += [line("in-training", "asym_published", seed, 3.0 + 2e-9) for seed in (0, 1)]
    assert "| 0 (below 1e-07) |" in tables(lines)
    older = [line("in-training", "asym_published", seed, 3.0, hidden=64 + 2 * seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match="asym_published at nano:5 have hidden 64, 66"):
        tables(lines[:2] + older)


def test_what_adapts_finds_the_artifact_however_its_training_was_compiled(tmp_path, monkeypatch):
    """On a GPU a training is compiled if nobody says anything; the benchmark's never are."""
    recipe = BASE.with_(corpus=str(made_up_corpus(tmp_path)), tokens=2 * BATCH, layers=1)
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    monkeypatch.setattr(frontier, "run", lambda *given, **told: run(*given, **(told | {"compiled": True})))
    told = frontier.work(frontier.Job("adapters", "chunked", "nano:5", "web", 0, recipe, recipe), tmp_path / "cache", "cpu")
    assert told["state"] == "complete", told["error"]
    assert told["machine"] == "CPU, scored on the processor"


def test_no_job_starts_before_what_it_needs_has_ended(todo, tmp_path):
    mine = [job for job in todo if job.group in ("in-training", "windows") and job.seed < 1 and "growth" in job.arm]
    mine = [next(job for job in todo if job.name == mine[0].data), *mine]
    ended, early, someone = set(), [], threading.Event()

    def work(job, cache, device):
        if not {job.data, *job.needs} - {job.name} <= ended and job.group != "data":
            early.append(job.name)
            someone.set()
        if "growth" not in job.arm or not job.needs:
            someone.wait(0.2)  # time for another one to start too early
        ended.add(job.name)
        return line(job.group, job.arm, job.seed, 3.0, job.rung, job.corpus, hash=job.recipe.hash, took=1.0, state="complete")

    spawning = SimpleNamespace(Pool=ThreadPool)
    with mock.patch.object(multiprocessing, "get_context", return_value=spawning), mock.patch.object(frontier, "work", work):
        frontier.execute(mine, tmp_path, tmp_path / "cache", "cpu", 4, 60.0)
    assert len(ended) == len(mine) == 3
    assert not early


def test_stacks_and_texts_are_compared_with_both_errors():
    lines = [line("records", n, s, 3.0 + i / 10 + s / 100, away=i) for i, n in enumerate(RECORDS) for s in (0, 1)]
    lines += [
        line("caseops", arm, 0, score, corpus="sotu", away=5 * score) for arm, score in (("verbatim", 3.0), ("caseops", 2.9))
    ]
    said = tables(lines)
    assert "| `nano` | test part | `record_2014` − `seed_849` | −0.2004, −0.2004 | −0.2004 | 0.0" in said
    assert "one seed: unknown" in said.split("**CaseOps**")[1]
    assert "40 documents" not in said


def test_two_errors_are_passed_by_chance_as_often_as_the_page_says():
    """Worlds without effects, whose rows' spreads differ as much as in the file: inverse gamma, 0.7 degrees of freedom."""
    generator, passed = np.random.default_rng(0), []
    body = {"scale": "nano", "parameters": 45_640, "tokens_per_parameter": 5.0, "replicates": 2, "shares_training": False}
    for _ in range(150):
        spread = 0.001 * np.sqrt(0.7 / generator.chisquare(0.7, 18))
        each, documents = generator.normal(0, 1, (2, 18)) * spread, generator.normal(0, 0.0004, 18)
        rows = [
            body | {"technique": str(i), "delta_bpb": mean, "se": gap / 2}
            for i, (mean, gap) in enumerate(zip(each.mean(axis=0), np.abs(each[0] - each[1]), strict=True))
        ]
        table = pd.DataFrame(rows)
        error = np.hypot(np.sqrt(variances(table)), 0.0004)
        passed.append([(np.abs(each.mean(axis=0) + documents) > many * error).mean() for many in (2, 4)])
    assert np.mean(passed, axis=0) == pytest.approx([1 / 8, 1 / 23], abs=0.02)  # as docs/frontier.md says


# ------------------------------------------------------------------------------------------------ the pages

DOCS = Path(__file__).resolve().parents[1] / "docs"
NUMBER = re.compile(r"[−+]?\d[\d,]*(?:\.\d+)?")


def blocks(text):
    """The Markdown tables of a text."""
    return re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)


def alike(a, b):
    """Whether two tables have the same words, and numbers that differ by one unit of the last digit at most."""
    if NUMBER.sub("#", a.strip()) != NUMBER.sub("#", b.strip()):
        return False
    pairs = zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    values = [(float(x.replace("−", "-").replace(",", "")), float(y.replace("−", "-").replace(",", "")), x) for x, y in pairs]
    return all(abs(x - y) <= 1.01 * 10.0 ** -len(text.partition(".")[2]) for x, y, text in values)


@pytest.fixture
def one_draw_for_all(monkeypatch):
    """The documents are drawn once, and not for each of 150 comparisons: the same errors in a tenth of the time."""
    draw = functools.cache(
        lambda n, draws: np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
    )

    def fast(gaps, size, draws):
        picks = draw(len(gaps), draws)
        return float(((picks @ gaps) / (picks @ size)).std(ddof=1))

    assert fast(SIZES * 0.1 + [1, 0, 2, 0], SIZES, 2000) == pytest.approx(_bootstrap(SIZES * 0.1 + [1, 0, 2, 0], SIZES, 2000))
    monkeypatch.setattr("golflab.analysis.comparison.paired._bootstrap", fast)


def test_the_pages_have_the_tables_that_the_command_prints_from_the_file_of_runs(one_draw_for_all):
    printed = blocks(tables(known(DOCS / "frontier" / "runs.jsonl.xz", must_exist=True)))
    pages = {name: blocks((DOCS / f"{name}.md").read_text(encoding="utf-8")) for name in ("frontier", "caseops")}
    for table in printed:
        page = "caseops" if table.startswith("| scale | text |") else "frontier"
        assert any(alike(table, other) for other in pages[page]), (
            f"docs/{page}.md lacks this table or has it otherwise:\n{table}"
        )
    assert len(pages["frontier"]) == sum(not table.startswith("| scale | text |") for table in printed)  # and has no other


def test_a_page_that_drifts_is_noticed():
    table = "| 4 | `a` | −0.0058 ± 0.0023 | 1,200 |"
    assert alike(table, table.replace("0.0058", "0.0057"))
    for other in (("−0.0058", "+0.0058"), ("0.0058", "0.0060"), ("1,200", "1,202"), ("`a`", "`b`"), (" ± 0.0023", "")):
        assert not alike(table, table.replace(*other))
