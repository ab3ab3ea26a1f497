"""The file in which an operator describes an application: its keys and their types, read without a database."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.applications.files.file_keys import Fault, Keys, has_code_0
from models.job_tables.sql_tokens import without_comments

SHIPPED: Final = ("pictures", "studio", "builder", "gallery", "social")
"""The names of the applications that a release brings along."""

STATES: Final = ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "RETRYING", "REFUNDED", "CANCELLED", "HELD")
"""The states that may have labels, in the order in which labels are compared: an earlier state keeps its own."""

REQUIRED_STATES: Final = STATES[:4]
FALLBACKS: Final = {"RETRYING": "PENDING", "REFUNDED": "FAILED", "CANCELLED": "FAILED"}
FACTS: Final = ("stage", "error", "attempts", "started", "completed", "updated")
MOMENTS: Final = ("entered", "claimed", "completed", "failed", "cancelled")
INPUTS: Final = ("prompt", "pictures", "aspect", "pipeline")
JOB_TYPES: Final = ("enhance", "generate", "modify")
TIERS: Final = {"FREE": "FREE", "1K": "TIER_1K", "2K": "TIER_2K", "4K": "TIER_4K"}
"""The tiers that a file's fragments may yield, and what they are called everywhere else."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}", re.ASCII)
_LITERAL: Final = re.compile(r"\s*'((?:[^']|'')*)'\s*")
_PARSED_LINE: Final = re.compile(r"at line (\d+),")

# States in different groups mean different things to a program that reads a row, so they have different labels
_GROUPS: Final = {
    **dict.fromkeys(("PENDING", "RETRYING"), "waits"),
    **dict.fromkeys(("FAILED", "REFUNDED", "CANCELLED"), "ended"),
}


@dataclass(frozen=True, slots=True)
class MoneyFile:
    """The balances of the file: a table, the column of the user's id, and SQL over `b`. Empty means absent."""

    table: str
    user: str
    balance: str
    change: str
    ledger: str


@dataclass(frozen=True, slots=True)
class CheckFile:
    """A check of the file: SQL over `r`, and what a row that doesn't meet it is refused with."""

    must: str
    sqlstate: str
    words: str


@dataclass(frozen=True, slots=True)
class BookFile:
    """A book of the file: one statement over `r`, `$job`, `$user` and `$cost`, and when it is run."""

    when: str
    sql: str


@dataclass(frozen=True, slots=True)
class TableFile:
    """A job table of the file. Texts that are absent are empty, and SQL is as it stands in the file.

    `statuses` has one label for each state that the file names, but for HELD, which has any number. `job_type` and
    `tier` may be plain literals, whose values are then checked already.
    """

    name: str
    id: str
    status: str
    user: str
    job_type: str
    tier: str
    cost: str
    max_attempts: str
    scheduled_at: str
    statuses: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, str]
    frozen: tuple[str, ...]
    checks: tuple[CheckFile, ...]
    inputs: Mapping[str, str]
    result: Mapping[str, str]
    books: tuple[BookFile, ...]

    @property
    def path(self) -> str:
        """The path of the table's keys in the file."""
        return f"tables.{self.name}"


@dataclass(frozen=True, slots=True)
class ApplicationFile:
    """What a file says. `references` are pairs of a table and a column."""

    name: str
    references: tuple[tuple[str, str], ...] = ()
    money: MoneyFile | None = None
    tables: tuple[TableFile, ...] = ()


def literal(fragment: str) -> str | None:
    """Return the value of a fragment that is nothing but one quoted text; None for any other."""
    found = _LITERAL.fullmatch(fragment)
    return found[1].replace("''", "'") if found else None


def read(text: str) -> tuple[ApplicationFile, list[Fault]]:
    """Return what a file says, as far as it can be read, and everything that is wrong with its keys and their types."""
    faults: list[Fault] = []
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _PARSED_LINE.search(str(error))
        line = found[1] if found else str(len(text.splitlines()) or 1)
        return ApplicationFile(""), [Fault(f"line {line}", str(error))]
    wrong = [key for key, value in content.items() if has_code_0({key: value})]
    if wrong:
        return ApplicationFile(""), [Fault(repr(key)[1:-1], "has a character of code 0") for key in wrong]
    keys = Keys(content, "", faults, ("name", "references", "money", "tables"))
    name = _name(keys)
    references = _references(keys)
    money = (
        _money(keys.table("money", ("table", "user", "balance", "change", "ledger"))) if "money" in content else None
    )
    tables = tuple(_table(table, part) for part, table in keys.tables_by_name("tables", _TABLE_KEYS))
    for table in tables:
        if money is not None and not table.cost:
            keys.fault(f"{table.path}.cost", "missing, required with money")
        if "money" not in content and table.cost:
            keys.fault("money", f"missing, required with {table.path}.cost")
    return ApplicationFile(name, references, money, tables), list(dict.fromkeys(faults))


