"""One user as a page shows it: the balance, the ledger, what runs, and the newest jobs; of any application."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from models.applications.pictures.application import PICTURES
from models.applications.registry import applications, has_pictures, spend_types
from models.connections import Connection
from models.history.actions import newest_grant
from models.money import users
from models.money.account_entries import account_balance, accounts_of, newest_entries
from models.money.ledger import LedgerRow, list_ledger
from models.money.users import UserRecord
from models.queue.fair import running_of_cap
from models.queue.job_filter import JobFilter, UserOfJobs
from models.schema.settings import money_mode
from workers.operations.errors import NotFoundError
from workers.operations.job_lists import JobsPage, jobs_page
from workers.process.runtime import Runtime

NEWEST: Final = 50
"""So many users, and so many rows of a ledger, a page shows."""

NEWEST_JOBS: Final = 20


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A change of a balance.

    Attributes:
        at: when it was written.
        kind: the type in the ledger, or the kind of an entry.
        amount: tokens that were added; below 0 where they were taken.
        balance_after: the balance after it.
        job_id: the job that was charged or refunded; else None.
        note: the reason that an operator gave, or the source; else None.
    """

    at: datetime
    kind: str
    amount: int
    balance_after: int
    job_id: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class UserFacts:
    """A user of one application.

    Attributes:
        application: whose user it is.
        id: the user's id there.
        name: by which the user's page is found: the id, or APPLICATION/ID of another application than `pictures`.
        record: the user's row; None of another application than `pictures`.
        balance: in tokens; None if Darkroom knows none.
        mode: who keeps the balances of `pictures`, as TOKENS names it.
        running: how many of the user's jobs run.
        cap: how many may run at a time; None if there is no cap.
        ledger: the newest changes of the balance.
        jobs: the newest jobs.
        others: the names of users of other applications with the same id.
        last_grant: number of the newest grant of tokens to the user; None if there was none.
    """

    application: str
    id: str
    name: str
    record: UserRecord | None
    balance: int | None
    mode: str
    running: int
    cap: int | None
    ledger: Sequence[LedgerLine]
    jobs: JobsPage
    others: Sequence[str]
    last_grant: int | None

    @property
    def may_be_granted(self) -> bool:
        """Whether Darkroom keeps the user's balance, so that operators may change it."""
        return self.record is not None and self.mode == "managed"


async def newest_users(runtime: Runtime) -> list[UserRecord]:
    """Return the newest users, reading few rows; none where `pictures` isn't drained."""
    if not has_pictures():
        return []
    return await runtime.database.run(lambda connection: users.newest_users(connection, NEWEST))


async def name_of_user(runtime: Runtime, given: str) -> str:
    """Return the name of the user with an e-mail, an id, or APPLICATION/ID.

    Raises:
        NotFoundError: there is no such user.
    """
    return (await _found(runtime, given))[0][0]


async def user_facts(runtime: Runtime, given: str) -> UserFacts:
    """Return what a page shows of a user, who is given by e-mail, id, or APPLICATION/ID.

    Raises:
        NotFoundError: there is no such user.
    """
    found = await _found(runtime, given)
    name, user = found[0]
    application = user.application or PICTURES.name
    is_of_pictures = application == PICTURES.name

    async def read(connection: Connection) -> UserFacts:
        records = await users.list_users(connection, 1, user.id) if is_of_pictures else []
        if is_of_pictures:
            if not records:
                raise _not_found(given)
            balance: int | None = records[0].balance
            ledger: Sequence[LedgerLine] = [_line(row) for row in await list_ledger(connection, user.id, NEWEST)]
        else:
            balance, ledger = await _account(connection, application, user.id)
        running, cap = await running_of_cap(connection, user.id)
        mode = await money_mode(connection)
        return UserFacts(
            *(application, user.id, name, records[0] if records else None, balance, mode, running, cap, ledger),
            jobs=JobsPage((), None, 0, None),
            others=[one for one, _ in found[1:]],
            last_grant=await newest_grant(connection, user.id) if is_of_pictures else None,
        )

    facts = await runtime.database.run(read)
    jobs = await jobs_page(runtime, JobFilter(user=user), limit=NEWEST_JOBS)
    values = {one: getattr(facts, one) for one in facts.__dataclass_fields__}
    return UserFacts(**values | {"jobs": jobs})


async def _found(runtime: Runtime, given: str) -> list[tuple[str, UserOfJobs]]:
    """Return the users that a text names, at least one; each with the name of the user's page.

    Raises:
        NotFoundError: there is none.
    """
    named, slash, rest = given.partition("/")
    drained = [one.name for one in applications()]
    wanted = [(one, given) for one in drained]
    if slash and named in drained:
        wanted = [(named, rest), *wanted]
    found: list[tuple[str, UserOfJobs]] = []
    for application, text in wanted:
        if application == PICTURES.name:
            user = await runtime.database.run(lambda connection, text=text: users.find_user(connection, text))  # type: ignore[misc]
            if user is not None:
                found.append((user.id, UserOfJobs(user.id, application)))
        elif text and await _is_known(runtime, UserOfJobs(text, application)):
            found.append((f"{application}/{text}", UserOfJobs(text, application)))
    if not found:
        raise _not_found(given)
    return list(dict.fromkeys(found))


async def _is_known(runtime: Runtime, user: UserOfJobs) -> bool:
    """Return whether an application other than `pictures` has a user, as far as balances, entries and jobs tell."""

    async def has_account(connection: Connection) -> bool:
        balance, ledger = await _account(connection, user.application or "", user.id)
        return balance is not None or bool(ledger)

    if await runtime.database.run(has_account):
        return True
    return bool((await jobs_page(runtime, JobFilter(user=user), limit=1)).jobs)


async def _account(connection: Connection, application: str, user_id: str) -> tuple[int | None, Sequence[LedgerLine]]:
    """Return the first balance that a user has, and the newest changes of all."""
    balance = None
    lines: list[LedgerLine] = []
    tables = accounts_of(application)
    for table in tables:
        if balance is None:
            balance = await account_balance(connection, table, user_id)
    for one in dict.fromkeys(table.application for table in tables):
        entries = await newest_entries(connection, one, user_id, NEWEST)
        lines += [LedgerLine(e.at, e.kind, e.amount, e.balance_after, e.job_id, None) for e in entries]
    return balance, lines


def _line(row: LedgerRow) -> LedgerLine:
    columns = row.columns
    at = columns["createdAt"].replace(tzinfo=UTC)
    is_of_job = columns["type"] in spend_types() or str(columns["source"] or "").endswith("refund")
    job_id = columns["sourceId"] if is_of_job else None
    return LedgerLine(at, columns["type"], row.amount, row.balance_after, job_id, row.reason or columns["source"])


def _not_found(given: str) -> NotFoundError:
    return NotFoundError(f"user {given} not found; give the e-mail or the id of a row in users, or APPLICATION/ID")
