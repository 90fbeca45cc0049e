"""What a search runs on: who is given a GPU, what is listened at, what is deleted, and why a cluster cannot be used."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray

import golflab.search.engine.cluster
import golflab.search.engine.process_group
import golflab.search.engine.scratch
import golflab.search.experiment.options
from golflab.search.engine.cluster import unreachable
from golflab.search.engine.resources import Cluster, placement
from golflab.search.engine.scratch import MARKED, MARKER, PREFIX, scratch
from golflab.search.experiment.options import Options
from golflab.search.experiment.start import run_plan
from golflab.search.experiment.start import search as start
from golflab.spaces.presets import preset

HERE = Path(__file__).parent
ON_GPUS = """
import json, os, sys
import ray
from pathlib import Path
from golflab.search.engine.searcher import Watcher
from golflab.search.experiment.start import search

class Told(Watcher):
    def placed(self, what):
        print(json.dumps(what))

ray.init(address="local", num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False)
options = {"runs": sys.argv[1], "runner": "test_machine:shown", "forecaster": "fake_runs:Forecaster", "limit": 640_000}
search(Told(), name="default", trials=2, **options)
search(Told(), name="none", trials=1, gpus_per_trial=0, **options)
try:
    search(Told(), name="many", trials=2, processes=8, **options)
except ValueError as error:
    print(json.dumps(str(error)))
