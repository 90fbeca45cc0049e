"""Evaluators that read what they declare and nothing else. For tests only."""

from __future__ import annotations

import os
import tempfile
import threading

import numpy as np

from tests.cheats_files import Table, forked


def plain(weights):
    """Reads what is declared."""
    return Table(np.load(weights))


def scratch(weights):
    """Writes a file of its own, and a shared one, and reads them again; starts a child and a thread."""
    table = np.load(weights)
    with tempfile.TemporaryDirectory() as folder:
        np.save(os.path.join(folder, "x.npy"), table)
        table = np.load(os.path.join(folder, "x.npy"))
    with tempfile.TemporaryFile() as file:
        table.tofile(file)
        file.seek(0)
        table = np.fromfile(file)
    doubled = np.frombuffer(forked({}, lambda: table[:8].tobytes()), np.float64)
    assert (doubled == table[:8]).all()
    worker = threading.Thread(target=lambda: table.sort())
    worker.start()
    worker.join()
    return Table(table)


def curious(weights):
    """Asks what programs ask: the machine, the time zone, its own source, its libraries."""
    import inspect
    import platform
    import time
    from importlib import metadata

    time.localtime()
    platform.platform()
    inspect.getsource(plain)
    metadata.version("numpy")
    metadata.entry_points(group="console_scripts")  # looks into all folders of modules
    os.cpu_count()
    return plain(weights)


def light(weights):
    """Imports the small libraries."""
    import safetensors.numpy  # noqa: F401
    import sentencepiece  # noqa: F401
    import zstandard  # noqa: F401

    return plain(weights)


def tables(weights):
    """Imports pandas and asks for a time zone."""
    import pandas as pd

    pd.Timestamp("2026-01-01", tz="Europe/Berlin")
    return plain(weights)


def tensors(weights):
    """Imports torch and computes with it; writes with torch.save, reads its own."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.save(torch.from_numpy(np.load(weights)), os.path.join(folder, "x.pt"))
        return Table(torch.load(os.path.join(folder, "x.pt")).numpy())


HONEST = {"plain": plain, "scratch": scratch, "curious": curious, "light": light, "tables": tables, "tensors": tensors}
