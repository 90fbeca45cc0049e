"""The mutation run: what it plants, and that its draw is one."""

from __future__ import annotations

import ast

import pytest

from benchmarks import mutation
from benchmarks.mutation import chosen, faults, sampled
from benchmarks.mutation_tests import TESTS

SOURCE = b"""
def f(x: int = 3, *, more: bool = False) -> int:
    \"\"\"Says 5.\"\"\"
    if not x:
        raise ValueError(f"{x + 1}")
    print(x)
    return x * 250 if x < 2 else x
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    (tmp_path / "m.py").write_bytes(SOURCE)
    return tmp_path / "m.py"


def test_what_is_planted_and_what_is_left_alone(module):
    planted = {(f.line, " ".join(f.before.split()), f.after) for f in faults("m.py")}
    assert planted == {
        (2, "3", "(4)"),
        (2, "False", "(True)"),
        (4, "not x", "(not not x)"),
        (4, "not x", "(x)"),
        (6, "print(x)", "pass"),
        (7, "x * 250 if x < 2 else x", "(x if x < 2 else x * 250)"),
        (7, "x < 2", "(x <= 2)"),
        (7, "2", "(3)"),
        (7, "x * 250", "(x / 250)"),
        (7, "250", "(500)"),
    }


def test_a_draw_is_the_same_again_and_hardly_changes_with_the_lines_around(module):
    before = sampled("m.py", 5, 0)
    assert before == sampled("m.py", 7, 0)[:5]
    assert before != sampled("m.py", 5, 1)
    module.write_bytes(b"import os\n" + SOURCE)
    assert [(f.line - 1, f.after) for f in sampled("m.py", 5, 0)] == [(f.line, f.after) for f in before]


def test_every_fault_leaves_a_module_that_can_be_read():
    for name, tests in TESTS.items():
        source = (mutation.ROOT / name).read_bytes()
        assert all((mutation.ROOT / test).exists() for test in tests)
        for fault in sampled(name, 12, 3):
            assert ast.dump(ast.parse(fault.planted(source))) != ast.dump(ast.parse(source))


def test_a_fault_is_shown_to_the_tests_of_its_line_the_quickest_first():
    fault = mutation.Fault("m.py", 7, "x\n< 2", "(x <= 2)", 0, 0)
    reached, seconds = {"slow": [1, 8], "quick": [7], "elsewhere": [9]}, {"slow": 2.0, "quick": 0.1, "elsewhere": 0.01}
    assert chosen(fault, reached, seconds) == ["quick", "slow"]
    assert chosen(fault, {"elsewhere": [9], "slow": [1]}, seconds) == ["elsewhere", "slow"]
