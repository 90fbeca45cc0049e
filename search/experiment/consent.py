"""Consent: an experiment's folder is data. What its file would have golflab import, connect to or write to is shown first.

Whoever starts an experiment has typed these things, and their consent is a signature under a key that only they have
(`key_file`). A folder that comes from somebody else has no such signature: then they are named and refused until the user
consents, by ``--trust`` or by typing the same value again. A signature covers the values alone, so that an experiment
may be copied, moved and renamed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

# Option -> what would be done with what it names, and the value that is golflab's own.
SENSITIVE: dict[str, tuple[str, Any]] = {
    "space": ("import", None),
    "runner": ("import", "golflab.model.run:run"),
    "forecaster": ("import", "golflab.search.ledger.forecast:Forecaster"),
    "storage": ("connect to", None),
    "address": ("connect to", None),
    "cache": ("write to", None),
    "local_disk": ("write to", None),
}
CONSENTS = "consents"  # in experiment.json: key's name -> signature
_given: set[str] = set()  # in this process, also where no key can be kept


def foreign(options: Mapping[str, Any]) -> dict[str, str]:
    """What options name that is not golflab's own."""
    named = {key: options.get(key) for key in SENSITIVE}
    if ":" not in str(named["space"]):  # a ready-made one
        named["space"] = None
    return {key: str(value) for key, value in named.items() if value not in (None, SENSITIVE[key][1])}


def check_consent(
    folder: Path, told: Mapping[str, Any], use: Collection[str], typed: Collection[str] = (), trust: bool = False
) -> None:
    """Check that the user consents to what an experiment's file names.

    Args:
        folder: of the experiment.
        told: what its file says.
        use: the options that are about to be used.
        typed: those whose values the user has typed now.
        trust: whether the user consents to all of it.

    Raises:
        ValueError: the user was not asked; the message shows what would be done.
    """
    named = foreign(told["options"])
    asked = {key: value for key, value in named.items() if key in use and key not in typed}
    if not asked or trust or _known(named, told.get(CONSENTS)):
        return
    what = " and ".join(f"{SENSITIVE[key][0]} {value!r} ({key})" for key, value in asked.items())
    raise ValueError(
        f"{folder / 'experiment.json'} asks golflab to {what}, and does not carry your consent: it was written by somebody "
        "else, on another machine or by an earlier version. If you trust it, add --trust."
    )


def consent(options: Mapping[str, Any], before: Mapping[str, str] | None = None) -> dict[str, str]:
    """Consent to what options name; return the signatures to be kept with them.

    Args:
        options: with masked passwords, as they are kept.
        before: signatures of others, over the same values.
    """
    named = foreign(options)
    if not named:
        return {}
    text = _text(named)
    _given.add(text)
    key = _key(make=True)
    kept = dict(before or {})
    return kept if key is None else kept | {_name(key): _signature(key, text)}


def key_file() -> Path:
    """Where the user's key is kept: ``golflab/consent.key`` among the files of their settings."""
    settings = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(settings) / "golflab" / "consent.key"


def _known(named: Mapping[str, str], signatures: Any) -> bool:
    text = _text(named)
    if text in _given:
        return True
    key = _key()
    if key is None or not isinstance(signatures, dict):
        return False
    return hmac.compare_digest(str(signatures.get(_name(key), "")).encode(), _signature(key, text).encode())


def _key(make: bool = False) -> bytes | None:
    """The user's key; None where there is none and none can be kept."""
    path = key_file()
    try:
        if make:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(os.urandom(32))
            except FileExistsError:
                pass
        told = path.lstat()
        ours = stat.S_ISREG(told.st_mode) and told.st_uid == os.getuid()
        return path.read_bytes() if ours and told.st_size == 32 else None
    except OSError:
        return None


def _text(named: Mapping[str, str]) -> str:
    return json.dumps(dict(named), sort_keys=True)


def _name(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:12]


def _signature(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
