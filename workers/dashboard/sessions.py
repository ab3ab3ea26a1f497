"""Who a request comes from: by a session, by a proxy's word, or anybody where nobody has to sign in."""

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import Final, Literal

from config.dashboard_settings import Auth
from config.logger import EventLogger
from models.connections import DATABASE_ERRORS, Connection
from models.database import Database
from models.operators.operators import Role, password_hash_of
from models.operators.sessions import (
    Still,
    end_session,
    hash_of,
    new_token,
    open_session,
    read_standing,
    read_still,
    see_session,
)
from models.operators.sign_in_tries import Begun, begin_try, fail_try, take_back_try
from workers.operations.actions import os_user
from workers.operations.errors import InvalidInputError
from workers.operations.operators import operator_name
from workers.operations.passwords import Passwords, Verdict

log = EventLogger(__name__)

LOOK_S: Final = 4.0
"""Seconds for finding out who a request comes from; then the database counts as away."""

STILL_S: Final = 1.0
"""Seconds for which streams believe that a session is open. Together with their own second they close within two."""

TRIES_AT_ONCE: Final = 4
MOST_TRIES: Final = 200
"""Tries to sign in that may be under way or wait in this process; those beyond are refused for a second."""

PLACE_LOOK_S: Final = 0.05
PLACE_WAIT_S: Final = 5.0
"""Seconds that a try waits for others of its name or address that are under way at another dashboard."""

BUSY_S: Final = 1


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts: the name under which actions are recorded, and the role."""

    name: str
    role: Role

    @property
    def may_act(self) -> bool:
        """Whether actions are offered to this person."""
        return self.role == "operator"


@dataclass(frozen=True, slots=True)
class Access:
    """How a request may use the dashboard.

    Attributes:
        auth: how people sign in at this moment.
        operator: who it comes from; None if nobody is signed in.
        token_hash: of the session's token; None without a session.
    """

    auth: Auth
    operator: Operator | None
    token_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A sign-in succeeded: the token for the cookie."""

    token: str


@dataclass(frozen=True, slots=True)
class Limited:
    """A sign-in was refused unseen, because too many have failed: seconds until it may be tried again."""

    retry_after_s: int


SignIn = SignedIn | Limited | Literal["wrong"]