"""


def shown(recipe, folder, cache, on_rung=None, device=None, **settings):
    """A run that notes what its worker was given, and waits until both of a search have begun."""
    import time

    from fake_runs import run

    given = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    folder.mkdir(parents=True, exist_ok=True)
    told = {"given": given, "seen": os.environ.get("CUDA_VISIBLE_DEVICES"), "device": device}
    (folder / "given.json").write_text(json.dumps(told))
    deadline = time.monotonic() + 240
    while given and len(list(folder.parent.glob("*/given.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return run(recipe, folder, cache, on_rung)


@pytest.mark.timeout(600)
def test_a_search_uses_every_gpu_once_and_no_other_worker_sees_one(tmp_path):
    """On Ray's own pretended GPUs; the device is what a run would be told to use."""
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}
    command = [sys.executable, "-c", ON_GPUS, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [json.loads(line) for line in done.stdout.splitlines() if line.startswith('"')] == [
        "2 workers, one GPU each",
        "1 worker, one core; no trial uses a GPU (there are 2; --gpus-per-trial 0)",
        "Each trial needs 8 GPUs (--gpus-per-trial 8) but this machine has 2.",
    ]
    by_default = [json.loads(path.read_text()) for path in tmp_path.glob("default/trials/*/given.json")]
    assert sorted(told["given"] for told in by_default) == [["0"], ["1"]]
    assert all(told["seen"] == told["given"][0] and told["device"] == "cuda" for told in by_default)
    without = [json.loads(path.read_text()) for path in tmp_path.glob("none/trials/*/given.json")]
    assert without == [{"given": [], "seen": "", "device": "cpu"}]
    assert not (tmp_path / "many").exists()


@pytest.mark.parametrize(
    ("options", "there", "bundle", "workers"),
    [
        ({}, [(16, 8)], {"CPU": 1.0, "GPU": 1.0}, 8),
        ({}, [(2, 8)], {"CPU": 0.25, "GPU": 1.0}, 8),
        ({}, [(4, 0), (16, 2), (8, 2)], {"CPU": 1.0, "GPU": 1.0}, 4),
        ({}, [(2, 0)], {"CPU": 1.0}, 2),
        ({"gpus_per_trial": 0}, [(16, 8)], {"CPU": 1.0}, 16),
        ({"gpus_per_trial": 0.5}, [(16, 8)], {"CPU": 1.0, "GPU": 0.5}, 16),
        ({"gpus_per_trial": 0.6}, [(16, 2)], {"CPU": 1.0, "GPU": 0.6}, 2),
        ({"processes": 2}, [(4, 3), (4, 1)], {"CPU": 1.0, "GPU": 1.0}, 2),
        ({"processes": 2, "gpus_per_trial": 0}, [(4, 4)], {"CPU": 1.0}, 2),
    ],
)
def test_what_a_trial_is_given_by_default(options, there, bundle, workers):
    found = Cluster(sum(cpus for cpus, _ in there), sum(gpus for _, gpus in there), "", nodes=there)
    asked = Options(**options)
    asked.check_team()
    assert asked.bundle(found.gpus, found.cores_per_gpu) == bundle
    assert found.workers(bundle, asked.team) == workers


def test_what_will_run_where_is_said_in_words():
    assert placement(8, {"CPU": 1.0, "GPU": 1.0}, 1, 8) == "8 workers, one GPU each"
    assert placement(2, {"CPU": 1.0, "GPU": 0.5}, 1, 1) == "2 workers, 0.5 of a GPU each"
    assert placement(1, {"CPU": 1.0}, 1, 0) == "1 worker, one core"
    assert placement(2, {"CPU": 1.0, "GPU": 1.0}, 4, 8) == "2 workers of 4 processes, one GPU for each process"


def test_a_gpu_that_is_not_there_is_one_clear_error():
    with pytest.raises(ValueError, match=r"Each trial needs 1 GPU \(--gpus-per-trial 1\) but this machine has none\."):
        Cluster(2, 0, "").workers(Options(gpus_per_trial=1).bundle(0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cpus": 10_000}, "more than the"),
        ({"cpus": 0}, "at least 1"),
        ({"limit": 1000}, "no combination of the space 'starter' can fit"),
        ({"gpus_per_trial": float("nan")}, "positive number"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_created(tmp_path, monkeypatch, options, said):
    monkeypatch.setattr(golflab.search.experiment.options, "connected", lambda: False)
    common = {"name": "x", "runs": str(tmp_path / "runs"), "runner": "fake_runs:run", "forecaster": "fake_runs:Forecaster"}
    with pytest.raises(ValueError, match=said):
        start(**common | options)
    if "limit" in options:
        with pytest.raises(ValueError, match="none of the 1 recipes can fit"):
            run_plan([preset("baseline").with_(limit=1000)], **common)
    assert list(tmp_path.iterdir()) == []


def test_an_address_where_nobody_listens_creates_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(golflab.search.engine.cluster, "connected", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # the session's cluster is really there
    monkeypatch.setattr(golflab.search.engine.cluster, "unreachable", lambda address: f"Nothing listens at {address}.")
    with pytest.raises(ValueError, match="Nothing listens"):
        start(name="x", runs=str(tmp_path / "runs"), address="127.0.0.1:1", forecaster="fake_runs:Forecaster")
    assert list(tmp_path.iterdir()) == []


def test_a_local_cluster_listens_on_the_loopback_interface_only(ray_cluster):
    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}
    ours = [psutil.Process(), *(p for p in psutil.process_iter() if _argument(p, ray_cluster.scratch))]
    heard = [c.laddr.ip for p in ours for c in p.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
    assert len(ours) > 2
    assert heard
    assert {ip.removeprefix("::ffff:") for ip in heard} == {"127.0.0.1"}


def _argument(process, text):
    try:
        return any(text in word for word in process.cmdline())
    except psutil.Error:
        return False


def test_processes_of_a_trial_meet_at_one_address_only():
    store = golflab.search.engine.process_group._rendezvous_store("127.0.0.1")
    heard = [c for c in psutil.Process().net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
    assert [c.laddr.ip for c in heard if c.laddr.port == store.port] == ["127.0.0.1"]


# ---------------------------------------------------------------------- what is deleted


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(golflab.search.engine.scratch, "_base", lambda sockets: tmp_path)
    return tmp_path


def test_only_scratch_folders_of_ours_whose_driver_is_gone_are_removed(temporary):
    kept = [temporary / name for name in ("golflab-handed-in", f"{PREFIX}fork", f"{PREFIX}same-name", f"{PREFIX}pipe")]
    for folder in kept:
        folder.mkdir()
        (folder / "work.txt").write_text("mine")
        os.utime(folder, (0, 0))
    (kept[2] / MARKER).write_text("a file of somebody's that is called so")
    os.mkfifo(kept[3] / MARKER)  # a reader of it would wait for ever
    os.mkfifo(temporary / f"{PREFIX}fifo")
    (temporary / f"{PREFIX}link").symlink_to(kept[0])
    dead = temporary / f"{PREFIX}12345678"
    (dead / "session").mkdir(parents=True)
    (dead / MARKER).write_bytes(MARKED)
    with scratch() as first:
        (Path(first) / "ray").mkdir()
        with scratch() as second:
            assert Path(first).is_dir()  # its driver lives
        assert not Path(second).exists()
    assert not Path(first).exists()
    assert not dead.exists()
    assert all((folder / "work.txt").read_text() == "mine" for folder in kept)
    assert stat.S_ISFIFO((temporary / f"{PREFIX}fifo").stat().st_mode)
    assert (temporary / f"{PREFIX}link").is_symlink()


def test_scratch_of_another_user_is_left_alone(temporary, monkeypatch):
    dead = temporary / f"{PREFIX}12345678"
    dead.mkdir()
    (dead / MARKER).write_bytes(MARKED)
    monkeypatch.setattr(golflab.search.engine.scratch.os, "getuid", lambda: 4_000_000)
    with scratch():
        pass
    assert dead.exists()


def test_a_long_folder_for_temporary_files_is_replaced_or_named(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(golflab.search.engine.scratch.tempfile, "gettempdir", lambda: str(long))
    monkeypatch.setattr(golflab.search.engine.scratch, "SHORT", ("/nowhere", "/dev/shm", "/tmp"))
    with scratch() as folder:
        assert len(folder) <= 103 - 66
    with scratch(sockets=False) as folder:
        assert folder.startswith(str(long))
    monkeypatch.setattr(golflab.search.engine.scratch, "SHORT", ("/nowhere",))
    with pytest.raises(ValueError, match="Set TMPDIR"), scratch():
        pass


# ---------------------------------------------------------------------- a cluster at an address


def test_why_no_cluster_can_be_used_is_one_sentence(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert unreachable(f"127.0.0.1:{port}").startswith(f"Nothing listens at 127.0.0.1:{port}")
    assert "must be HOST:PORT" in unreachable("nonsense")
    monkeypatch.setattr(golflab.search.engine.cluster, "_tried", lambda address: "ray.exceptions.AuthenticationError: no token")
    assert "needs a token: set RAY_AUTH_MODE=token" in unreachable("auto")
    monkeypatch.setattr(golflab.search.engine.cluster, "_tried", lambda address: "")
    assert unreachable("auto") == ""


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'RPC error: InvalidAuthToken: missing' >&2; exec sleep 60", "InvalidAuthToken"),
        ("exec sleep 60", "it did not answer"),
        ("echo 'ConnectionError: another version' >&2; exit 1", "another version"),
        ("exit 0", ""),
    ],
)
def test_a_first_connection_is_tried_for_a_while_only(tmp_path, monkeypatch, script, said):
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o700)
    monkeypatch.setattr(golflab.search.engine.cluster.sys, "executable", str(stand_in))
    monkeypatch.setattr(golflab.search.engine.cluster, "ANSWER", 1.0)
    found = golflab.search.engine.cluster._tried("auto")
    assert said in found
    assert bool(found) == bool(said)
