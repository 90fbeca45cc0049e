"""Place: the device of a run, and the type of its activations."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Place:
    """A device and a compute type."""

    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def choose(device: str = "auto", dtype: str = "auto") -> Place:
        """A GPU if there is one, else the CPU; bfloat16 where the processor multiplies it in hardware.

        Args:
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` ….
            dtype: ``auto``, ``float32`` or ``bfloat16``.
        """
        name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if dtype == "auto":
            dtype = "bfloat16" if name != "cpu" or _bfloat16_is_faster() else "float32"
        return Place(torch.device(name), getattr(torch, dtype))


def _bfloat16_is_faster() -> bool:
    """Whether the processor multiplies bfloat16: with AVX512_BF16 or AMX it is 2.3 times faster, without several times slower.

    It is read from the processor's features, not timed: a busy machine must train the same weights as a quiet one.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
