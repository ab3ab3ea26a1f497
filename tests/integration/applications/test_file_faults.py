"""Every fault of an operator's file is told as one line, word for word; and nothing of the file's SQL is run."""

# ruff: noqa: E501 - a case is one line of a table
import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.applications.files.described import described
from models.applications.files.faults import facts_of, faults
from models.applications.files.trial import Trial, nothing_stays, path_of
from tests.support.frames_file import FILE, ORDERS, added, edited, line_of

TABLES_AND_COLUMNS = [
    ([('status = "state"', 'status = "stat"')], f'{ORDERS}.status: orders has no column "stat"'),
    ([("[tables.orders]", "[tables.ordres]")], 'app.toml: tables.ordres: public has no table "ordres"'),
    ([('table = "customers"', 'table = "clients"')], 'app.toml: money.table: public has no table "clients"'),
    ([('user = "id"', 'user = "uid"')], 'app.toml: money.user: customers has no column "uid"'),
    ([('user = "id"', 'user = "account"')], "app.toml: money.user: must be text, varchar, bigint, integer or uuid, is jsonb"),
    ([('"catalogue.cover_key"', '"catalogue.cover"')], 'app.toml: references: catalogue has no column "cover"'),
    ([('"catalogue.cover_key"', '"catalogue.id"')], "app.toml: references: catalogue.id must be text, text[] or jsonb, is integer"),
    ([('frozen = ["photo_key"]', 'frozen = ["photo"]')], f'{ORDERS}.frozen: orders has no column "photo"'),
    ([('frozen = ["photo_key"]', 'frozen = ["print_key"]')], f"{ORDERS}.frozen: print_key is written by Darkroom, as tables.orders.result.print_key says"),
    ([("print_key = ", "print = ")], f'{ORDERS}.result.print: orders has no column "print"'),
    ([("print_key = ", "state = ")], f"{ORDERS}.result.state: state is the column of status"),
    ([("print_key = ", "photo_key = ")], f"{ORDERS}.result.photo_key: photo_key may not change while a job is unfinished"),
    ([("IS NOT NULL THEN", "IS NOT NULL AND r.state IN ('new', 'working') THEN")], f"{ORDERS}.job_type: state is written by Darkroom, as tables.orders.status says"),
    ([line_of("user", "\"to_jsonb(r) ->> 'state'\"")], f"{ORDERS}.user: state is written by Darkroom, as tables.orders.status says"),
    ([line_of("tier", '"coalesce(print_size, r.size)"')], f"{ORDERS}.tier: print_size is written by Darkroom, as tables.orders.result.print_size says"),
    ([line_of("inputs", '{ pictures = "ARRAY[r.print_key]" }')], f"{ORDERS}.inputs.pictures: print_key is written by Darkroom, as tables.orders.result.print_key says"),
    ([added('columns = { attempts = "price" }')], f"{ORDERS}.cost: price is written by Darkroom, as tables.orders.columns.attempts says"),
    ([added('columns = { error = "reason" }')], f'{ORDERS}.columns.error: orders has no column "reason"'),
    ([added('columns = { error = "state" }')], f"{ORDERS}.columns.error: state is the column of status"),
    ([added('columns = { started = "size" }')], f"{ORDERS}.columns.started: must be a time, is text"),
    ([line_of("id", '"size"')], f"{ORDERS}.id: orders.size must have a primary key or a unique index of its own"),
    ([('COMPLETED = "done"', 'COMPLETED = "finished"')], f'{ORDERS}.statuses.COMPLETED: "finished" can\'t be a value of orders.state'),
]  # fmt: skip

