"""Watching: what status, the live table and the dashboards say."""

import io
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from fake_runs import run
from rich.console import Console

from golflab.model.record import Record, records_in
from golflab.search.cli.export import find_trial
from golflab.search.cli.main import main
from golflab.search.experiment.experiment_file import write_experiment
from golflab.search.ledger.pruners import Agreement
from golflab.search.terminal import show
from golflab.search.terminal.live_table import LiveTable
from golflab.search.upkeep.status import status_of, trial_of, write_curves
from golflab.spaces.presets import preset
from golflab.spaces.space import Space
from tests.ledgers import ledger
from tests.made import made
from tests.test_arrows import imported_by

SPACE = Space("small", preset("baseline").with_(limit=640_000), techniques=("xsa", "smear_gate", "ln_scale"))
RELIABLE = Agreement(96, 0.9, 0.7, 0.97, 14)


def test_status_imports_nothing_that_takes_long():
    """It has a second; torch alone takes two, and scipy half a one."""
    loaded = imported_by(
        "import golflab.search.cli.main, golflab.search.upkeep.status\n"
        "from golflab.search.ledger.pruners import correlated\n"
        "correlated(1, [(float(k % 3), float(k)) for k in range(9)])"
    )
    assert not loaded & {"torch", "ray", "scipy", "pandas", "plotly", "golflab.spaces.presets"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Six finished trials of a search that is still running."""
    folder = tmp_path_factory.mktemp("runs") / "w"
    book = ledger(folder, 8, name="w", space=SPACE)
    for _ in range(6):
        proposal = book.propose()

        def hear(rung, number=proposal.number):
            return book.rungs.report(number, rung)

        book.finish(proposal.number, run(proposal.recipe, book.trial_folder(proposal.recipe.hash), folder / "cache", hear))
    book.propose()
    told = {"name": "w", "state": "running", "options": {"trials": 8, "budget": "9trainings"}, "seconds": 5.0}
    write_experiment(folder, told | {"counts": book.counts(), "spent": book.spent(), "resume": "golflab resume w"})
    return folder, book


def test_status_says_what_was_spent_and_which_rungs_predict(experiment):
    folder, book = experiment
    told = status_of(folder)
    assert told["spent"]["trainings"] == 7
    assert [rung["step"] for rung in told["rungs"]] == [1, 2, 3, 4]
    assert all(rung["spearman"] > 0.99 and rung["trials"] == 6 for rung in told["rungs"])
    assert told["rungs"] == [vars(found) | {"reliable": found.reliable, "words": str(found)} for found in book.agreements()]
    assert [row["trial"] for row in told["running"]] == [6]
    assert json.dumps(told)
    console = Console(file=io.StringIO(), width=200)
    show.status(console, told)
    text = console.file.getvalue()
    assert "7 trainings" in text
    assert "9trainings" in text
    assert "the final score (Spearman" in text


def test_a_whole_number_is_a_trials_number(experiment):
    folder, book = experiment
    for number, trial in enumerate(book.study.trials[:6]):
        assert find_trial(folder, str(number))[1].recipe == trial.user_attrs["recipe"]
        assert find_trial(folder, trial.user_attrs["recipe"])[0].hash == trial.user_attrs["recipe"]
    with pytest.raises(ValueError, match="trial 99: w has no such trial"):
        find_trial(folder, "99")


def test_why_a_trial_was_stopped_is_told_by_its_number(tmp_path, monkeypatch, capsys):
    folder = made(tmp_path, "mine", trials=3, failing=1)
    stopped = next(path for path, record in records_in(folder / "trials") if record.trial == 1)
    record = Record.load(stopped)
    record.state, record.reason = "pruned", "12 bytes over the limit at 25% of the run"
    record.save(stopped)
    for words, said in ((("--trial", "0"), "trial 0: failed: gone"), (("--trial", "1"), "12 bytes over the limit at 25%")):
        monkeypatch.setattr(sys, "argv", ["golflab", "status", "mine", "--runs", str(tmp_path), *words])
        with pytest.raises(SystemExit, match="0"):
            main()
        told = capsys.readouterr().out
        assert said in told
    assert str(stopped) in told.replace("\n", "")
    found = trial_of(folder, 2)
    assert (found["state"], found["reason"], found["bpb"] > 0) == ("complete", "", True)
    with pytest.raises(ValueError, match="its numbers are 0 to 2"):
        trial_of(folder, 3)


def test_the_live_table_says_it_too():
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    table = LiveTable(SPACE.preset, 8, console)
    table.standing({"trainings": 2.25, "seconds": 9.0}, [RELIABLE, Agreement(32, 0.5, -0.1, 0.8, 14)])
    console.print(table)
    text = console.file.getvalue()
    assert "2.25 trainings" in text
    assert "possible at step 96: the score there predicts the final score (Spearman 0.90, 95 % CI 0.70 to 0.97)" in text
    assert "Early stopping is off" in text


def test_curves_are_written_once_for_tensorboard(experiment):
    folder, _ = experiment
    target = write_curves(folder)
    written = sorted(target.glob("*/events*"))
    assert len(written) == 6
    assert b"bpb" in written[0].read_bytes()
    write_curves(folder)
    assert sorted(target.glob("*/events*")) == written


def test_the_dashboard_serves_the_searchs_own_storage(experiment):
    pytest.importorskip("optuna_dashboard")
    folder, _ = experiment
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "golflab.search.cli.main", "dashboard", "w", "--runs", str(folder.parent), "--port", str(port)]
    server = subprocess.Popen([sys.executable, *command], cwd=Path(__file__).parent.parent, stderr=subprocess.DEVNULL)
    try:
        body = _patiently(f"http://127.0.0.1:{port}/api/studies")
        assert [study["study_name"] for study in body["study_summaries"]] == ["w"]
        trials = _patiently(f"http://127.0.0.1:{port}/api/studies/{body['study_summaries'][0]['study_id']}?after=0")["trials"]
        assert [trial["state"] for trial in trials] == ["Complete"] * 6 + ["Running"]
    finally:
        server.terminate()
        server.wait()


def _patiently(url, seconds=600):
    """What a server that is starting answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.loads(answer.read())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
