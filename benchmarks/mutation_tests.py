"""Which modules get faults planted by `benchmarks.mutation`, the tests that are about each, and the libraries they import."""

from __future__ import annotations

COPIED = ("golflab", "model", "spaces", "search", "analysis", "tests", "benchmarks", "pyproject.toml")
PATIENCE = 5.0  # times what the tests of a module take without a fault; a fault that makes them take longer counts as noticed
LIBRARIES = (
    "torch",
    "torch.distributed",
    "scipy.stats",
    "scipy.optimize",
    "pandas",
    "optuna",
    "ray",
    "hypothesis",
    "threadpoolctl",
)
TRAINING = ("tests/test_train_cases.py", "tests/test_train.py", "tests/test_interrupted.py", "tests/test_compiled.py")
RUNNING = (
    "tests/test_run_cases.py",
    "tests/test_run.py",
    "tests/test_interrupted.py",
    "tests/test_ways.py",
    "tests/test_export.py",
)
TESTS = {
    "model/stages.py": ("tests/test_stages.py", "tests/test_run.py"),
    "model/training/loop.py": TRAINING,
    "model/training/state.py": TRAINING,
    "model/run.py": RUNNING,
    "model/job/training.py": RUNNING,
    "model/job/finishing.py": RUNNING,
    "model/compression/gptq.py": ("tests/test_gptq.py", "tests/techniques/test_gptq.py"),
    "search/ledger/ledger.py": (
        "tests/test_ledger_asked.py",
        "tests/test_ledger_told.py",
        "tests/test_ledger.py",
        "tests/test_growth.py",
    ),
    "search/sampler/fitting.py": ("tests/test_sampler_cases.py", "tests/test_sampler_variants.py", "tests/test_sampler.py"),
    "analysis/comparison/paired.py": ("tests/test_paired.py",),
}