EXPRESSIONS = [
    ("an integer", "r.prise", "column r.prise does not exist"),
    ("an integer", "r.price::text", "must be an integer, is text"),
    ("an integer", "1.5", "must be an integer, is numeric"),
    ("text", "r.customer_id", "must be text, is integer"),
    ("text", "r.customer_id::text; DELETE FROM orders", "must be one expression"),
    ("text", "r.size) FROM orders r; DELETE FROM orders; SELECT (r.size", "must be one expression"),
    ("text", "r.size) FROM orders r UNION SELECT (r.size", "must be one expression"),
    ("text", "r.size, r.size", "must be one expression"),
    ("text", "SELECT r.size", "must be one expression"),
    ("text", "DISTINCT r.size", "must be one expression"),
    ("text", "r.size AS x", "must be one expression"),
    ("text", "r.*", "must be one expression"),
    ("text", "r.size;", "must be one expression"),
    ("text", "r.size::text)", "must be one expression"),
    ("text", "r.size FROM orders r", "must be one expression"),
    ("text", "$1", "there is no parameter $1"),
    ("text", "$key", 'syntax error at or near "$"'),
    ("text", "max(r.size)", "aggregate functions are not allowed in WHERE"),
    ("text", "first_value(r.size) OVER ()", "window functions are not allowed in WHERE"),
    ("text", "unnest(ARRAY[r.size])", "set-returning functions are not allowed in WHERE"),
    ("text", "lower(r.size", "syntax error at end of input"),
    ("text", "r.size || 'x", "unterminated quoted string"),
    ("text", "r.size /* x", "unterminated /* comment"),
    ("text", "r.ctid::text", "column r.ctid does not exist"),
    ("text", "nobody(r.size)", "function nobody(text) does not exist"),
    ("an integer", "'3'", "must be an integer, is text"),
    (
        "a timestamp with time zone",
        "now()::timestamp",
        "must be a timestamp with time zone, is timestamp without time zone",
    ),
    ("text", "r.price", "must be text, is integer"),
]

STATEMENTS = [
    ([line_of("inputs", '{ pictures = "r.photo_key" }')], f"{ORDERS}.inputs.pictures: must be text[], is text"),
    ([line_of("inputs", '{ pipeline = "r.photo_key" }')], f"{ORDERS}.inputs.pipeline: must be jsonb, is text"),
    ([('"$key"', '"$kee"')], f'{ORDERS}.result.print_key: syntax error at or near "$"'),
    ([('print_key = "$key"', 'print_key = "$key, $url"')], f"{ORDERS}.result.print_key: must be one expression"),
    ([('print_size = "$width', 'price = "$url" , print_size = "$width'), line_of("cost", '"2"')], f'{ORDERS}.result.price: column "price" is of type integer but expression is of type text'),
    ([("r.price >= 0", "r.price")], f"{ORDERS}.checks[0].must: must be boolean, is integer"),
    ([("VALUES (r.id, 'printed')", "VALUES (r.nr, 'printed')")], f'{ORDERS}.books[0].sql: column "nr" not found in data type orders'),
    ([("VALUES (r.id, 'printed')", "VALUES (r.id, 'printed'); DELETE FROM orders")], f"{ORDERS}.books[0].sql: must be one statement"),
    ([line_of("books", '[{ when = "failed", sql = "DROP TABLE orders" }]')], f'{ORDERS}.books[0].sql: syntax error at or near "DROP"'),
    ([line_of("books", '[{ when = "failed", sql = "SELECT 1 INTO copies" }]')], f"{ORDERS}.books[0].sql: must be one INSERT, UPDATE, DELETE, MERGE or SELECT"),
    ([line_of("books", '[{ when = "failed", sql = "WITH x AS (SELECT 1 a) SELECT a INTO copies FROM x" }]')], f"{ORDERS}.books[0].sql: must be one INSERT, UPDATE, DELETE, MERGE or SELECT"),
    ([line_of("books", '[{ when = "failed", sql = "SELECT $1" }]')], f"{ORDERS}.books[0].sql: there is no parameter $1"),
    ([("(b.account ->> 'credits')::integer\"", "b.account ->> 'credits'\"")], "app.toml: money.balance: must be an integer, is text"),
    ([('change = "account =', 'change = "acount =')], 'app.toml: money.change: column "acount" of relation "customers" does not exist'),
    ([('+ $amount))"', '+ $amount)) WHERE b.id = 1"')], "app.toml: money.change: must be assignments, as after SET"),
    ([('+ $amount))"', '+ $amount)) RETURNING b.id"')], "app.toml: money.change: must be assignments, as after SET"),
    ([('+ $amount))"', '+ $amount)) FROM orders o"')], "app.toml: money.change: must be assignments, as after SET"),
    ([('+ $amount))"', '+ $amount)); DELETE FROM orders"')], "app.toml: money.change: must be assignments, as after SET"),
    ([('user = "id"', 'user = "id"\nledger = "WITH x AS (INSERT INTO order_log (order_id, what) VALUES (1, $kind)) SELECT 1"')], "app.toml: money.ledger: must be one INSERT"),
    ([('user = "id"', 'user = "id"\nledger = "UPDATE order_log SET what = $kind"')], "app.toml: money.ledger: must be one INSERT"),
    ([('user = "id"', 'user = "id"\nledger = "INSERT INTO order_log (order_id, what) VALUES ($job, $kind)"')], 'app.toml: money.ledger: column "order_id" is of type bigint but expression is of type text'),
]  # fmt: skip


