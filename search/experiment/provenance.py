"""Provenance of an experiment: its code, uncommitted changes included, and the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 100_000  # characters of a diff that are stored
PATIENCE = 20.0  # seconds that git may take
SEEN = (
    "golflab",
    "model",
    "spaces",
    "search",
    "analysis",
)  # folders with code; other files may be private


def code() -> dict[str, Any]:
    """Version of the package, git commit and what differs from it.

    Returns:
        ``version``, and in a git checkout ``commit``, ``dirty``, ``diff`` (its first `LONGEST` characters, files that are
        not tracked included) and ``diff_hash`` (of all of it).
    """
    facts: dict[str, Any] = {"version": package_version()}
    if not (ROOT / ".git").exists() or (commit := _git("rev-parse", "HEAD")) is None:
        return facts
    diff = _git("diff", "HEAD", "--no-ext-diff", "--no-color", "--", *SEEN) or ""
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", *(f"{folder}/*.py" for folder in SEEN)) or ""
    for name in untracked.splitlines():
        try:
            diff += f"\nnot tracked: {name}\n{(ROOT / name).read_text(errors='replace')}"
        except OSError:
            diff += f"\nnot tracked: {name}\n"
    facts |= {"commit": commit.strip(), "dirty": bool(diff)}
    if diff:
        facts |= {"diff": diff[:LONGEST], "diff_hash": hashlib.sha256(diff.encode()).hexdigest()[:16]}
    return facts


def package_version() -> str:
    """Of golflab, as it is installed."""
    return _version("golflab")


def machine() -> dict[str, str]:
    """Host, hardware and the versions of what does the work."""
    facts = {"host": platform.node(), "system": platform.system(), "processor": platform.machine()}
    facts |= {"cores": str(os.cpu_count()), "python": platform.python_version()}
    return facts | {name: _version(name) for name in ("torch", "ray", "optuna")}


def in_words(facts: dict[str, Any]) -> str:
    """A code's version, commit and state, short."""
    commit = f", commit {facts['commit'][:10]}" if facts.get("commit") else ""
    return f"golflab {facts.get('version', '?')}{commit}" + (
        f" with changes {facts['diff_hash']}" if facts.get("dirty") else ""
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
