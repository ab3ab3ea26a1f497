"""A job table of an operator's file: its description, and the functions that hold its fragments."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from models.applications.files.catalogue import ID_TYPES, INTEGERS, LOCAL_TIME, OF_KEYS, TEXTS, UNCOMPARED, Catalogue
from models.applications.files.file import FALLBACKS, INPUTS, TIERS, TableFile, literal
from models.applications.files.frozen import columns_that_stay
from models.applications.files.functions import RESULT_FACTS, ROW, Functions
from models.applications.files.sql_names import base_of, relation
from models.applications.files.trial import path_of
from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs
from models.job_tables.quoting import quoted_name
from models.job_tables.rendering import as_id, id_as_text, labels, listed, over, quoted
from models.job_tables.row_facts import OF_A_ROW
from models.job_tables.sql_tokens import columns_named, tokens, without_comments
from models.job_tables.table import Balance, Book, Check, Inputs, JobTable, StageColumn

_MOST_ATTEMPTS: Final = 2147483647

_DIRECT: Final = {
    "$key": TEXTS,
    "$url": TEXTS,
    "$model": TEXTS,
    "$width": INTEGERS,
    "$height": INTEGERS,
    "$bytes": INTEGERS,
}
"""Placeholders that need no function of ours where they are all of a fragment and the column has one of these types."""


def job_table(
    application: str,
    file: TableFile,
    types: tuple[str, ...],
    schema: str,
    catalogue: Catalogue,
    money: Balance | None,
) -> tuple[JobTable, str]:
    """Return the description of a job table and the SQL of its functions. `types` are the types that its jobs have.

    Raises:
        KeyError: the file names a table or a column that the catalogue doesn't have.
    """
    return _Writer(application, _uncommented(file), types, schema, catalogue).written(money)


def _uncommented(file: TableFile) -> TableFile:
    return replace(
        file,
        user=without_comments(file.user).strip(),
        job_type=without_comments(file.job_type).strip(),
        tier=without_comments(file.tier).strip(),
        cost=without_comments(file.cost).strip(),
        max_attempts=without_comments(file.max_attempts).strip(),
        scheduled_at=without_comments(file.scheduled_at).strip(),
        inputs={name: without_comments(sql) for name, sql in file.inputs.items()},
        result={column: without_comments(sql).strip() for column, sql in file.result.items()},
    )


class _Writer:
    """Writes the description of one table, and collects the functions that it calls."""

    def __init__(
        self, application: str, file: TableFile, types: tuple[str, ...], schema: str, catalogue: Catalogue
    ) -> None:
        self.application = application
        self.file = file
        self.types = types
        self.table = catalogue.tables[file.name]
        self.catalogue = catalogue
        self.schema = schema
        self.base = base_of(application, file.name)
        self.functions = Functions(schema, file.name, self.base, frozenset(self.table.columns))
        self.sql: list[str] = []

    def written(self, money: Balance | None) -> tuple[JobTable, str]:
        """Return the description and the functions."""
        file, columns = self.file, self.table.columns
        stay = columns_that_stay(file, self.catalogue)
        direct = {column: sql for column, sql in file.result.items() if columns[column].base in _DIRECT.get(sql, ())}
        further = [column for column in file.result if column not in direct]
        job_type = self._job_type()
        held = file.statuses.get("HELD", ())
        retrying = file.statuses.get("RETRYING", file.statuses["PENDING"])[0]
        table = JobTable(
            name=relation(self.schema, file.name),
            rows=self.base,
            row=self.base,
            job_types=tuple(f"{self.application}.{one}" for one in self.types),
            user=self._text("user", file.user),
            job_type=job_type,
            tier=self._tier(),
            cost=self._cost() if money else "NULL",
            max_attempts=self._max_attempts(),
            created=self._created(),
            first_stage=self._first_stage(job_type),
            labels=self._labels(),
            inputs=Inputs("", _load),
            result={column: RESULT_FACTS[sql] for column, sql in direct.items()},
            search_path=path_of(self.schema),
            application=self.application,
            result_sql=self._result(further),
            result_sql_columns=tuple(further),
            retrying_label=None if retrying == file.statuses["PENDING"][0] else retrying,
            held_labels=held,
            scheduled_at=self._scheduled_at(),
            has_other_rows=literal(file.job_type) is None,
            id_column=quoted_name(file.id),
            id_type=ID_TYPES[columns[file.id].type],
            status_column=quoted_name(file.status),
            status_type=columns[file.status].type,
            time_type=self._time_type(),
            stage_column=self._stage_column(),
            error_column=self._fact("error"),
            retries_column=self._fact("attempts"),
            started_column=self._fact("started"),
            completed_column=self._fact("completed"),
            updated_column=self._fact("updated"),
            frozen=tuple(map(quoted_name, stay)),
            compared_as_text=frozenset(quoted_name(name) for name in stay if columns[name].base in UNCOMPARED),
            checks=self._checks(),
            money=money,
            key_column=next((quoted_name(column) for column, sql in direct.items() if sql == "$key"), None),
            object_columns=tuple(dict.fromkeys([*self._input_columns(), *self._result_columns()])),
            input_columns=tuple(self._input_columns()),
        )
        table = replace(table, inputs=Inputs(self._inputs(table), _load), entering=self._entering(table))
        table = replace(table, books=self._books(table))
        return table, "\n".join(self.sql)

    def _of_row(self, what: str, returns: str, expression: str) -> str:
        """Add a function of a row, and return the fragment that calls it."""
        self.sql.append(self.functions.of_row(what, returns, expression))
        return f"{self.functions.name(what)}({ROW})"

    def _plain(self, sql: str) -> str | None:
        """Return a fragment that needs no function of ours: a column, also cast to text, or a literal."""
        if literal(sql) is not None or sql.isdecimal():
            return None if "{{" in sql or "--:" in sql else sql  # which our templates would read
        words = [one for one in tokens(sql) if one.kind != "space"]
        name = words[2].name if len(words) in {3, 6} else None
        if name is None or name not in self.table.columns or words[0].name != "r" or words[1].text != ".":
            return None
        cast = [one.text.lower() for one in words[3:]]
        return f"r.{quoted_name(name)}{'::text' if cast else ''}" if cast in ([], [":", ":", "text"]) else None

    def _text(self, what: str, sql: str) -> str:
        plain = self._plain(sql)
        if plain is None:
            return self._of_row(what, "text", f"({sql}\n    )")
        return plain if plain.endswith("::text") or literal(sql) is not None else f"{plain}::text"

    def _job_type(self) -> str:
        sql = self.file.job_type
        if (value := literal(sql)) is not None:
            return quoted(f"{self.application}.{value}")
        # a row of any other type, which can only be history, is no job of ours
        known = quoted(f"^{self.application}\\.(?:{'|'.join(self.types)})$")
        if (plain := self._plain(sql)) is not None:
            return f"substring({self._given_type(plain)}, {known})"
        return self._of_row("job_type", "text", f"substring({self._given_type(sql)}, {known})")

    def _given_type(self, sql: str) -> str:
        """Return SQL for the type that the file's SQL says, whether there is such a type or not."""
        return f"({quoted(f'{self.application}.')} || ({sql}\n    )::text)"

    def _first_stage(self, job_type: str) -> str:
        value = literal(self.file.job_type)
        if value is not None:
            return "'ANALYZING'" if value == "enhance" else "'GENERATING'"
        enhance = quoted(f"{self.application}.enhance")
        return f"(CASE WHEN {job_type} = {enhance} THEN 'ANALYZING' ELSE 'GENERATING' END)"

    def _tier(self) -> str:
        sql = self.file.tier
        if (value := literal(sql)) is not None:
            return quoted(TIERS[value])
        if (plain := self._plain(sql)) is not None:
            cases = " ".join(f"WHEN {quoted(name)} THEN {quoted(tier)}" for name, tier in TIERS.items())
            text = plain if plain.endswith("::text") else f"{plain}::text"
            return f"(CASE coalesce({text}, '1K') {cases} ELSE {text} END)"
        replaced = f"regexp_replace(coalesce(({sql}\n    )::text, '1K'), '^([124]K)$', 'TIER_\\1')"
        return self._of_row("tier", "text", replaced)

    def _cost(self) -> str:
        return self._plain(self.file.cost) or self._of_row("cost", "bigint", f"({self.file.cost}\n    )")

    def _max_attempts(self) -> str:
        sql = self.file.max_attempts
        if sql.isdecimal():
            return str(min(max(int(sql), 1), _MOST_ATTEMPTS))
        number = self._plain(sql) or self._of_row("max_attempts", "bigint", f"({sql}\n    )")
        return f"least(greatest(1, coalesce({number}, 3)), {_MOST_ATTEMPTS})::integer"

    def _scheduled_at(self) -> str | None:
        sql = self.file.scheduled_at
        if not sql or sql.lower() == "null":
            return None
        return self._plain(sql) or self._of_row("scheduled_at", "timestamptz", f"({sql}\n    )")

    def _fact(self, name: str) -> str | None:
        column = self.file.columns.get(name)
        return quoted_name(column) if column else None

    def _time_type(self) -> str:
        named = [self.file.columns[fact] for fact in ("started", "completed", "updated") if fact in self.file.columns]
        types = {self.table.columns[name].base for name in named}
        return "timestamp" if LOCAL_TIME in types else "timestamptz"

    def _created(self) -> str:
        """Return the time of creation, as far as the row has it: a job that has begun was created before."""
        started = self._fact("started")
        if started is None:
            return "darkroom.utc_now()"
        cast = "" if self._time_type() == "timestamp" else " AT TIME ZONE 'utc'"
        return f"coalesce(r.{started}{cast}, darkroom.utc_now())"

    def _labels(self) -> dict[JobStatus, str]:
        given = self.file.statuses
        return {one: (given.get(one) or given[FALLBACKS[one]])[0] for one in JobStatus}

    def _stage_column(self) -> StageColumn | None:
        column = self.file.columns.get("stage")
        if column is None:
            return None
        return StageColumn(quoted_name(column), self.table.columns[column].type, self.table.stages.get(column, ()))

    def _checks(self) -> tuple[Check, ...]:
        return tuple(
            Check(self._of_row(f"check_{number}", "boolean", f"({one.must}\n    )"), one.sqlstate, one.words)
            for number, one in enumerate(self.file.checks, 1)
        )

    def _entering(self, table: JobTable) -> str:
        """Return PL/pgSQL that refuses rows whose values no job can have; what is a literal needs no look."""
        tiers = listed(TIERS.values())
        wrong = [] if literal(self.file.user) is not None else ["s.user_id IS NULL"]
        wrong += [f"s.job_type <> ALL ('{{{','.join(table.job_types)}}}')"] if table.has_other_rows else []
        wrong += [f"s.tier NOT IN ({tiers})"] if literal(self.file.tier) is None else []
        wrong += ["s.cost IS NULL OR s.cost < 0"] if table.money and not self.file.cost.isdecimal() else []
        if not wrong:
            return ""
        self.sql.append(self.functions.refuse(self.types, tuple(TIERS.values())))
        waiting = f"n.{table.status_column} IN ({labels(table, [JobStatus.PENDING])})"
        job_type = OF_A_ROW["type"](table, "n")
        if table.has_other_rows:
            plain = self._plain(self.file.job_type)
            given = self._given_type(plain or self.file.job_type)
            job_type = over(given if plain else self._of_row("given_type", "text", given), "n")
        values = ", ".join((OF_A_ROW["user"](table, "n"), job_type, OF_A_ROW["tier"](table, "n")))
        return (
            f"PERFORM {self.functions.name('refuse')}(s.user_id, s.job_type, s.tier, s.cost)\n"
            f"FROM (SELECT {values}, ({OF_A_ROW['cost'](table, 'n')})::bigint\n"
            f"      FROM entering_rows n WHERE {waiting} OFFSET 0)\n"
            f"    s (user_id, job_type, tier, cost)\nWHERE s.job_type IS NOT NULL AND ({' OR '.join(wrong)});"
        )

    def _inputs(self, table: JobTable) -> str:
        """Return the query that reads a job's inputs."""
        fragments = {name: self.file.inputs[name] for name in INPUTS if name in self.file.inputs}
        inputs = "'{}'::jsonb"
        if fragments:
            self.sql.append(self.functions.inputs(fragments))
            inputs = f"{self.functions.name('inputs')}({ROW})"
        return (
            f"SELECT {table.tier} AS tier, {inputs} AS inputs, q.payload ->> 'aspect' AS aspect,\n"
            "       q.payload ->> 'model' AS model,\n"
            "       coalesce((q.payload ->> 'is_redone')::boolean, false) AS is_redone\n"
            f"FROM {table.name} r LEFT JOIN darkroom.job_queue q ON q.id = $2\n"
            f"WHERE r.{table.id_column} = {as_id(table, '$1')}"
        )

    def _result(self, columns: list[str]) -> str | None:
        if not columns:
            return None
        typed = {name: (self.file.result[name], self.table.columns[name].type) for name in columns}
        self.sql.append(self.functions.result(typed))
        return f"{self.functions.name('result')}({ROW}, $facts)"

    def _books(self, table: JobTable) -> tuple[Book, ...]:
        arguments = f"{ROW}, {id_as_text(table, 'r')}, {table.user}, ({table.cost})::integer"
        books = []
        for number, one in enumerate(self.file.books, 1):
            self.sql.append(self.functions.book(number, one.sql))
            books.append(
                Book(one.when, f"PERFORM {self.functions.name(f'book_{number}')}({arguments}) FROM {{rows}} r;")
            )
        return tuple(books)

    def _input_columns(self) -> list[str]:
        fragments = [self.file.inputs.get(name, "") for name in ("pictures", "pipeline")]
        named = [column for sql in fragments for column in columns_named(sql, "r", self.table.columns)]
        return [column for column in dict.fromkeys(named) if self.table.columns[column].base in OF_KEYS]

    def _result_columns(self) -> list[str]:
        return [column for column in self.file.result if self.table.columns[column].base in OF_KEYS]


def _load(row: Mapping[str, Any]) -> JobInputs:
    inputs: Mapping[str, Any] = row["inputs"]
    config = inputs.get("pipeline")
    is_object = config is None or isinstance(config, Mapping)
    return JobInputs(
        tier=row["tier"],
        picture=None,
        source=None,
        pipeline=None,
        checkpoints={},
        prompt=inputs.get("prompt"),
        aspect=row["aspect"] or inputs.get("aspect"),
        model=row["model"],
        is_redone=row["is_redone"],
        pictures=tuple(key for key in inputs.get("pictures") or () if key is not None),
        config=config if is_object else None,
        fault=None if is_object else "pipeline: must be an object",
    )
