"""A file's description and its functions, on the tables that they are about."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import pytest

from models.applications.files.catalogue import Catalogue
from models.applications.files.creators import creators_fault
from models.applications.files.described import described
from models.applications.files.faults import facts_of, faults
from models.job_state import JobStatus
from models.job_tables.rendering import over
from models.job_tables.table import BIGINT, INTEGER, StageColumn
from tests.support.frames_file import FILE


async def application_of(connection, text, schema="public"):
    """Return the application of a file without faults, after its functions were made."""
    assert await faults(connection, text, "app.toml", schema) == []
    facts = json.loads(json.dumps(await facts_of(connection, text, schema)))
    application = described(text, "app.toml", schema, facts)
    await connection.execute(f"CREATE SCHEMA IF NOT EXISTS darkroom;\n{application.sql}")
    return application


async def test_contract_example_is_described(shop):
    application = await application_of(shop, FILE)
    [orders] = application.tables

    assert (application.name, application.source) == ("frames", FILE)
    assert application.references == {"public.catalogue": ("cover_key",)}
    assert application.needs == {
        "catalogue": "cover_key",
        "customers": "id account",
        "orders": "id state print_key print_url print_size photo_key customer_id size price",
    }
    assert (orders.name, orders.rows, orders.application) == ("public.orders", "frames_orders", "frames")
    assert orders.job_types == ("frames.enhance", "frames.generate", "frames.modify")
    assert (orders.id_type, orders.money.payer_type) == (BIGINT, INTEGER)
    assert [orders.labels[one] for one in JobStatus] == ["new", "working", "done", "error", "error", "stopped"]
    assert orders.frozen == ("id", "photo_key", "customer_id", "size", "price")
    assert orders.result == {"print_key": "key", "print_url": "url"}
    assert orders.result_sql_columns == ("print_size",)
    assert orders.key_column == "print_key"
    assert orders.object_columns == ("photo_key", "print_key", "print_url", "print_size")
    assert orders.input_columns == ("photo_key",)
    assert (orders.user, orders.cost, orders.max_attempts) == ("r.customer_id::text", "r.price", "3")
    assert orders.has_other_rows


async def test_fragments_of_a_row_yield_what_the_queue_needs(shop):
    [orders] = (await application_of(shop, FILE)).tables
    await shop.execute("""
        INSERT INTO customers VALUES (7);
        INSERT INTO orders (customer_id, photo_key, size) VALUES (7, 'a.jpg', '4K'), (7, NULL, 'FREE');
        ALTER TABLE orders DROP COLUMN print_url""")
    facts = ", ".join(over(one, "j") for one in (orders.user, orders.job_type, orders.tier, orders.first_stage))

    assert [tuple(row) for row in await shop.fetch(f"SELECT {facts} FROM public.orders j ORDER BY id")] == [
        ("7", "frames.enhance", "TIER_4K", "ANALYZING"),
        ("7", None, "FREE", "GENERATING"),
    ]
    result = over(orders.result_sql, "j").replace("$facts", """'{"width_px": 30, "height_px": 20}'""")
    assert await shop.fetchval(f"SELECT {result} FROM orders j LIMIT 1") == '{"print_size": "30x20"}'
    for book in orders.books:
        await shop.execute(f"DO $do$ BEGIN {book.sql.replace('{rows}', 'public.orders')} END $do$")
    assert await shop.fetchval("SELECT array_agg(what) FROM order_log") == ["printed", "printed"]


async def test_inputs_of_a_job_are_read(shop):
    [orders] = (await application_of(shop, FILE)).tables
    await shop.execute("""
        CREATE TABLE darkroom.job_queue (id bigint, payload jsonb);
        INSERT INTO customers VALUES (7); INSERT INTO orders (id, customer_id, photo_key) VALUES (3, 7, 'a.jpg')""")
    await shop.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    row = await shop.fetchrow(orders.inputs.select, "3", None)

    inputs = orders.inputs.load(dict(row))
    assert (inputs.tier, inputs.pictures, inputs.prompt, inputs.config) == ("TIER_1K", ("a.jpg",), None, None)
    assert await shop.fetchrow(orders.inputs.select, "x", None) is None


SHOP = """
CREATE SCHEMA shop;
CREATE TYPE shop.kind AS ENUM ('generate', 'other');
CREATE DOMAIN shop.name AS text CHECK (VALUE <> '');
CREATE FUNCTION shop.named(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'u/' || $1;
CREATE TABLE shop."Jobs" (
    gone integer, "Id" uuid PRIMARY KEY, "user" shop.name NOT NULL, kind shop.kind NOT NULL DEFAULT 'generate',
    "State" varchar(9) NOT NULL, stage text CHECK (stage IN ('GENERATING')), tries smallint NOT NULL DEFAULT 0,
    begun timestamp, due timestamp, words json NOT NULL, image bytea, at timestamptz, price numeric, score float8,
    names text[], spans int4range, kinds shop.kind[], side integer);
ALTER TABLE shop."Jobs" DROP COLUMN gone;
"""
ODD = """
name = "odd_shop"
[tables.Jobs]
id = "Id"
status = "State"
user = "named(r.user) -- as its keys are"
job_type = "CASE WHEN r.kind = 'generate' THEN 'generate' END"
tier = "'4K'"
max_attempts = "r.tries + 2"
scheduled_at = "r.due AT TIME ZONE 'utc'"
columns = { stage = "stage", attempts = "tries", started = "begun" }
statuses = { PENDING = "new", RETRYING = "again", HELD = ["draft", "wait"], PROCESSING = "working", COMPLETED = "done", FAILED = "error" }
inputs = { prompt = "r.words ->> 'text'", aspect = "'1:1'", pipeline = "r.words::jsonb -> 'pipeline'" }
result = { side = "greatest($width, $height) / 2.0", names = "ARRAY[$sha256, $model]" }
"""  # noqa: E501 - an inline table of TOML 1.0 is one line


async def test_odd_names_and_types_are_described(shop):
    await shop.execute(SHOP)
    [jobs] = (await application_of(shop, ODD, "shop")).tables

    assert jobs.name == 'shop."Jobs"'
    assert jobs.rows.startswith("odd_shop_")
    assert len(jobs.rows) == len("odd_shop_") + 8
    assert (jobs.id_column, jobs.status_column, jobs.status_type) == ('"Id"', '"State"', "character varying")
    assert jobs.stage_column == StageColumn("stage", "text", ("GENERATING",))
    assert (jobs.time_type, jobs.retries_column, jobs.started_column) == ("timestamp", "tries", "begun")
    assert (jobs.retrying_label, jobs.held_labels) == ("again", ("draft", "wait"))
    assert jobs.frozen == ('"Id"', '"user"', "kind", "words")
    assert jobs.compared_as_text == {"words"}
    assert jobs.labels[JobStatus.CANCELLED] == "error"
    assert (jobs.tier, jobs.cost, jobs.money) == ("'TIER_4K'", "NULL", None)
    assert jobs.created == "coalesce(r.begun, darkroom.utc_now())"


async def test_fragments_run_where_rows_have_no_name(shop):
    """In a trigger's OLD and NEW, in transition tables, in a view; and still after the table was altered."""
    await shop.execute(SHOP)
    [jobs] = (await application_of(shop, ODD, "shop")).tables
    new, rows = over(jobs.user, "NEW"), over(jobs.user, "n")
    await shop.execute(f"""
        CREATE TABLE public.seen (what text);
        CREATE FUNCTION public.on_row() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
            INSERT INTO public.seen SELECT 'row ' || {new}; RETURN NEW; END $$;
        CREATE FUNCTION public.on_rows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
            INSERT INTO public.seen SELECT 'rows ' || {rows} FROM new_rows n; RETURN NULL; END $$;
        CREATE TRIGGER one BEFORE INSERT ON shop."Jobs" FOR EACH ROW EXECUTE FUNCTION public.on_row();
        CREATE TRIGGER all_rows AFTER INSERT ON shop."Jobs" REFERENCING NEW TABLE AS new_rows
            FOR EACH STATEMENT EXECUTE FUNCTION public.on_rows()""")
    insert = """INSERT INTO shop."Jobs" ("Id", "user", "State", words) VALUES (gen_random_uuid(), $1, 'new', '{}')"""

    await shop.execute(insert, "a")
    await shop.execute("ALTER TABLE shop.\"Jobs\" ADD COLUMN more jsonb DEFAULT '{}', DROP COLUMN score")
    await shop.execute('ALTER TABLE shop."Jobs" ALTER COLUMN "user" TYPE varchar(20)')
    await shop.execute(insert, "b")

    assert [row["what"] for row in await shop.fetch("SELECT what FROM public.seen")] == [
        "row u/a",
        "rows u/a",
        "row u/b",
        "rows u/b",
    ]
    assert await shop.fetchval(f'SELECT array_agg({over(jobs.user, "j")}) FROM shop."Jobs" j') == ["u/a", "u/b"]
    await shop.execute('DROP TABLE shop."Jobs"; DROP TYPE shop.kind; DROP DOMAIN shop.name')  # nothing depends on them
    await shop.execute("""
        CREATE TABLE shop."Jobs" ("State" text, words text, "user" text);
        INSERT INTO shop."Jobs" VALUES ('new', '{}', 'c')""")
    assert await shop.fetchval(f'SELECT {over(jobs.user, "j")} FROM shop."Jobs" j') == "u/c"


async def test_values_of_a_row_reach_fragments_unchanged(shop):
    await shop.execute(SHOP)
    text = ODD.replace("named(r.user) -- as its keys are", "md5(ROW(r.*)::text)")
    [jobs] = (await application_of(shop, text, "shop")).tables
    await shop.execute("SET LOCAL extra_float_digits = 1")
    await shop.execute(
        """INSERT INTO shop."Jobs" ("Id", "user", "State", stage, due, words, image, at, price, score, names,
                                    spans, kinds)
           VALUES (gen_random_uuid(), 'Ünïcode "id"', 'new', 'GENERATING', '0044-03-15 10:00:00.123456 BC',
                   '{"a": 1}', '\\x00ff'::bytea, $1, $2, 0.1::float8 + 0.2, '{a,NULL,"b,c"}', '[1,5)', '{other}'),
                  (gen_random_uuid(), 'b', 'new', NULL, 'infinity', '[]', '', '-infinity', 'NaN', 'Infinity', '{}',
                   'empty', '{}')""",
        datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC),
        Decimal("12345678901234567890.123456789"),
    )
    own, direct = over(jobs.user, "j"), "md5(ROW(j.*)::text)"

    assert await shop.fetchval(f'SELECT bool_and({own} = {direct}) FROM shop."Jobs" j') is True


