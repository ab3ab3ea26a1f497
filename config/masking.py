"""Masking of secrets in text that leaves the process: log lines, stored errors, printed settings."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from config.json_text import json_text

MASK: Final = "***"
# A shorter secret may be an ordinary word ("postgres", "dev"): masking it would spoil every line and hide nothing.
SHORTEST_SECRET_CHARACTERS: Final = 8

_PATTERNS: Final = (
    # Google's API keys. The format, and that clients log URLs with ?key=, were read in the sources of Google's client
    # library
    ("aiza", re.compile(r"AIza[0-9A-Za-z_-]{35}"), MASK),
    # AWS access key ids
    ("akia", re.compile(r"\bAKIA[0-9A-Z]{16}\b"), MASK),
    ("asia", re.compile(r"\bASIA[0-9A-Z]{16}\b"), MASK),
    # the signature of a presigned URL, and the same names as headers or dictionary entries
    (
        "x-amz-",
        re.compile(r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)['\"]?\s*[=:,]\s*b?['\"]?)[^&\s'\",)}]+"),
        rf"\1{MASK}",
    ),
    # headers: the whole rest of the value is masked, since a signature has several words
    ("authorization", re.compile(r"(?i)((?:proxy-)?authorization['\"]?\s*[=:,]\s*b?['\"]?)[^'\"\r\n]+"), rf"\1{MASK}"),
    ("api-key", re.compile(r"(?i)(x-(?:goog-)?api-key['\"]?\s*[=:,]\s*b?['\"]?)[^\s'\",)}]+"), rf"\1{MASK}"),
    # in URLs only: elsewhere ` key=` is how a log line names an object's key
    ("=", re.compile(r"(?i)([?&](?:key|api_key|access_token|password|sslpassword)=)[^&\s'\"]+"), rf"\1{MASK}"),
    # passwords in URLs
    ("://", re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@'\"]*):[^\s@'\"]+@"), rf"\1:{MASK}@"),
)
"""A text in lower case that every match contains, the pattern, and what replaces it.

Nearly no text has a secret, and looking for the first costs a tenth of looking for the pattern. Each value of a log
line is looked through.
"""


class SecretMask:
    """Replaces secrets in a text: texts in the known forms of keys, and the given secrets wherever they occur."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Store the secrets to mask, without those that are too short to differ from ordinary words."""
        forms = {form for secret in secrets for form in _forms(secret)}
        long_enough = (form for form in forms if len(form) >= SHORTEST_SECRET_CHARACTERS)
        self._literals = sorted(long_enough, key=len, reverse=True)  # a secret may be a part of another one

    def __call__(self, text: str) -> str:
        """Return `text` with each secret replaced by three asterisks."""
        for secret in self._literals:
            if secret in text:
                text = text.replace(secret, MASK)
        lowered = text.lower()
        for needed, pattern, replacement in _PATTERNS:
            if needed in lowered:
                text = pattern.sub(replacement, text)
        return text

    def may_concern(self, text: str) -> bool:
        """Return whether a text, or the text that it is the JSON of, may contain a secret. Most texts contain none."""
        lowered = text.lower()
        return any(needed in lowered for needed, _, _ in _PATTERNS) or any(secret in text for secret in self._literals)


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it stands in texts, in URLs and in JSON."""
    yield from (secret, quote(secret, safe=""), unquote(secret))
    yield from (json_text(secret)[1:-1], json.dumps(secret)[1:-1])


def url_password(url: str) -> str | None:
    """Return the decoded password of a URL; None if it has none, or if the password equals the user name."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if not parts.password or parts.password == parts.username:
        return None
    return unquote(parts.password)
