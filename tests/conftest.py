"""Shared by all tests: how they are dealt out, what they start from, and one local Ray cluster a session.

The cluster is started when first asked for, with workers that find `fake_runs`.
"""

import functools
import os
import random
import sys
from pathlib import Path

# Two processes run the tests, each on a core. A second thread of NumPy's would only wait beside the first. NumPy reads this
# when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# The same examples in every run, and no verdict from the time they take; `make fuzz` draws new ones.
settings.register_profile(
    "golflab", derandomize="GOLFLAB_FUZZ" not in os.environ, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("golflab")
HELPERS = {"tests.contract_helpers", "tests.scoring", "tests.matrices", "tests.processes", "real_runs"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whole files go to one process of the test run, and all that share a fixture of the session to the same.

    So one cluster of Ray is started, and one pair of gloo processes.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::", 1)[0]
            return shared(file) or file

    @functools.cache
    def shared(file):
        text = (HERE.parent / file).read_text()
        return next((name for name in ("ray_cluster", "gloo_pair") if name in text), None)

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what computes with PyTorch or NumPy as ``numerical``: what `make test-machines` runs."""
    for item in items:
        used = {getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in vars(item.module).values()}
        if {"torch", "np"} & set(vars(item.module)) or used & HELPERS:
            item.add_marker("numerical")


@pytest.fixture(autouse=True, scope="session")
def machine():
    from tests.machine import prepare

    prepare()


@pytest.fixture(autouse=True, scope="session")
def own_key(tmp_path_factory):
    """Consent (see `search.experiment.consent`) is signed with a key of the tests' own; the user's settings are left alone."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("settings"))


@pytest.fixture(autouse=True)
def seeds():
    """What a test draws depends on no test before it."""
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def gloo_pair(tmp_path_factory):
    """What is tested on several processes, by process and by test module. One pair does it all: each imports for seconds."""
    from tests.processes import all_work, spread

    return spread(all_work, tmp_path_factory.mktemp("gloo"))


@pytest.fixture(scope="session")
def ray_cluster():
    from golflab.search.engine.cluster import cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), before or ""])
    try:
        with cluster(cpus=1) as found:  # each search starts a worker a core, which imports for seconds
            yield found
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
