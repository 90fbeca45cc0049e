"""The notebooks run from top to bottom on an experiment they have never seen."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import golflab
from golflab.search.design.matrices import folded_plackett_burman
from tests.contract_helpers import made_up_corpus
from tests.planted import Planted, write_experiment

HERE = Path(__file__).resolve().parent
NOTEBOOKS = HERE.parent / "analysis" / "notebooks"


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


@pytest.fixture(scope="module")
def first_search(tmp_path_factory):
    """What `make search` leaves: a design, proposals, every training finished in further ways; no knob varies."""
    world, names = Planted.draw(2, 5), [f"t{k}" for k in range(5)]
    design = [[float(n in on) for n in names] for on in folded_plackett_burman(names)]
    records = world.records(np.array([*design, [1, 1, 0, 1, 0], [1, 0, 0, 1, 1]], float))
    noise = np.random.default_rng(3)
    for record in records:
        record["finishings"] = [
            {
                "technique": "int5_rows",
                "beside": [],
                "slot": "bits",
                "instead_of": ["int8_rows"],
                "bpb": 2.0,
                "bytes": 9,
                "tokens": 9,
            }
            | {"delta_bpb": 0.007 + noise.normal(0, 0.001), "delta_bytes": -800, "seconds": 0.1}
        ]
    planned = [record["recipe"] for record in records[: len(design)]]
    told = {"options": {"space": "first", "design": "first"}, "design": "first", "planned": planned}
    return write_experiment(tmp_path_factory.mktemp("runs") / "first", records, **told)


def executed(*asked: tuple[str, str]) -> list[list]:
    """What the cells of notebooks show, each with its parameters: in one kernel, which forgets between."""
    rounds = [nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4) for name, _ in asked]
    for notebook, (_, told) in zip(rounds, asked, strict=True):
        first = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        assert first.source.startswith(told.partition(" = ")[0])
        first.source = told
    whole = nbformat.v4.new_notebook()
    whole.cells = [cell for notebook in rounds for cell in (*notebook.cells, nbformat.v4.new_code_cell("%reset -f"))]
    NotebookClient(whole, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    shown = [[output for cell in notebook.cells for output in cell.get("outputs", [])] for notebook in rounds]
    assert not [o for outputs in shown for o in outputs if o.output_type == "error"]
    return shown


def test_ablation_and_search_run_from_top_to_bottom(experiment, first_search):
    """On both experiments; each shows its figures."""
    places = [f"EXPERIMENT = {str(place)!r}" for place in (experiment, first_search)]
    asked = [(name, place) for name in ("ablation", "search") for place in places]
    for (name, _), shown in zip(asked, executed(*asked), strict=True):
        assert sum("application/vnd.plotly.v1+json" in o.get("data", {}) for o in shown) >= 3, name


def test_the_tour_shows_everything_that_is_offered(tmp_path):
    source = (NOTEBOOKS / "tour.ipynb").read_text()
    assert not [name for name in golflab.__all__ if f"golflab.{name}" not in source]
    corpus = made_up_corpus(tmp_path)
    parameters = f"""RUNS = {str(tmp_path / "runs")!r}
import sys
sys.path[:0] = [{str(HERE.parent)!r}, {str(HERE)!r}]
from tests.made import without_ray
SMALL = {{"scale": "nano", "tokens": 4096, "corpus": {str(corpus)!r}}} | without_ray()"""
    text = "".join(o.get("text", "") for o in executed(("tour", parameters))[0])
    assert "complete: " in text
    assert "Counts breaches: none" in text
    assert "Peeks breaches: causal" in text


@pytest.mark.parametrize("name", ["ablation", "search", "tour"])
def test_committed_without_outputs(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)