_TABLE_KEYS: Final = (
    *("id", "status", "user", "job_type", "tier", "cost", "max_attempts", "scheduled_at", "statuses", "columns"),
    *("frozen", "checks", "inputs", "result", "books"),
)


def _name(keys: Keys) -> str:
    name = keys.text("name", is_required=True)
    if name in SHIPPED:
        keys.fault("name", f'"{name}" is the name of a shipped application')
    elif name and not _NAME.fullmatch(name):
        keys.fault("name", f'must be like [a-z][a-z0-9_]{{0,30}}, is "{name}"')
    return name


def _references(keys: Keys) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in keys.texts("references"):
        table, dot, column = text.partition(".")
        if not (table and dot and column):
            keys.fault("references", f'must be a list of table.column, has "{text}"')
            continue
        pairs.append((table, column))
    return tuple(pairs)


def _money(keys: Keys) -> MoneyFile:
    table, user, balance, change = (keys.text(key, is_required=True) for key in ("table", "user", "balance", "change"))
    ledger = keys.text("ledger")
    for key, sql in (("balance", balance), ("change", change), ("ledger", ledger)):
        _not_a_template(keys, key, without_comments(sql))
    return MoneyFile(table, user, balance, change, ledger)


def _table(keys: Keys, name: str) -> TableFile:
    required = {key: keys.text(key, is_required=True) for key in ("id", "status", "user", "job_type")}
    tier = keys.text("tier", default="'1K'")
    for key, fragment, known in (("job_type", required["job_type"], JOB_TYPES), ("tier", tier, tuple(TIERS))):
        _literal_in(keys, key, fragment, known)
    return TableFile(
        name=name,
        id=required["id"],
        status=required["status"],
        user=required["user"],
        job_type=required["job_type"],
        tier=tier,
        cost=keys.text("cost"),
        max_attempts=keys.text("max_attempts", default="3"),
        scheduled_at=keys.text("scheduled_at"),
        statuses=_statuses(keys),
        columns=keys.table("columns", FACTS, is_required=False).all_texts(),
        frozen=keys.texts("frozen"),
        checks=tuple(_check(one) for one in keys.tables("checks", ("must", "sqlstate", "words"))),
        inputs=keys.table("inputs", INPUTS, is_required=False).all_texts(),
        result=keys.table("result", None, is_required=False).all_texts(),
        books=tuple(_book(one) for one in keys.tables("books", ("when", "sql"))),
    )


def _literal_in(keys: Keys, key: str, fragment: str, known: tuple[str, ...]) -> None:
    value = literal(fragment)
    if value is not None and value not in known:
        keys.fault(keys.path_of(key), none_of(value, known))


def none_of(value: str, known: tuple[str, ...]) -> str:
    """Return the reason why a value that isn't one of the known ones is refused."""
    return f'"{value}" is none of {", ".join(known)}'


def _statuses(table: Keys) -> dict[str, tuple[str, ...]]:
    keys = table.table("statuses", STATES, is_required=False)
    if not isinstance(table.content.get("statuses", {}), dict):
        return {}  # which is a fault already
    labels: dict[str, tuple[str, ...]] = {}
    taken: dict[str, str] = {}
    for state in STATES:
        if state == "HELD":
            given = keys.text_or_texts(state)
        else:
            text = keys.text(state, is_required=state in REQUIRED_STATES)
            given = (text,) if text else ()
        for label in given:
            _not_a_template(keys, state, label)
            other = taken.setdefault(label, state)
            if other != state and _GROUPS.get(other, other) != _GROUPS.get(state, state):
                keys.fault(keys.path_of(state), f'"{label}" is already {other}')
        if given:
            labels[state] = given
    return labels


def _not_a_template(keys: Keys, key: str, text: str) -> None:
    """Refuse a text that would stand for something else in our SQL templates, where it is inserted."""
    if "{{" in text or "--:" in text:
        keys.fault(keys.path_of(key), "must have neither {{ nor --:")


def _check(keys: Keys) -> CheckFile:
    check = CheckFile(*(keys.text(key, is_required=True) for key in ("must", "sqlstate", "words")))
    _not_a_template(keys, "words", check.words)
    if check.sqlstate and not re.fullmatch(r"(?!00)[0-9A-Z]{5}", check.sqlstate):
        keys.fault(
            keys.path_of("sqlstate"),
            f'must be five of 0 to 9 and A to Z that don\'t begin with 00, is "{check.sqlstate}"',
        )
    return check


def _book(keys: Keys) -> BookFile:
    book = BookFile(keys.text("when", is_required=True), keys.text("sql", is_required=True))
    if book.when and book.when not in MOMENTS:
        keys.fault(keys.path_of("when"), none_of(book.when, MOMENTS))
    return book
