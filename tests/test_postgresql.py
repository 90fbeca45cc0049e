"""A real PostgreSQL server, started here on the loopback interface: two drivers of one study, of which one is killed."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import optuna
import pytest
from drivers import witnessed
from made import made
from test_cli import golflab

from golflab.model.record import records_in
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.ledger.drivers import Presence
from golflab.search.ledger.storage import open_storage

ROOT = Path(__file__).parent.parent
SECRET = uuid.uuid4().hex
PASSWORD = f"{SECRET}@/:"
TRIALS = 4


def server_programs():
    """Where `initdb` and `pg_ctl` are; None where PostgreSQL is not installed or cannot be started by this user."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    path = shutil.which("initdb") or (str(found[0]) if found else None)
    if path is None or (os.getuid() == 0 and not any(user.pw_name == "postgres" for user in pwd.getpwall())):
        return None
    return Path(path).parent


@pytest.fixture
def database():
    """The address of an empty database that wants a password."""
    pytest.importorskip("psycopg", reason="psycopg, PostgreSQL's driver, is not installed")
    if (programs := server_programs()) is None:
        pytest.skip("PostgreSQL is not installed")
    as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="golflab-pg-") as place, socket.socket() as free:
        folder, secret = Path(place), Path(place, "password")
        secret.write_text(PASSWORD)
        if as_user:
            shutil.chown(folder, "postgres", "postgres")
            shutil.chown(secret, "postgres", "postgres")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()

        def call(name, *words):
            told = [programs / name, "-D", folder / "data", *words]
            subprocess.run(told, check=True, capture_output=True, cwd=folder, **as_user)

        call("initdb", "-U", "golf", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")
        call("pg_ctl", "start", "-w", "-t", "600", "-l", folder / "log", "-o", f"-F -p {port} -h 127.0.0.1 -k {folder}")
        try:
            yield f"postgresql://golf:{SECRET}%40%2F%3A@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "stop", "-m", "immediate")


def until(holds):
    """Wait for what must come."""
    while not holds():
        time.sleep(0.1)


def test_two_drivers_share_a_study_and_one_that_is_killed_costs_nothing(database, monkeypatch, capsys, tmp_path):
    folder = made(tmp_path, "pg", trials=TRIALS, left=TRIALS, storage=database, runner="fake_runs:held")
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "GOLFLAB_STORAGE": database}
    command = [sys.executable, "-m", "golflab.search.cli.main", "resume", "pg", "--runs", str(tmp_path), "--cpus", "1"]
    logs = [tmp_path / f"driver{n}.log" for n in range(2)]
    drivers = []
    for log in logs:
        with open(log, "wb") as file:
            drivers.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))
    study = optuna.load_study(study_name="pg", storage=open_storage(database, folder))

    def at_work():
        assert all(driver.poll() is None for driver in drivers), [log.read_text() for log in logs]
        running = [t for t in study.get_trials(deepcopy=False) if t.state.name == "RUNNING"]
        waiting = [t for t in running if (folder / "trials" / t.user_attrs["recipe"] / "waits").exists()]
        return {t.user_attrs["driver"]: t.user_attrs["recipe"] for t in waiting}

    try:
        until(lambda: len(at_work()) == 2)
        drivers[0].send_signal(signal.SIGKILL)
        drivers[0].wait()
        (alive,) = living(folder, at_work_now(study))
        for driver, recipe in at_work_now(study).items():
            if driver != alive:  # its worker must not end what its driver can no longer tell
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int((folder / "trials" / recipe / "waits").read_text()), signal.SIGKILL)
        (tmp_path / "cache").mkdir(exist_ok=True)
        (tmp_path / "cache" / "go").touch()
        assert drivers[1].wait() == 0, logs[1].read_text()
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()
    kept = [t for t in study.get_trials() if not t.user_attrs.get("withdrawn")]
    assert [t.state.name for t in kept] == ["COMPLETE"] * TRIALS
    recipes = {t.user_attrs["recipe"] for t in kept}
    assert recipes == {record.recipe for _, record in records_in(folder / "trials")}
    assert witnessed(tmp_path)["end"] == dict.fromkeys(recipes, 1)
    assert read_experiment(folder)["counts"]["complete"] == TRIALS
    # The password is nowhere, and without it nobody gets in.
    assert read_experiment(folder)["options"]["storage"] == database.replace(f"{SECRET}%40%2F%3A", "***")
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    assert golflab(monkeypatch, "status", "pg", "--runs", tmp_path) == 2
    said = capsys.readouterr()
    assert "golf:***@127.0.0.1" in said.err
    assert SECRET not in said.err + said.out
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert golflab(monkeypatch, "status", "pg", "--runs", tmp_path, "--json") == 0


def at_work_now(study):
    """Driver -> the recipe it runs."""
    return {t.user_attrs["driver"]: t.user_attrs["recipe"] for t in study.get_trials() if t.state.name == "RUNNING"}


def living(folder, names):
    """Of some drivers of an experiment, those that live."""
    here = Presence(folder)
    found = [name for name in names if here.alive(name)]
    here.leave()
    return found
