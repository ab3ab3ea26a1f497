"""The page about adopting a table, run from its first line to its last: a shop's tables, the file and the commands."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import asyncpg
from PIL import Image

from config.postgres_url import parse_postgres_url
from tests.support.program import DARKROOM

PAGE = (Path(__file__).resolve().parents[3] / "docs/adopting.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def test_file_of_the_page_has_up_to_forty_lines():
    [file] = [text for kind, text in BLOCKS if kind == "toml"]
    assert len(file.splitlines()) <= 40


async def test_page_drains_a_shop_as_it_says(services, redis_url, shop_url, tmp_path):
    """Each block is run in its turn: SQL as the shop's owner, the file written as frames.toml, commands in a shell."""
    (tmp_path / "objects/uploads/7").mkdir(parents=True)
    Image.effect_noise((320, 240), 40).convert("RGB").save(tmp_path / "objects/uploads/7/photo.jpg")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "TOKENS"))}
    environment |= {
        "DATABASE_URL": shop_url,
        "REDIS_URL": redis_url,
        "STORAGE_URL": (tmp_path / "objects").as_uri(),
        "PROVIDER": "local",
        "DARKROOM_HOME": str(tmp_path / "home"),
        "DARKROOM_WARM_CHILDREN": "0",
        "DARKROOM_PROCESSES": "1",
        "DARKROOM_LEARNED_CPU_S": "0",
        "PATH": f"{Path(DARKROOM).parent}{os.pathsep}{os.environ['PATH']}",
    }
    connection = await asyncpg.connect(**parse_postgres_url(shop_url).asyncpg_arguments())
    await connection.execute("DROP TABLE customers, orders, order_log, catalogue")
    printed, rows = "", []
    for kind, text in BLOCKS:
        if kind == "toml":
            (tmp_path / "frames.toml").write_text(text)
        elif kind == "sql" and text.startswith("SELECT"):
            rows = await connection.fetch(text)
        elif kind == "sql":
            await connection.execute(text)
        else:
            done = await asyncio.to_thread(
                subprocess.run,
                ["sh", "-ec", text],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            printed += done.stdout

    assert [(row["state"], row["print_size"]) for row in rows] == [
        ("done", "2048x1536"),
        ("error", None),
        ("stopped", None),
    ]
    assert rows[0]["print_key"].startswith("frames/7/1-1-")
    assert "frames.toml: well" in printed
    assert "object uploads/7/lost.jpg is not in storage" in printed
    assert "every charge, refund and balance is as promised" in printed
    assert await connection.fetchval("SELECT account FROM customers") == '{"credits": 5}'
    assert await connection.fetchval("SELECT count(*) FROM order_log") == 1
    await connection.close()