ODD = """must have none of ' " . \\ { } $ -- /* and control characters"""
ODD_NAMES = [
    ([("[tables.orders]", '[tables."o\'x"]')], f"app.toml: tables.o'x: o'x {ODD}"),
    ([('"catalogue.cover_key"', '"catalogue.a.b"')], f"app.toml: references: a.b {ODD}"),
    ([("print_key = ", '"a{{b}}" = ')], f"{ORDERS}.result.a{{{{b}}}}: a{{{{b}}}} {ODD}"),
    ([line_of("frozen", "['a\"b']")], f'{ORDERS}.frozen: a"b {ODD}'),
    ([line_of("user", "'r.\"odd.one\"'")], f"{ORDERS}.user: odd.one {ODD}"),
    ([("balance = \"(b.account ->> 'credits')", "balance = \"(b.account ->> '{{credits}}')")], "app.toml: money.balance: must have neither {{ nor --:"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "line"), ODD_NAMES, ids=lambda one: str(one)[-60:])
async def test_names_that_our_sql_could_not_have_are_faults(shop, changes, line):
    await shop.execute('ALTER TABLE orders ADD COLUMN "odd.one" text')

    assert line in await faults(shop, edited(*changes), "app.toml", "public")


async def test_schema_of_an_odd_name_is_a_fault(shop):
    assert await faults(shop, FILE, "app.toml", "o'x") == [f"app.toml: schema: o'x {ODD}"]


@pytest.mark.parametrize(("changes", "line"), [*TABLES_AND_COLUMNS, *STATEMENTS], ids=lambda one: str(one)[-60:])
async def test_fault_of_a_file_is_told_in_one_line(shop, changes, line):
    assert line in await faults(shop, edited(*changes), "app.toml", "public")


async def test_sql_that_is_no_fitting_expression_is_refused_in_words(shop):
    async with nothing_stays(shop, path_of("public")):
        trial = Trial(shop, "public")
        found = [(wanted, sql, await trial.expression(sql, "orders", "r", wanted)) for wanted, sql, _ in EXPRESSIONS]

    assert found == EXPRESSIONS


async def test_example_of_the_contract_is_well(shop):
    assert await faults(shop, FILE, "app.toml", "public") == []


async def test_every_fault_is_told_at_once(shop):
    text = edited(('status = "state"', 'stauts = "state"'), line_of("cost", '"r.prise"'), ("account =", "acount ="))

    assert await faults(shop, text, "app.toml", "public") == [
        "app.toml: tables.orders.stauts: unknown key, nearest: status",
        "app.toml: tables.orders.status: missing",
        'app.toml: money.change: column "acount" of relation "customers" does not exist',
        "app.toml: tables.orders.cost: column r.prise does not exist",
    ]


async def test_tables_of_another_schema_are_tried_there(shop):
    assert 'app.toml: tables.orders: empty has no table "orders"' in await faults(shop, FILE, "app.toml", "empty")


