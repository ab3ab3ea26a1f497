"""Operators' passwords: what one must be, and argon2id, in threads and only a few at a time."""

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from workers.operations.errors import InvalidInputError

LEAST_CHARACTERS: Final = 8
MOST_CHARACTERS: Final = 1_024
AT_ONCE: Final = 2
"""Hashes that are computed at the same time; each takes 64 MiB and about 50 ms of a core."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right, and the hash that should replace the stored one; None if none has to."""

    is_right: bool
    new_hash: str | None = None


def new_hash(password: str) -> str:
    """Return the hash of a new password.

    The same text has the same hash whether its accents are characters of their own or not, as keyboards differ in that
    (Unicode's form NFC, as RFC 8265 asks for).

    Raises:
        InvalidInputError: the password is too short or too long.
    """
    text = unicodedata.normalize("NFC", password)
    if not LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
        raise InvalidInputError(
            f"the password has {len(text):,} characters; give {LEAST_CHARACTERS} to {MOST_CHARACTERS:,}"
        )
    return PasswordHasher().hash(_bytes_of(text))


def _bytes_of(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # a browser may send half of a surrogate pair


class Passwords:
    """Verifies passwords, at the same cost whether there is an operator of that name or not."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Make the threads, and the hash by which passwords of unknown names are verified.

        `hasher` has the parameters of argon2; None for the library's, which are those of RFC 9106 for little memory.
        """
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._nobodys = self._threads.submit(self._hasher.hash, b"nobody has this password")

    async def verify(self, password_hash: str | None, password: str) -> Verdict:
        """Compare a password with a stored hash; None is the hash of somebody whom there isn't."""
        text = unicodedata.normalize("NFC", password[: MOST_CHARACTERS + 1])
        work = partial(self._verify, password_hash, text)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _verify(self, password_hash: str | None, text: str) -> Verdict:
        stored = password_hash if len(text) <= MOST_CHARACTERS else None
        try:
            self._hasher.verify(stored or self._nobodys.result(), _bytes_of(text))
        except (VerificationError, InvalidHashError):
            return Verdict(is_right=False)
        if stored is None:
            return Verdict(is_right=False)
        is_old = self._hasher.check_needs_rehash(stored)
        return Verdict(is_right=True, new_hash=self._hasher.hash(_bytes_of(text)) if is_old else None)

    def close(self) -> None:
        """End the threads once they are idle."""
        self._threads.shutdown(wait=False, cancel_futures=True)
