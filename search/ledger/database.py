"""Addresses of databases. Passwords are masked when an address is stored or shown, and looked up when it is opened."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from urllib.parse import unquote

MASK = "***"
VARIABLE = "GOLFLAB_STORAGE"  # of the environment: the whole address, password included
_USER = re.compile(r"^([\w.+-]+://[^:/@?#]*):([^@]*)@")  # what stands before the first @, as SQLAlchemy reads it
_QUERY = re.compile(r"(?<=[?&])([^=&#]*(?:pass|pwd|secret|token)[^=&#]*)=([^&#]*)", re.IGNORECASE)
_READABLE = 4  # a shorter password cannot be cut out of an error message, so the message is not shown


def masked(url: str) -> str:
    """The address with `MASK` in place of every password."""
    return _QUERY.sub(rf"\1={MASK}", _USER.sub(rf"\1:{MASK}@", url))


def bare(url: str) -> str:
    """The address without any password: equal for the same database and user."""
    without = _QUERY.sub("", _USER.sub(r"\1@", url))
    return re.sub(r"[?&]+$", "", re.sub(r"&{2,}", "&", without.replace("?&", "?")))


def check_address(url: str) -> None:
    """Check that no part of a password would be read as the host, and shown.

    Raises:
        ValueError: an @ in it is not written as %40.
    """
    found = _USER.match(url)
    if found and "@" in re.split(r"[/?#]", url[found.end() :], maxsplit=1)[0]:
        raise ValueError("The storage's address holds more than one @: write an @ in a password as %40.")


def completed(url: str) -> str:
    """The address with the password that `VARIABLE` has for this database and user; without one, the mask is removed.

    PostgreSQL's own library then looks for a password in the usual places: PGPASSWORD, or ~/.pgpass.
    """
    if MASK not in url and _secrets(url):
        return url
    known = os.environ.get(VARIABLE, "")
    if known and bare(known) == bare(url):
        return known
    return bare(url) if MASK in url else url


def with_driver(url: str) -> str:
    """The address with psycopg as PostgreSQL's driver if it names none: SQLAlchemy's default depends on its version."""
    plain = "postgresql://"
    if url.startswith(plain) and find_spec("psycopg") is not None:
        return f"postgresql+psycopg://{url.removeprefix(plain)}"
    return url


def cleaned(error: BaseException, url: str) -> str:
    """An error's text without passwords; the address in it is masked."""
    text = str(error).replace(url, masked(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        if len(secret) < _READABLE and secret in text:
            return type(error).__name__
        text = text.replace(secret, MASK)
    return text


def _secrets(url: str) -> set[str]:
    found = [match[2] for match in (_USER.match(url), *_QUERY.finditer(url)) if match]
    return {form for secret in found if secret for form in (secret, unquote(secret))} - {MASK}