@dataclass(slots=True)
class _Look:
    """What the last look at the sessions and operators of streams found, and what it asked about.

    Attributes:
        at_s: when it was, on the monotonic clock.
        found: None if the database was away.
        asked: the hashes of sessions' tokens and the names of operators that it asked about.
        wanted: those that the next look asks about, and when a stream named each last.
        turn: held during a look.
    """

    at_s: float = -math.inf
    found: Still | None = None
    asked: frozenset[bytes | str] = frozenset()
    wanted: dict[bytes | str, float] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Operators:
    """Signs operators in and out, and says who a request comes from."""

    def __init__(self, database: Database, *, auth: Auth | None, is_loopback: bool, passwords: Passwords) -> None:
        """Store what is needed.

        Args:
            database: where operators and sessions are.
            auth: how people sign in, as DARKROOM_DASHBOARD_AUTH says.
            is_loopback: whether only programs of this machine reach the dashboard.
            passwords: verifies passwords; the caller closes it.
        """
        self._database = database
        self._auth = auth
        self._is_loopback = is_loopback
        self._passwords = passwords
        self._turns = asyncio.Semaphore(TRIES_AT_ONCE)
        self._tries = 0
        self._look = _Look()

    def auth_with(self, *, has_operators: bool) -> Auth:
        """Return how people sign in while there are, or aren't, any operators."""
        if self._auth is not None:
            return self._auth
        return "password" if has_operators or not self._is_loopback else "none"

    async def access(self, token: str | None, named: str | None) -> Access:
        """Return how a request may use the dashboard; that is found out anew for each request.

        Args:
            token: the session's, from the cookie.
            named: the operator whom a trusted proxy names.

        Raises:
            DatabaseLostError, TimeoutError: the database can't say now.
        """
        token_hash = hash_of(token) if token else None
        name = named if named and "\x00" not in named else None

        async with asyncio.timeout(LOOK_S):
            standing = await self._database.run(lambda connection: read_standing(connection, token_hash, name))
            auth = self.auth_with(has_operators=standing.has_operators)
            if auth == "none":
                return Access(auth, Operator(os_user(), "operator"))
            if auth == "proxy":
                is_known = name is not None and standing.named_role is not None
                return Access(auth, Operator(name or "", standing.named_role) if is_known else None)
            if standing.name is None or token_hash is None:
                return Access(auth, None)
            if standing.is_due:
                await self._database.commit("see_session", lambda connection: see_session(connection, token_hash))
            return Access(auth, Operator(standing.name, standing.role), token_hash)

    async def is_current(self, access: Access) -> bool:
        """Return whether somebody who had access still has it; for streams, which ask each second.

        However many streams ask, the database is asked once in STILL_S. While it is away nothing is known of an end,
        and nothing new is shown either.
        """
        look, key = self._look, access.token_hash or (access.operator.name if access.operator else "")
        look.wanted[key] = time.monotonic()
        async with look.turn:
            if key not in look.asked or time.monotonic() - look.at_s >= STILL_S:
                await self._look_again(look)
        return look.found is None or self._holds(access, look.found)

    async def _look_again(self, look: _Look) -> None:
        now_s = time.monotonic()
        look.wanted = {key: at_s for key, at_s in look.wanted.items() if now_s - at_s < 10 * STILL_S}
        hashes = [one for one in look.wanted if isinstance(one, bytes)]
        names = [one for one in look.wanted if isinstance(one, str)]
        try:
            async with asyncio.timeout(LOOK_S):
                look.found = await self._database.run(lambda connection: read_still(connection, hashes, names))
        except DATABASE_ERRORS:  # a timeout is one of them
            look.found = None
        look.asked, look.at_s = frozenset((*hashes, *names)), time.monotonic()

    def _holds(self, access: Access, still: Still) -> bool:
        if self.auth_with(has_operators=still.has_operators) != access.auth or access.operator is None:
            return False
        if access.auth == "proxy":
            return f"{access.operator.name}/{access.operator.role}" in still.operators
        return access.auth == "none" or access.token_hash in still.open

    async def sign_in(self, name: str, password: str, address: str) -> SignIn:
        """Verify a name and a password, and open a session.

        The sixth try after five failures of a name or an address in a minute is refused, right or wrong.

        Args:
            name: as it was typed.
            password: as it was typed.
            address: of the client, by which failures are counted, too.

        Raises:
            DatabaseLostError, ContentionError: the database can't be used now.
        """
        if self._tries >= MOST_TRIES:
            return Limited(BUSY_S)
        self._tries += 1
        try:
            async with self._turns:
                return await self._sign_in(name, password, address)
        finally:
            self._tries -= 1

    async def _sign_in(self, typed: str, password: str, address: str) -> SignIn:
        try:
            name: str | None = operator_name(typed)
        except InvalidInputError:
            name = None
        begun = await self._begin(hash_of(name or typed), address)
        if begun.number is None:
            log.warning("sign_in_limited", address=address)
            return Limited(BUSY_S if begun.retry_after is None else math.ceil(begun.retry_after.total_seconds()) or 1)
        number = begun.number
        for _ in range(2):  # once more if another sign-in has renewed the hash meanwhile
            stored = None if name is None else await self._password_hash(name)
            verdict = await self._passwords.verify(stored, password)
            if not verdict.is_right or name is None or stored is None:
                break
            token = new_token()
            if await self._open(name, token, stored, verdict, number):
                log.info("operator_signed_in", operator=name, address=address)
                return SignedIn(token)
        await self._database.commit("fail_sign_in", lambda connection: fail_try(connection, number))
        log.warning("sign_in_failed", operator=name if stored is not None else None, address=address)
        return "wrong"

    async def _begin(self, name_hash: bytes, address: str) -> Begun:
        """Take a place for a try, and wait while others that are under way may give theirs back."""

        async def begin(connection: Connection) -> Begun:
            async with connection.transaction(isolation="read_committed"):
                return await begin_try(connection, name_hash, address)

        until_s = time.monotonic() + PLACE_WAIT_S
        while True:
            begun = await self._database.commit("begin_sign_in", begin)
            if begun.number is not None or begun.retry_after is not None or time.monotonic() > until_s:
                return begun
            await asyncio.sleep(PLACE_LOOK_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret

    async def _password_hash(self, name: str) -> str | None:
        return await self._database.run(lambda connection: password_hash_of(connection, name))

    async def _open(self, name: str, token: str, stored: str, verdict: Verdict, number: int) -> bool:
        async def write(connection: Connection) -> bool:
            async with connection.transaction():
                is_open = await open_session(
                    connection, name, hash_of(token), password_hash=stored, new_hash=verdict.new_hash
                )
                if is_open:
                    await take_back_try(connection, number)
                return is_open

        return await self._database.commit("sign_in", write)

    async def sign_out(self, access: Access) -> None:
        """End a session, if the access is by one."""
        token_hash = access.token_hash
        if token_hash is not None:
            await self._database.commit("sign_out", lambda connection: end_session(connection, token_hash))
