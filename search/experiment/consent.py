"""Consent: an experiment's file may name code to import, an address to connect to, or a folder to write to.

The user who started the experiment typed these values; a signature with a key that only this user has (`key_file`) records
that. A folder from somebody else has no valid signature. Then golflab names the values and refuses to use them, until the user
consents by ``--trust`` or by typing the same value again. A signature covers the values only, so that an experiment may be
copied, moved and renamed.
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

# Option -> what golflab does with its value, and the default value, which needs no consent.
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
_given: set[str] = set()  # consents given in this process; they count even if no key can be stored


def foreign(options: Mapping[str, Any]) -> dict[str, str]:
    """The options whose values need consent."""
    named = {key: options.get(key) for key in SENSITIVE}
    if ":" not in str(named["space"]):  # a ready-made one
        named["space"] = None
    return {key: str(value) for key, value in named.items() if value not in (None, SENSITIVE[key][1])}


def check_consent(
    folder: Path, saved: Mapping[str, Any], use: Collection[str], typed: Collection[str] = (), trust: bool = False
) -> None:
    """Check that the user consents to the values in an experiment's file.

    Args:
        folder: of the experiment.
        saved: content of its file.
        use: names of the options that are about to be used.
        typed: names of the options that the user has typed now.
        trust: whether the user consents to all of it.

    Raises:
        ValueError: the user has not consented; the message names the values.
    """
    named = foreign(saved["options"])
    asked = {key: value for key, value in named.items() if key in use and key not in typed}
    if not asked or trust or _known(named, saved.get(CONSENTS)):
        return
    what = " and ".join(f"{SENSITIVE[key][0]} {value!r} ({key})" for key, value in asked.items())
    raise ValueError(
        f"{folder / 'experiment.json'} asks golflab to {what}, without your recorded consent: another user, another "
        "machine or an earlier version wrote it. If you trust it, add --trust."
    )


def consent(options: Mapping[str, Any], before: Mapping[str, str] | None = None) -> dict[str, str]:
    """Record the user's consent to options; return the signatures to store with them.

    Args:
        options: with masked passwords, as they are stored.
        before: signatures of other users for the same values.
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
    """Path of the user's key: ``golflab/consent.key`` in their configuration folder."""
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
    """The user's key; None if there is none and none can be stored."""
    path = key_file()
    try:
        if make:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(os.urandom(32))
            except FileExistsError:
                pass
        status = path.lstat()
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
        return path.read_bytes() if ours and status.st_size == 32 else None
    except OSError:
        return None


def _text(named: Mapping[str, str]) -> str:
    return json.dumps(dict(named), sort_keys=True)


def _name(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:12]


def _signature(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