async def test_values_that_no_job_can_have_are_refused_on_entering(shop):
    text = FILE.replace("THEN 'enhance'", "THEN r.photo_key")
    [orders] = (await application_of(shop, text)).tables
    await shop.execute(f"""
        CREATE FUNCTION entering() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN
            {orders.entering} RETURN NULL; END $$;
        CREATE TRIGGER entering AFTER INSERT ON orders REFERENCING NEW TABLE AS entering_rows
            FOR EACH STATEMENT EXECUTE FUNCTION entering();
        ALTER TABLE orders ALTER COLUMN price DROP NOT NULL;
        INSERT INTO customers VALUES (7)""")

    for values, words in (
        ("'paint', '1K', 2", 'job_type: "paint" is none of enhance, generate, modify'),
        ("'modify', '8K', 2", 'tier: "8K" is none of FREE, 1K, 2K, 4K'),
        ("'modify', '1K', -1", "cost: -1 is no number of tokens from 0"),
        ("'modify', '1K', NULL", "cost: NULL is no number of tokens from 0"),
    ):
        with pytest.raises(asyncpg.InvalidParameterValueError, match=f"^{words}$"):
            async with shop.transaction():
                await shop.execute(
                    "INSERT INTO orders (customer_id, photo_key, size, price) "
                    f"VALUES (7, 'generate', '1K', 0), (7, {values})"
                )
    await shop.execute(
        "INSERT INTO orders (customer_id, photo_key, size, price, state) VALUES (7, 'x', 'y', -1, 'done')"
    )
    await shop.execute("INSERT INTO orders (customer_id, photo_key, size) VALUES (7, 'modify', '2K'), (7, NULL, 'z')")


