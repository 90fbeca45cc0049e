"""What a test run may be told about the machine, so that one processor can stand for others; see `make test-machines`.

The choice of instructions is made by the libraries themselves (``ATEN_CPU_CAPABILITY``, ``ONEDNN_MAX_CPU_ISA``,
``OPENBLAS_CORETYPE``). Threads and the compute type are chosen by golflab, which reads no environment variables, so they are
set here:

* ``OMP_NUM_THREADS``: threads a test computes with; one where it is not set.
* ``GOLFLAB_TEST_DTYPE``: ``bfloat16`` or ``float32``, in place of what suits the processor, wherever ``auto`` chooses.
* ``GOLFLAB_TEST_EMPTY``: ``nan`` fills every new tensor that nothing was written to with NaN. What happens to be in memory is
  often zero, so a test that reads it would fail now and then only.
"""

from __future__ import annotations

import os

import torch

import golflab.model.system.device

THREADS = int(os.environ.get("OMP_NUM_THREADS") or 1)
DTYPE = os.environ.get("GOLFLAB_TEST_DTYPE", "")
EMPTY = os.environ.get("GOLFLAB_TEST_EMPTY", "")


def prepare() -> None:
    """Set threads, compute type and new memory of this process.

    Raises:
        ValueError: the compute type is neither ``bfloat16`` nor ``float32``, or new memory is to hold anything but NaN.
    """
    torch.set_num_threads(THREADS)
    if DTYPE not in ("", "bfloat16", "float32"):
        raise ValueError(f"GOLFLAB_TEST_DTYPE={DTYPE!r}; choose bfloat16 or float32, or leave it out.")
    if EMPTY not in ("", "nan"):
        raise ValueError(f"GOLFLAB_TEST_EMPTY={EMPTY!r}; choose nan, or leave it out.")
    if EMPTY:
        torch.use_deterministic_algorithms(True, warn_only=True)  # new memory is filled in this mode only
        torch.utils.deterministic.fill_uninitialized_memory = True
    if DTYPE:
        golflab.model.system.device._bfloat16_is_faster = lambda: DTYPE == "bfloat16"
