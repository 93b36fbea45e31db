"""Passwords and tokens in addresses, masked before anything is written or printed."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

# ``scheme://user:password@`` and ``scheme://token@``. A password may hold slashes (database drivers take them), a
# user name may not: everything in front of the host is masked, since a user name can be a token.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s/@:]*:[^\s@]*|[^\s/@]+)(?:@[^\s/@]*)*@")
_QUERY = re.compile(
    r"(?i)([?&;][\w.-]*(?:token|password|passwd|pwd|secret|key|signature|sig|credential|auth)=)[^\s&;#'\"]+"
)
_PASSWORD = re.compile(r"(?i)\b((?:password|passwd)\s*=\s*)[^\s&;,#'\"]+")
_HEADER = re.compile(r"(?i)\b(authorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer)\s+|bearer\s+(?=\S*\d))[\w.~+/=-]{8,}")


def redact(text: str) -> str:
    """``text`` with the credentials of every address in it masked.

    Covers ``scheme://user:password@host``, secrets in query strings (``?token=...``), ``password=...`` of database
    addresses, and values of authorisation headers.
    """
    if "://" in text:
        text = _CREDENTIALS.sub(f"{MASK}@", text)
    for pattern in (_QUERY, _PASSWORD, _HEADER):
        text = pattern.sub(rf"\1{MASK}", text)
    return text


def redact_values(value: Any) -> Any:
    """A copy of nested dictionaries and lists with every string redacted, to be written to files."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item) for item in value]
    return value