async def test_description_follows_from_what_was_recorded(shop):
    facts = await facts_of(shop, FILE, "public")

    assert Catalogue.from_json(facts).to_json() == facts
    with pytest.raises(ValueError, match=r"^app.toml: line 1: "):
        described("[", "app.toml", "public", facts)
    with pytest.raises(ValueError, match=r"^app.toml: orders is in none of the tables that were recorded"):
        described(FILE, "app.toml", "public", {key: of for key, of in facts.items() if key != "orders"})


async def test_roles_that_may_create_in_the_schema_are_named(shop):
    await shop.execute("""
        CREATE SCHEMA open; CREATE ROLE toml_keeper; CREATE ROLE "Toml guest";
        CREATE ROLE toml_member IN ROLE toml_keeper;
        CREATE ROLE toml_root SUPERUSER; ALTER SCHEMA open OWNER TO toml_keeper;
        GRANT CREATE ON SCHEMA open TO toml_member, toml_root; GRANT USAGE ON SCHEMA open TO PUBLIC""")
    assert await creators_fault(shop, "open", "app.toml") is None

    await shop.execute('GRANT CREATE ON SCHEMA open TO "Toml guest", PUBLIC')
    assert await creators_fault(shop, "open", "app.toml") == (
        'app.toml: "Toml guest" and PUBLIC may create in schema open, where what they create could take the place of '
        'what the file\'s SQL names; run REVOKE CREATE ON SCHEMA open FROM "Toml guest", PUBLIC'
    )
