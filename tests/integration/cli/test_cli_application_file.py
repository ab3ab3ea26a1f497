"""An operator's file from the command line: `db upgrade`, a worker that drains the shop, and every command about it."""

import asyncio
import io
import os
import subprocess
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from PIL import Image

from config.postgres_url import parse_postgres_url
from tests.integration.studio.conftest import TABLES as STUDIO
from tests.support.frames_file import FILE, TABLES, edited, line_of
from tests.support.program import DARKROOM

CLOSED = "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
CUSTOMER = """INSERT INTO customers VALUES (7, '{"credits": 20}');"""
MODE = {"TOKENS": "managed"}


class Shop:
    """A database of the test's own, the commands on it, and a storage."""

    def __init__(self, url, darkroom, folder, monkeypatch):
        self.url, self.folder, self._darkroom, self._monkeypatch = url, folder, darkroom, monkeypatch

    def sql(self, *statements):
        """Run statements as a foreign program does, each a transaction; return the rows of the last."""

        async def run():
            connection = await asyncpg.connect(**parse_postgres_url(self.url).asyncpg_arguments())
            try:
                for statement in statements[:-1]:
                    await connection.execute(statement)
                return [tuple(row) for row in await connection.fetch(statements[-1])]
            finally:
                await connection.close()

        return asyncio.run(run())

    def script(self, text):
        self.sql(text, "SELECT 1")

    def refusal(self, statement):
        with pytest.raises(asyncpg.PostgresError) as refused:
            self.sql(statement)
        return refused.value.sqlstate, refused.value.args[0]

    def written(self, text=FILE, name="frames.toml"):
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def darkroom(self, *arguments, application=None, tokens=None):
        for name, value in (("DARKROOM_APPLICATION", application), ("TOKENS", tokens)):
            if value is None:
                self._monkeypatch.delenv(name, raising=False)
            else:
                self._monkeypatch.setenv(name, value)
        return self._darkroom(*arguments)

    def store(self, key):
        path = self.folder / "objects" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = io.BytesIO()
        Image.effect_noise((320, 240), 40).convert("RGB").save(picture, "JPEG")
        path.write_bytes(picture.getvalue())

    def drain(self):
        """Drain the queue by a real worker, which knows of no file."""
        environment = {name: value for name, value in os.environ.items() if name != "DARKROOM_APPLICATION"}
        environment |= {"DARKROOM_WARM_CHILDREN": "0", "STORAGE_PUBLIC_URL": "https://cdn.example"}
        done = subprocess.run(
            [DARKROOM, "worker", "--drain", "--processes", "1"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture
def shop(services, redis_url, command, tmp_path, monkeypatch):
    """The contract's shop before any upgrade, in a database in whose schema nobody else creates."""
    url = parse_postgres_url(services.database_url)
    name = f"shop_{uuid4().hex[:12]}"

    async def on_admin(sql):
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute(sql)
        await connection.close()

    asyncio.run(on_admin(f"CREATE DATABASE {name}"))
    made = Shop(url.with_database(name).text(), command, tmp_path, monkeypatch)
    for setting, value in {
        "DATABASE_URL": made.url,
        "REDIS_URL": redis_url,
        "STORAGE_URL": (tmp_path / "objects").as_uri(),
        "PROVIDER": "local",
    }.items():
        monkeypatch.setenv(setting, value)
    made.script(TABLES + CLOSED + CUSTOMER)
    yield made
    asyncio.run(on_admin(f"DROP DATABASE {name} WITH (FORCE)"))


def test_file_of_the_contract_is_drained_from_end_to_end(shop):
    path = shop.written()
    assert shop.darkroom("db", "upgrade", application=path, tokens="managed").code == 0
    Path(path).unlink()  # nothing reads it any more
    shop.store("u/7/a.jpg")
    order = "INSERT INTO orders (customer_id, photo_key, size, price) VALUES"
    shop.script(f"{order} (7, 'u/7/a.jpg', '1K', 2), (7, 'u/7/none.jpg', '1K', 2), (7, 'u/7/a.jpg', '2K', 5)")
    shop.script(f"{order} (7, 'u/7/a.jpg', '2K', 1), (7, NULL, '1K', 99)")
    assert shop.sql("SELECT account FROM customers") == [('{"credits": 10}',)]
    shop.script("UPDATE orders SET state = 'stopped' WHERE id = 3")
    shop.script("DELETE FROM orders WHERE id = 4")
    assert shop.sql("SELECT account FROM customers") == [('{"credits": 16}',)]

    assert shop.refusal(f"{order} (7, 'u/7/a.jpg', '1K', 17)") == ("P0001", "too few tokens: needed 17, available 16")
    assert shop.refusal(f"{order} (7, 'u/7/a.jpg', '1K', -1)") == ("22023", "a price below zero")
    assert shop.refusal("UPDATE orders SET photo_key = 'x' WHERE id = 1") == (
        "23514",
        "job 1 is new: photo_key can't change",
    )
    assert shop.refusal("UPDATE orders SET state = 'done' WHERE id = 1") == (
        "23514",
        "job 1 can't change from new to done",
    )
    shop.drain()

    assert shop.sql("SELECT id, state, print_key IS NOT NULL, print_size FROM orders ORDER BY id") == [
        (1, "done", True, "1024x768"),
        (2, "error", False, None),
        (3, "stopped", False, None),
        (5, "new", False, None),
    ]
    [(key, url)] = shop.sql("SELECT print_key, print_url FROM orders WHERE id = 1")
    assert key.startswith("frames/7/1-1-")
    assert (shop.folder / "objects" / key).is_file()
    assert url == f"https://cdn.example/{key}"
    assert shop.sql("SELECT order_id, what FROM order_log") == [(1, "printed")]
    assert shop.sql("SELECT account FROM customers") == [('{"credits": 18}',)]
    assert shop.sql("SELECT kind, job_id, sum(amount) FROM darkroom.token_entries GROUP BY 1, 2 ORDER BY 1, 2") == [
        ("charge", "1", -2),
        ("charge", "2", -2),
        ("charge", "3", -5),
        ("charge", "4", -1),
        ("opening", None, 20),
        ("refund", "2", 2),
        ("refund", "3", 5),
        ("refund", "4", 1),
    ]
    reason = "object u/7/none.jpg is not in storage"
    assert reason in shop.darkroom("jobs", "show", "2").out
    explained = shop.darkroom("jobs", "explain", "2", "--json").json
    assert explained["timeline"][0]["event"] == "submitted"
    assert explained["timeline"][-1]["event"] == "ended"
    assert any(reason in event["text"] for event in explained["timeline"])
    assert explained["timeline"][0]["at"] < explained["timeline"][-1]["at"]
    assert {(one["id"], one["state"]) for one in shop.darkroom("jobs", "list", "--json").json} == {
        (1, "done"),
        (2, "error"),
        (3, "stopped"),
    }
    assert shop.darkroom("tokens", "audit").code == 0
    shop.script(
        """SET session_replication_role = replica; UPDATE customers SET account = '{"credits": 77}' WHERE id = 7"""
    )
    audited = shop.darkroom("tokens", "audit")
    assert audited.code == 1
    assert "user 7" in audited.out


ODD_TABLES = """
CREATE SCHEMA "Odd Shop";
CREATE TYPE "Odd Shop"."Phase" AS ENUM ('draft', 'parked', 'queued', 'again', 'busy', 'ok', 'bad', 'off');
CREATE TABLE "Odd Shop"."Render Jobs" (
    "Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "Owner" uuid NOT NULL,
    "Phase" "Odd Shop"."Phase" NOT NULL DEFAULT 'queued', photo text, words varchar(99), due timestamptz,
    stage text, tries smallint NOT NULL DEFAULT 0, why varchar(200), begun timestamptz, ended timestamptz,
    changed timestamptz, out_key text, sha bytea, meta jsonb);
CREATE TABLE "Odd Shop"."order" (
    id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "select" varchar(40) NOT NULL,
    state varchar(10) NOT NULL DEFAULT 'new', photo text NOT NULL, begun timestamp, ended timestamp, written timestamp,
    key text);
CREATE TABLE "Odd Shop".books (what text, job text, who text, words text);
"""
ODD = """
name = "odd"
[tables."Render Jobs"]
id = "Id"
status = "Phase"
user = 'r."Owner"::text'
job_type = "CASE WHEN r.photo IS NOT NULL THEN 'enhance' END"
max_attempts = "2"
scheduled_at = "r.due"
statuses = { HELD = ["draft", "parked"], PENDING = "queued", RETRYING = "again", PROCESSING = "busy", COMPLETED = "ok", FAILED = "bad", CANCELLED = "off" }
columns = { stage = "stage", error = "why", attempts = "tries", started = "begun", completed = "ended", updated = "changed" }
checks = [{ must = "r.photo <> ''", sqlstate = "22023", words = "100 % of a photo" }]
inputs = { pictures = "ARRAY[r.photo]" }
result = { out_key = "$key", sha = "decode($sha256, 'hex')", meta = "jsonb_build_object('wide', $width)" }
books = [
  { when = "entered", sql = "INSERT INTO books VALUES ('entered', $job, $user, r.words)" },
  { when = "claimed", sql = "INSERT INTO books VALUES ('claimed', $job, $user)" },
  { when = "completed", sql = "INSERT INTO books VALUES ('completed', $job, $user, r.out_key)" },
  { when = "failed", sql = "INSERT INTO books VALUES ('failed', $job, $user, r.why)" },
  { when = "cancelled", sql = "INSERT INTO books VALUES ('cancelled', $job, $user)" },
]

[tables.order]
id = "id"
status = "state"
user = 'r."select"'
job_type = "'generate'"
statuses = { PENDING = "new", PROCESSING = "busy", COMPLETED = "done", FAILED = "bad" }
columns = { started = "begun", completed = "ended", updated = "written" }
inputs = { prompt = "r.photo" }
result = { key = "$key" }
"""  # noqa: E501 - an inline table of TOML 1.0 is one line


def test_two_files_of_odd_tables_and_studio_are_drained_side_by_side(shop):
    """Nobody pays for odd jobs, so these need no TOKENS of their own; the shop's and studio's do."""
    shop.script(ODD_TABLES)
    odd = f"{shop.written(ODD, 'odd.toml')}@Odd Shop"
    assert shop.darkroom("application", "check", odd).out == "odd.toml: well\n"
    alone = shop.darkroom("db", "upgrade", application=odd)
    assert (alone.code, alone.err) == (0, "")
    shop.script(STUDIO)
    names = f"{odd},{shop.written()},studio"
    assert shop.darkroom("db", "upgrade", application=names, tokens="managed").code == 0
    assert shop.darkroom("db", "check").out == "the database is ready\n"
    assert shop.darkroom("application", "check").out == "odd.toml: well\nframes.toml: well\nstudio: well\n"
    shop.store("u/7/a.jpg")
    owner = "11111111-1111-1111-1111-111111111111"
    one, two, draft, foreign = (f"00000000-0000-0000-0000-00000000000{number}" for number in range(1, 5))
    shop.script(f"""
        INSERT INTO "Odd Shop"."Render Jobs" ("Id", "Owner", "Phase", photo, words) VALUES
            ('{one}', '{owner}', 'queued', 'u/7/a.jpg', 'one'), ('{two}', '{owner}', 'again', 'u/7/gone.jpg', 'two'),
            ('{draft}', '{owner}', 'draft', 'u/7/a.jpg', 'draft'), ('{foreign}', '{owner}', 'queued', NULL, 'foreign');
        INSERT INTO "Odd Shop"."order" ("select", photo) VALUES ('Ünïcode id', 'a fish');
        INSERT INTO orders (customer_id, photo_key) VALUES (7, 'u/7/a.jpg')""")
    shop.script(f"""UPDATE "Odd Shop"."Render Jobs" SET "Phase" = 'busy', words = 'mine' WHERE "Id" = '{foreign}'""")
    shop.script(f"""UPDATE "Odd Shop"."Render Jobs" SET "Phase" = 'parked' WHERE "Id" = '{draft}'""")
    assert shop.refusal(f"""INSERT INTO "Odd Shop"."Render Jobs" ("Owner", photo) VALUES ('{owner}', '')""") == (
        "22023",
        "100 % of a photo",
    )
    shop.drain()
    shop.script(f"""UPDATE "Odd Shop"."Render Jobs" SET "Phase" = 'off' WHERE "Id" = '{draft}'""")

    assert shop.sql("""
        SELECT words, "Phase"::text, tries, begun IS NOT NULL, changed IS NOT NULL, octet_length(sha), meta, why
        FROM "Odd Shop"."Render Jobs" ORDER BY "Id" """) == [
        ("one", "ok", 0, True, True, 32, '{"wide": 1024}', None),
        ("two", "bad", 1, True, True, None, None, "object u/7/gone.jpg is not in storage"),
        ("draft", "off", 0, False, True, None, None, None),
        ("mine", "busy", 0, False, False, None, None, None),
    ]
    assert shop.sql(f"""
        SELECT job, array_agg(what ORDER BY what) FROM "Odd Shop".books WHERE who = '{owner}' GROUP BY 1 ORDER BY 1
        """) == [
        (one, ["claimed", "completed", "entered"]),
        (two, ["claimed", "entered", "failed"]),
        (draft, ["cancelled", "entered"]),
    ]
    assert shop.sql('SELECT state, begun < ended OR ended IS NULL, written IS NOT NULL FROM "Odd Shop"."order"') == [
        ("bad", True, True)  # the local provider makes no pictures of words
    ]
    assert shop.sql("SELECT state FROM orders") == [("done",)]
    assert shop.darkroom("tokens", "audit").code == 0
    assert "guard_odd_" in shop.darkroom("application", "sql", "--table", "Render Jobs").out


REFUSED = [
    (FILE.replace('id = "id"', 'id = "id'), "frames.toml: line 11: "),
    (
        edited(("[tables.orders]\n", '[tables.orders]\nstauts = "x"\n')),
        "tables.orders.stauts: unknown key, nearest: status",
    ),
    (FILE.replace('COMPLETED = "done", ', ""), "tables.orders.statuses.COMPLETED: missing"),
    (
        edited(('references = ["catalogue.cover_key"]', 'references = "a"')),
        "references: must be a list of text, is text",
    ),
    (edited(('status = "state"', 'status = "stat"')), 'tables.orders.status: orders has no column "stat"'),
    (
        FILE.replace('"done"', '"finished"'),
        'tables.orders.statuses.COMPLETED: "finished" can\'t be a value of orders.state',
    ),
    (FILE.replace('FAILED = "error"', 'FAILED = "done"'), 'tables.orders.statuses.FAILED: "done" is already COMPLETED'),
    (edited(line_of("cost", '"r.prise"')), "tables.orders.cost: column r.prise does not exist"),
    (
        edited(('user = "r.customer_id::text"', 'user = "r.customer_id::text; DROP TABLE orders"')),
        "tables.orders.user: must be one expression",
    ),
    (edited(line_of("cost", '"r.size"')), "tables.orders.cost: must be an integer, is text"),
    (edited(line_of("cost", "")), "tables.orders.cost: missing, required with money"),
]


def test_each_fault_is_refused_by_check_and_upgrade_in_one_line(shop):
    for text, line in REFUSED:
        path = shop.written(text)
        checked = shop.darkroom("application", "check", path)
        upgraded = shop.darkroom("db", "upgrade", application=path, tokens="managed")
        assert (checked.code, upgraded.code) == (2, 2), line
        assert checked.out == upgraded.err
        assert upgraded.err.count("\n") == 1
        assert upgraded.err.startswith(f"frames.toml: {line.removeprefix('frames.toml: ')}")
    none = shop.darkroom("application", "check")
    assert (none.code, none.err) == (2, "darkroom: this database has no Darkroom schema: run darkroom db upgrade\n")
    assert shop.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'darkroom'") == [(0,)]


def test_schema_in_which_others_may_create_is_refused_for_files(shop):
    path = shop.written()
    shop.script("GRANT CREATE ON SCHEMA public TO PUBLIC")
    refused = shop.darkroom("db", "upgrade", application=path, tokens="managed")
    assert refused.code == 2
    assert refused.err.startswith("frames.toml: PUBLIC may create in schema public, ")
    assert refused.err.endswith("run REVOKE CREATE ON SCHEMA public FROM PUBLIC\n")
    shop.script(CLOSED)
    assert shop.darkroom("db", "upgrade", application=path, tokens="managed").code == 0


def test_what_is_recorded_holds_until_the_next_upgrade_with_the_file(shop):
    path = shop.written()
    assert shop.darkroom("db", "upgrade", application=path, tokens="managed").code == 0
    shop.script("INSERT INTO orders (customer_id, photo_key) VALUES (7, 'none.jpg')")
    shop.written(FILE.replace("'printed'", "'sent'").replace("$width || 'x' || $height", "$width || ' px'"))
    assert shop.darkroom("db", "check").out == (
        "frames.toml differs from what is recorded, which holds until darkroom db upgrade\n"
    )
    assert shop.darkroom("db", "upgrade").code == 0  # without the variable, the recorded text stays
    assert shop.darkroom("application", "show", "--json").json[0]["source"] == FILE

    other = shop.darkroom("worker", "--drain", application="studio")
    assert other.code == 2
    assert f"DARKROOM_APPLICATION=studio, but the database was upgraded for {path}" in other.err
    given_up = shop.darkroom("db", "upgrade", application="pictures", tokens="managed")
    assert given_up.code == 2
    assert "frames has 1 unfinished jobs" in given_up.err
    unknown = shop.darkroom("db", "upgrade", application="studoi")
    assert (unknown.code, unknown.err.strip()) == (
        2,
        "darkroom: DARKROOM_APPLICATION: there is no application studoi; nearest: studio",
    )

    no_book = "".join(line for line in FILE.splitlines(keepends=True) if not line.startswith(("books", "checks")))
    shop.written(no_book)
    assert shop.darkroom("db", "upgrade", application=path).code == 0
    left = "SELECT count(*) FROM pg_proc WHERE proname IN ('frames_orders_book_1', 'frames_orders_check_1')"
    assert shop.sql(left) == [(0,)]
    assert shop.darkroom("db", "check").out == "the database is ready\n"
    shop.script("UPDATE orders SET state = 'stopped'")
    assert shop.sql("SELECT account FROM customers") == [('{"credits": 20}',)]


def test_studio_is_recognised_and_a_missing_column_is_named(shop, monkeypatch):
    shop.script("DROP TABLE customers, orders, order_log, catalogue")
    shop.script(STUDIO)
    shop.script('ALTER TABLE generations RENAME "tokensUsed" TO tokens')
    refused = shop.darkroom("db", "upgrade", application="studio", tokens="managed")
    assert (refused.code, refused.err) == (2, 'darkroom: studio: public.generations has no column "tokensUsed"\n')
    shop.script('ALTER TABLE generations RENAME tokens TO "tokensUsed"')
    assert shop.darkroom("db", "upgrade", tokens="managed").code == 0
    assert shop.darkroom("application", "show", "--json").json[0]["name"] == "studio"
