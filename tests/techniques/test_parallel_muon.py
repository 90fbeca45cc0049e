"""Parallel Muon on one process; on two it is tried beside all others in tests/test_replicas.py."""

from __future__ import annotations

import torch

from model.technique import parse
from tests.contract_helpers import BASE, trained

RATES = "lr=0.01,weight_decay=0.1"


def test_on_one_process_it_is_muon():
    a, b = (trained(BASE.with_(parse(f"{name}:{RATES}"), layers=3)).weights for name in ("muon", "parallel_muon"))
    assert all(torch.equal(a[n], b[n]) for n in a)
