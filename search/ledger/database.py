"""Addresses of databases: passwords are masked wherever an address is kept or shown, and found again when it is opened."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from urllib.parse import unquote

MASK = "***"
VARIABLE = "GOLFLAB_STORAGE"  # of the environment: the whole address, password included
_USER = re.compile(r"^([\w.+-]+://[^:/@?#]*):([^@]*)@")  # what stands before the first @, as SQLAlchemy reads it
_QUERY = re.compile(r"(?<=[?&])([^=&#]*(?:pass|pwd|secret|token)[^=&#]*)=([^&#]*)", re.IGNORECASE)
_READABLE = 4  # characters a password has at least, so that an error can be shown without it


def masked(url: str) -> str:
    """The address with `MASK` in place of every password."""
    return _QUERY.sub(rf"\1={MASK}", _USER.sub(rf"\1:{MASK}@", url))


def bare(url: str) -> str:
    """The address without any password: two that agree in it are one database and one user."""
    without = _QUERY.sub("", _USER.sub(r"\1@", url))
    return re.sub(r"[?&]+$", "", re.sub(r"&{2,}", "&", without.replace("?&", "?")))


def check_address(url: str) -> None:
    """Check that no part of a password would be taken for the host, and shown as such.

    Raises:
        ValueError: an @ in it is not written as %40.
    """
    found = _USER.match(url)
    if found and "@" in re.split(r"[/?#]", url[found.end() :], maxsplit=1)[0]:
        raise ValueError("The storage's address holds more than one @: write an @ in a password as %40.")


def completed(url: str) -> str:
    """The address with the password that `VARIABLE` has for this very database and user; else without the masked one.

    PostgreSQL's own library then looks for a password where it always does: PGPASSWORD, or ~/.pgpass.
    """
    if MASK not in url and _secrets(url):
        return url
    known = os.environ.get(VARIABLE, "")
    if known and bare(known) == bare(url):
        return known
    return bare(url) if MASK in url else url


def with_driver(url: str) -> str:
    """The address with psycopg as PostgreSQL's driver, where none is named: what SQLAlchemy chooses depends on its version."""
    plain = "postgresql://"
    if url.startswith(plain) and find_spec("psycopg") is not None:
        return f"postgresql+psycopg://{url.removeprefix(plain)}"
    return url


def cleaned(error: BaseException, url: str) -> str:
    """An error's text with neither the address's passwords nor the address itself in clear."""
    text = str(error).replace(url, masked(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        if len(secret) < _READABLE and secret in text:
            return type(error).__name__
        text = text.replace(secret, MASK)
    return text


def _secrets(url: str) -> set[str]:
    found = [match[2] for match in (_USER.match(url), *_QUERY.finditer(url)) if match]
    return {form for secret in found if secret for form in (secret, unquote(secret))} - {MASK}
