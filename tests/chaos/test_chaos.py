"""Survival, the long part (``make chaos``): real searches on real Ray clusters, whose drivers and workers are killed.

Each test prints what it did and counts repeats (a run that ended twice) and losses (a trial without a record); both must be 0.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
import real_runs
from drivers import witnessed
from optuna.trial import TrialState

from golflab.model.record import Record, records_in
from golflab.model.run import run
from golflab.search.engine.scratch import MARKER, PREFIX
from golflab.search.ledger.entries import HISTORY
from golflab.search.ledger.storage import open_storage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(4 * 3600)]
ROOT = Path(__file__).parent.parent.parent
FAKE = """
import sys
from golflab.search.experiment.start import search, resume
options = dict(runner="fake_runs:slow", forecaster="fake_runs:Forecaster", limit=640_000, cpus=2, trials=int(sys.argv[3]))
search(name="s", runs=sys.argv[2], **options) if sys.argv[1] == "new" else resume("s", sys.argv[2])
"""
REAL = """
import sys
import real_runs
from pathlib import Path
from golflab.search.experiment.start import resume, run_plan
runs = Path(sys.argv[2])
plan = real_runs.recipes(runs, int(sys.argv[3]), 400)
run_plan(plan, name="s", runs=str(runs), runner="real_runs:run", cpus=2) if sys.argv[1] == "new" else resume("s", str(runs))
"""


def driver(code: str, runs: Path, trials: int) -> subprocess.Popen[bytes]:
    """Start a search, or continue it."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"}
    how = "old" if (runs / "s" / "experiment.json").exists() else "new"
    return subprocess.Popen([sys.executable, "-c", code, how, str(runs), str(trials)], env=environment, cwd=runs)


def finished(code: str, runs: Path, trials: int) -> None:
    """Let a driver bring the search to its end."""
    assert any(driver(code, runs, trials).wait() == 0 for _ in range(3))


def wait_for(grown: Path, process: subprocess.Popen[bytes], seconds: float = 240) -> None:
    """Until a file grows, the process ends, or patience does."""
    before, deadline = _size(grown), time.monotonic() + seconds
    while process.poll() is None and _size(grown) == before and time.monotonic() < deadline:
        time.sleep(0.02)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def judged(runs: Path, trials: int, ends: Counter[str]) -> dict[str, Record]:
    """Print and check the counts; return the records."""
    study = optuna.load_study(study_name="s", storage=open_storage(None, runs / "s"))
    kept = [t for t in study.trials if not t.user_attrs.get("withdrawn")]
    records = {record.recipe: record for _, record in records_in(runs / "s" / "trials")}
    repeats = sum(ends.values()) - len(ends)
    losses = trials - sum(t.state == TrialState.COMPLETE and t.user_attrs["recipe"] in records for t in kept)
    continued = sum(bool(t.user_attrs.get(HISTORY)) for t in kept)
    print(f"{trials} trials, {continued} of them continued by another driver or worker; repeats {repeats}, losses {losses}")
    assert (repeats, losses, len(kept), len(records)) == (0, 0, trials, trials)
    return records


def test_a_search_survives_twenty_kills_of_its_driver(tmp_path):
    """SIGKILL at random moments: most while trials run, some while Ray starts; then the search is left to end."""
    chance, kills, trials = random.Random(1), 0, 90
    witness = tmp_path / "cache" / "evaluations.jsonl"
    while kills < 22:
        process = driver(FAKE, tmp_path, trials)
        if kills % 5:
            wait_for(witness, process)
            time.sleep(chance.uniform(0, 2))
        else:
            time.sleep(chance.uniform(0, 15))
        process.kill()
        assert process.wait() != 0, f"the search ended after {kills} kills"
        kills += process.returncode == -signal.SIGKILL  # a busy machine may have kept Ray from starting
    finished(FAKE, tmp_path, trials)
    print(f"\n{kills} kills of the driver: ", end="")
    records = judged(tmp_path, trials, witnessed(tmp_path)["end"])
    assert all(r.state == "complete" for r in records.values())
    left = [p.parent for p in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{MARKER}") if p.stat().st_uid == os.getuid()]
    assert not [p for p in left if not _held(p)], "scratch folders of killed drivers are left"


def _held(scratch: Path) -> bool:
    """Whether a living driver holds its scratch folder."""
    import fcntl

    if not (scratch / MARKER).exists():
        return False
    with open(scratch / MARKER, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_trainings_continue_to_the_same_bits_through_kills_of_drivers_and_workers(tmp_path):
    """Real trainings: the driver is killed four times and a worker four times, in mid-training."""
    chance, trials = random.Random(2), 6
    for kill in range(4):
        process = driver(REAL, tmp_path, trials)
        for victim in ("worker", "driver") if kill else ("driver", "worker"):
            pid = _training(tmp_path, process)
            time.sleep(chance.uniform(0.0, 3.0))
            if victim == "worker":
                os.kill(pid, signal.SIGKILL)
                time.sleep(1.0)
            else:
                process.kill()
                process.wait()
                process = driver(REAL, tmp_path, trials)
        process.kill()
        process.wait()
    finished(REAL, tmp_path, trials)
    print("\n8 kills of the driver and 4 of a worker in mid-training: ", end="")
    records = judged(tmp_path, trials, Counter(real_runs.trainings(tmp_path)))
    attempts = [real_runs.attempts(p) for p in (tmp_path / "s" / "trials").glob("*/log.txt")]
    began = [a[0] for log in attempts for a in log[1:] if a]
    print(f"{sum(map(len, attempts))} attempts; those after the first began at steps {sorted(began)} of 400")
    assert any(step > 8 for step in began)
    recipe = real_runs.recipes(tmp_path, trials, 400)[0]
    assert records[recipe.hash].bpb == run(recipe, None, tmp_path / "undisturbed", device="cpu").bpb


def _training(runs: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait for a training to be under way; return its process."""
    witness = runs / "cache" / "pids.txt"
    wait_for(witness, process)
    assert process.poll() is None, "the search ended before it was killed often enough"
    return int(witness.read_text().split()[-1])


def test_two_drivers_share_one_search(tmp_path):
    """The second joins the first: between them each trial is run once, whoever is killed."""
    trials = 24
    first = driver(FAKE, tmp_path, trials)
    wait_for(tmp_path / "cache" / "evaluations.jsonl", first)
    second = driver(FAKE, tmp_path, trials)
    wait_for(tmp_path / "s" / "drivers", second, 60)
    time.sleep(20)
    first.kill()
    first.wait()
    second.wait()
    finished(FAKE, tmp_path, trials)
    print("\ntwo drivers, one of them killed: ", end="")
    judged(tmp_path, trials, witnessed(tmp_path)["end"])