@pytest.mark.parametrize(
    ("column", "label", "is_held"),
    [
        ("public.mood", "sad", False),
        ("public.mood", "ok", True),
        ("varchar(4)", "finis", False),
        ("varchar(4)", "fini", True),
        ("char(6)", "done", True),
        ("smallint", "7", True),
        ("smallint", "07", False),
        ("public.short", "working", False),
        ("public.short", "done", True),
        ("text CHECK (state <> 'done' OR size IS NULL)", "done", True),
        ("text CHECK (state IN ('done')) CHECK (length(state) < 9)", "finished now", False),
    ],
)
async def test_label_is_tried_by_type_and_checks_of_its_column(shop, column, label, is_held):
    await shop.execute("CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN short AS text CHECK (length(VALUE) < 5)")
    await shop.execute(f"CREATE TABLE jobs (id uuid PRIMARY KEY, state {column}, size text)")
    text = f"""
name = "other"
[tables.jobs]
id = "id"
status = "state"
user = "r.id::text"
job_type = "'generate'"
statuses = {{ PENDING = "a", PROCESSING = "b", COMPLETED = "c", FAILED = "{label}" }}
"""
    line = f'app.toml: tables.jobs.statuses.FAILED: "{label}" can\'t be a value of jobs.state'

    assert (line not in await faults(shop, text, "app.toml", "public")) == is_held


async def test_nothing_of_a_file_is_run(shop):
    """Functions that a planner would evaluate, because they are immutable and their arguments are constants, aren't."""
    await shop.execute("""
        CREATE SEQUENCE runs;
        CREATE FUNCTION run(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
            $$ BEGIN RAISE EXCEPTION 'run %', nextval('public.runs'); END $$;
        CREATE FUNCTION ran(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
            $$ BEGIN PERFORM nextval('public.runs'); RETURN $1; END $$""")
    calls = edited(
        line_of("cost", '"run(1) + ran(1)"'),
        line_of("user", '"(run(1) + ran(1))::text"'),
        line_of("inputs", '{ pictures = "ARRAY[run(1)::text, ran(1)::text]" }'),
        ("r.price >= 0", "run(1) + ran(1) > 0"),
        ('"$key"', '"run(1)::text || ran(1)"'),
        ("VALUES (r.id, 'printed')", "SELECT run(1), ran(1)::text"),
        ("+ $amount))", "+ run(1) + ran(1) + $amount))"),
        ("(b.account ->> 'credits')::integer\"", 'run(1) + ran(1)"'),
    )

    assert await faults(shop, calls, "app.toml", "public") == []
    assert await shop.fetchval("SELECT is_called FROM runs") is False
    assert await shop.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name = 'darkroom_trial'") == 0
    assert await shop.fetchval("SHOW transaction_read_only") == "off"


GIFTS = """
[tables.gifts]
id = "id"
status = "state"
user = "r.owner"
job_type = "CASE r.kind WHEN 'card' THEN 'generate' END"
cost = "1"
statuses = { PENDING = "a", PROCESSING = "b", COMPLETED = "c", FAILED = "d" }
"""


async def test_type_of_jobs_belongs_to_one_table(shop):
    await shop.execute("CREATE TABLE gifts (id uuid PRIMARY KEY, state text, owner text, kind text)")
    line = 'app.toml: tables.gifts.job_type: "enhance" is already a type of tables.orders'

    assert await faults(shop, FILE + GIFTS, "app.toml", "public") == []
    assert await faults(shop, FILE + GIFTS.replace("'generate'", "'enhance'"), "app.toml", "public") == [line]
    application = described(FILE + GIFTS, "app.toml", "public", await facts_of(shop, FILE + GIFTS, "public"))
    assert [table.job_types for table in application.tables] == [("frames.enhance",), ("frames.generate",)]


async def test_locked_table_is_no_fault_of_the_file(shop, shop_url):
    other = await asyncpg.connect(**parse_postgres_url(shop_url).asyncpg_arguments())
    async with other.transaction():
        await other.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        await shop.execute("SET LOCAL lock_timeout TO 50")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await faults(shop, FILE, "app.toml", "public")
    assert await faults(shop, FILE, "app.toml", "public") == []
    await other.close()


async def test_check_that_writes_is_not_tried(shop):
    await shop.execute("""
        CREATE SEQUENCE tried;
        ALTER TABLE orders ADD CHECK (nextval('public.tried') > 0 AND state <> 'x')""")

    assert await faults(shop, FILE, "app.toml", "public") == []
    assert await shop.fetchval("SELECT is_called FROM tried") is False
