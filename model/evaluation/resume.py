"""The finished part of an interrupted evaluation, from which the next one continues."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from golflab.model.recipe import digest
from golflab.model.system.tensors import read_tensors, write_tensors

SAVE_EVERY = 5.0  # seconds between two saves, at least
SAVE_SHARE = 0.05  # largest share of the time that saving may take: the file of a text of 62 million tokens has a gigabyte


class Saved:
    """Scores so far, the number of finished stretches, and the adapter's state after them, in one checksummed file.

    Args:
        path: the file.
        tokens: the text.
        model: with the weights that score it.
        settings: everything else that decides the scores. A file of another text, model or way of scoring is ignored.
    """

    def __init__(self, path: Path, tokens: np.ndarray, model: nn.Module, settings: list[str]) -> None:
        self.path, self.due = path, time.monotonic() + SAVE_EVERY
        content = hashlib.sha256(tokens.tobytes())
        for tensor in model.state_dict().values():
            content.update(tensor.detach().float().cpu().numpy().tobytes())
        self.key = digest([content.hexdigest(), settings, "side"])  # older files hold entropies under another name

    def load(self, nats: np.ndarray, side: np.ndarray) -> tuple[int, dict[str, Tensor] | None]:
        """Load the scores of the file; return the number of finished stretches and the adapter's state, or 0 and None."""
        found = read_tensors(self.path)
        if found is None or found[1].get("key") != self.key:
            return 0, None
        tensors, facts = found
        nats[:], side[:] = tensors["nats"].numpy(), tensors["side"].numpy()
        state = {name.removeprefix("state/"): t for name, t in tensors.items() if name.startswith("state/")}
        return int(facts["finished"]), state

    def save(self, nats: np.ndarray, side: np.ndarray, finished: int, state: Callable[[], dict[str, Tensor]]) -> None:
        """Write the file, unless that was done a moment ago."""
        began = time.monotonic()
        if began < self.due:
            return
        body = {"nats": torch.from_numpy(nats), "side": torch.from_numpy(side)}
        body |= {f"state/{name}": tensor for name, tensor in state().items()}
        write_tensors(self.path, body, {"key": self.key, "finished": finished})
        ended = time.monotonic()
        self.due = ended + max(SAVE_EVERY, (ended - began) / SAVE_SHARE)

    def remove(self) -> None:
        """Remove the file, since the evaluation is complete."""
        self.path.unlink(missing_ok=True)
