"""The notebooks run from top to bottom on an experiment they have never seen."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from tests.planted import Planted, write_experiment

NOTEBOOKS = Path(__file__).resolve().parents[1] / "analysis" / "notebooks"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    world = Planted.draw(1, 8)
    flags = np.repeat((np.random.default_rng(0).random((24, 8)) < 0.5).astype(float), 2, axis=0)
    records = world.records(flags, seeds=np.tile([0, 1], 24))
    for k, record in enumerate(records):
        record["spec"]["techniques"]["bedrock"] = {"theta": 0.1 + 0.8 * (k // 2) / 24}
        if k in (5, 17):
            record.update(state="pruned", bpb=None, bytes=None, reason="too large")
    return write_experiment(tmp_path_factory.mktemp("runs") / "demo", records, options={"space": "starter"})


@pytest.mark.parametrize("name", ["ablation", "search"])
def test_runs_from_top_to_bottom(name, experiment):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert first.source.startswith("EXPERIMENT = ")
    first.source = f"EXPERIMENT = {str(experiment)!r}"
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [o for o in shown if o.output_type == "error"]
    assert sum("application/vnd.plotly.v1+json" in o.get("data", {}) for o in shown) >= 3


@pytest.mark.parametrize("name", ["ablation", "search"])
def test_committed_without_outputs(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)
