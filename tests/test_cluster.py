"""Several nodes in one machine: trials whose processes are spread over them, and what happens when one goes away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import real_runs
from ray.cluster_utils import Cluster

import golflab.search.engine.cluster
from golflab.model.record import records_in
from golflab.model.run import run
from golflab.search.engine.running import running_state
from golflab.search.experiment.experiment_file import read_experiment
from golflab.search.experiment.options import Options

ROOT = Path(__file__).parent.parent
DRIVER = """
import sys
import real_runs
from pathlib import Path
from golflab.search.experiment.start import run_plan
runs, address, count, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
run_plan(real_runs.recipes(runs, count, steps), name="n", runs=str(runs), address=address, processes=2, runner="real_runs:run")
"""


@pytest.mark.parametrize(
    ("options", "processes", "bundle"),
    [
        ({}, 1, {"CPU": 1.0}),
        ({"gpus_per_trial": 0.5}, 1, {"CPU": 1.0, "GPU": 0.5}),
        ({"gpus_per_trial": 4}, 4, {"CPU": 1.0, "GPU": 1.0}),
        ({"cpus_per_trial": 2}, 2, {"CPU": 1.0}),
        ({"processes": 2}, 2, {"CPU": 1.0, "GPU": 1.0}),
        ({"processes": 2, "cpus_per_trial": 8}, 2, {"CPU": 4.0, "GPU": 1.0}),
        ({"processes": 1, "cpus_per_trial": 4}, 1, {"CPU": 4.0}),
    ],
)
def test_what_each_process_of_a_trial_is_given(options, processes, bundle):
    there = 8.0 if options.get("processes") == 2 else 0.0
    asked = Options(**options)
    asked.check_team()
    assert (asked.team, asked.bundle(there)) == (processes, bundle)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"processes": 0}, "at least 1"),
        ({"processes": 3}, "16 sequences a batch cannot be divided among 3 processes"),
        ({"processes": 2, "gpus_per_trial": 1}, "a GPU each"),
        ({"gpus_per_trial": 1.5}, "a GPU each"),
        ({"cpus_per_trial": 0}, "positive number"),
    ],
)
def test_what_a_trial_cannot_be_given(options, said):
    with pytest.raises(ValueError, match=said):
        Options(**options).check_team()


def test_a_cluster_says_how_many_trials_it_can_run():
    there = golflab.search.engine.cluster.Cluster(cpus=8, gpus=4, scratch="")
    assert there.workers({"CPU": 1.0}) == 8
    assert there.workers({"CPU": 1.0, "GPU": 0.5}) == 8
    assert there.workers({"CPU": 1.0, "GPU": 1.0}, processes=2) == 2
    with pytest.raises(ValueError, match="8 GPUs"):
        there.workers({"CPU": 1.0, "GPU": 1.0}, processes=8)


def own_address() -> str:
    """The address that Ray takes for this machine, asked in a fresh process.

    In this one the session's cluster may be running. It listens on the loopback interface only, and Ray would take its address
    for every further node; a driver, which does not know of it, would then look for them elsewhere.
    """
    asked = [sys.executable, "-c", "from ray.util import get_node_ip_address; print(get_node_ip_address())"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[-1]


@pytest.fixture
def nodes(monkeypatch):
    """Three nodes of one core each: a trial of two processes needs two of them."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), str(ROOT)]))
    own = {"num_cpus": 1, "node_ip_address": own_address()}
    cluster = Cluster(initialize_head=True, head_node_args=own | {"include_dashboard": False})
    try:
        cluster.add_node(**own)
        cluster.add_node(**own)
        yield cluster
    finally:
        cluster.shutdown()


def drive(nodes, runs, count, steps):
    """Start a search of so many trials on the cluster."""
    code = [sys.executable, "-c", DRIVER, str(runs), nodes.address, str(count), str(steps)]
    return subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_processes_of_a_trial_are_spread_over_nodes_and_a_lost_node_costs_no_trial(nodes, tmp_path):
    driver = drive(nodes, tmp_path, 2, 80)
    while not list((tmp_path / "cache").glob("train/*.checkpoint")):
        assert driver.poll() is None, driver.stdout.read()
        time.sleep(0.1)
    (first,) = (tmp_path / "n" / "trials").glob("*/log.txt")
    doing = running_state(tmp_path / "n", first.parent.name)  # the first of its processes tells it
    assert doing["steps"] == 80
    on = first.read_text().split(" on nodes ")[1].split()[:2]
    head = nodes.head_node.node_id[:8]
    away = next(n for n in nodes.worker_nodes if n.node_id[:8] in on)
    nodes.remove_node(away, allow_graceful=False)
    said, _ = driver.communicate()
    assert driver.returncode == 0, said
    records = {record.recipe: record for _, record in records_in(tmp_path / "n")}
    assert [r.state for r in records.values()] == ["complete"] * 2
    assert all(r.machine["processes"] == "2" and len(r.machine["nodes"].split()) == 2 for r in records.values())
    assert away.node_id[:8] not in records[first.parent.name].machine["nodes"]
    assert all(head in r.machine["nodes"] for r in records.values())  # only two nodes were left
    attempts = real_runs.attempts(first)
    assert len(attempts) >= 2  # a busy machine may lose a worker besides
    assert attempts[-1][0] > 1  # it continued from its checkpoint
    assert sorted(real_runs.trainings(tmp_path)) == sorted(records)
    recipe = real_runs.recipes(tmp_path, 1, 80)[0]
    # Before its first update one process computes the same loss, to the rounding of the compute type; later steps magnify it.
    alone = run(recipe.with_(tokens=recipe.schedule.batch_tokens), None, tmp_path / "alone", device="cpu")
    rounding = 2.0**-8 if alone.machine["dtype"] == "bfloat16" else 16 * 2.0**-23
    assert records[recipe.hash].curve[0]["loss"] == pytest.approx(alone.curve[0]["loss"], rel=rounding)
    assert alone.machine.get("processes") is None
    assert read_experiment(tmp_path / "n")["counts"]["complete"] == 2
