"""Which keys and URLs no worker would read: SQL's rules agree with the workers', as far as the text tells."""

from itertools import product
from random import Random

import asyncpg
import pytest

from pipelines import keys
from pipelines.addresses import is_loopback, is_public
from pipelines.errors import StageError
from pipelines.public_client import checked_url
from tests.support.builders import balance_of, make_image, make_pipeline, make_user

IDS = (
    *("u", "cm3xyz", "auth0|5f7c", "a/b", "a=b", "a=7Cb", "", ".", "..", "...", "....", ".x", "x.", "a..b", "a...b"),
    *("\u00fc", "a b", "a\nb", "\t", "\U0001f600", "%", "_", "x" * 200, "|" * 66, "|" * 67, "a:b", "\\"),
)
NAMES = ("a.png", "a/b.png", "..", "x/../y", "./a", "a//b", "", "a/", "\u00fc\n.png", "n" * 1000, "n" * 1024, "..a")


async def test_ids_stand_in_keys_as_python_writes_them(database):
    letters = Random(7)
    ids = [*IDS, *("".join(letters.choices("aZ.=|/\u00e9_-", k=letters.randrange(9))) for _ in range(300))]

    rows = await database.fetch("SELECT darkroom.encoded_id(i) AS found FROM unnest($1::text[]) i", ids)

    assert [row["found"] for row in rows] == [keys.encoded_id(one) for one in ids]


async def test_keys_lie_under_a_users_prefixes_where_python_finds_them(database):
    folders = ("mcp-input/{}/", "users/{}/", "mcp-generated/{}", "/users/{}/", "other/{}/", "{}/", "users//{}/")
    cases = [
        (user, folder.format(part) + name)
        for user, folder, name in product(IDS, folders, NAMES)
        for part in {user, keys.encoded_id(user)}
    ]

    rows = await database.fetch(
        """SELECT darkroom.is_outside(c.id, c.key) AS is_outside, darkroom.key_fault(c.key) AS fault
           FROM unnest($1::text[], $2::text[]) c (id, key)""",
        [user for user, _ in cases],
        [key for _, key in cases],
    )

    for (user, key), row in zip(cases, rows, strict=True):
        assert row["is_outside"] == (not keys.is_users(key, user)), (user, key)
        assert row["fault"] == keys.read_problem(key), key


HOSTS = (
    *(
        "example.test",
        "example.test:443",
        "example.test:8443",
        "example.test:",
        "example.test:x",
        "a:b:c",
        "b\u00fccher.de",
    ),
    *("8.8.8.8", "10.0.0.1", "127.0.0.1", "127.9.9.9:80", "169.254.169.254", "192.168.1.1", "172.31.0.1", "100.64.0.1"),
    *(
        "b\u00fccher.de",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00::1]:80",
    ),
    *("[2606:4700::1111]", "[2001:db8::1]", "[::ffff:10.0.0.1]", "[::ffff:8.8.8.8]", "[64:ff9b::808:808]", "[2001::1]"),
    *("[::1", "[x]", "me@example.test", "@example.test", "me:k@8.8.8.8", "", ":80", "a%62c.test", "256.1.1.1", "%"),
    *("example.test:99999", "example.test:0443"),
)
URLS = (
    *(f"{scheme}://{host}/a.png" for scheme in ("http", "HTTPS") for host in HOSTS),
    *("ftp://example.test/", "//example.test/", "example.test/a.png", "https:/example.test", "file:///etc/passwd", "x"),
    *(
        "data:image/png;base64,AAAA",
        "https://example.test/a\tb",
        "https://example.test/\\a",
        "https://example.test?u=@x",
    ),
    *("https://example.test#@x:9", "https://example.test/" + "a" * 1_979, "https://example.test/" + "a" * 1_980),
)


def refusal_of(url):
    """Say what a worker makes of a URL without asking anybody; None if it would ask."""
    try:
        host = checked_url(url).host
    except StageError as error:
        return str(error)
    is_address = host.replace(".", "").isdigit() or ":" in host
    return "not public" if is_address and "256" not in host and not is_public(host) else None


async def test_url_is_refused_where_the_worker_would_refuse_its_text(database):
    rows = await database.fetch("SELECT darkroom.url_fault(u) AS fault FROM unnest($1::text[]) u", list(URLS))

    found = {url: row["fault"] is not None for url, row in zip(URLS, rows, strict=True)}
    assert found == {url: refusal_of(url) is not None for url in URLS} | {
        url: True
        for url in URLS
        if "256.1.1.1" in url  # no address, and no host's name either
    }


async def test_host_of_this_machine_is_left_to_workers_that_may_fetch_from_it(database):
    urls = ["http://localhost/a", "http://x.localhost./a", "http://127.0.0.1:8080/a", "http://[::1]:9/a"]
    ask = "SELECT count(darkroom.url_fault(u)) FROM unnest($1::text[]) u"

    assert await database.fetchval(ask, urls) == len(urls)
    await database.fetch("INSERT INTO darkroom.settings (key, value) VALUES ('fetch_allow_loopback', 'true')")
    assert await database.fetchval(ask, urls) == 0
    assert await database.fetchval("SELECT darkroom.url_fault('http://10.0.0.1/a')")
    assert is_loopback("127.0.0.1")


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ([{"url": "https://example.test/a.png"}, {"url": "http://169.254.169.254/x"}], r"\[1\]\.url names a host"),
        ([{"url": "ftp://example.test/a.png"}], r"\[0\]\.url starts with neither"),
    ],
)
async def test_pipeline_with_a_reference_that_nobody_fetches_is_refused_uncharged(database, references, said):
    user = await make_user(database)
    image = await make_image(database, user)
    pipeline = await make_pipeline(database, user, promptConfig={"referenceImages": references})

    with pytest.raises(asyncpg.InvalidParameterValueError, match=said):
        await database.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', $3)", user, image, pipeline)

    assert await balance_of(database, user) == 100


@pytest.mark.parametrize("key", ["users/x/../y.jpg", "", "k" * 1025])
async def test_picture_whose_key_nobody_can_read_is_refused_uncharged(database, key):
    user = await make_user(database)
    good, bad = await make_image(database, user), await make_image(database, user)
    await database.fetch('UPDATE public.enhanced_images SET "originalR2Key" = $2 WHERE id = $1', bad, key)

    for first, second in ((bad, None), (good, bad)):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="can't be read: its originalR2Key is no key: it"):
            await database.fetchval(
                "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', source_image_id => $3)", user, first, second
            )

    assert await balance_of(database, user) == 100
    odd = await make_image(database, user, key="//other program//a\nb.png")  # S3 allows it
    assert await database.fetchval("SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K')", user, odd)
