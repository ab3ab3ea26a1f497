import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import keys
from pipelines.errors import InvalidOptionsError

SHA = "0123456789abcdef" * 4


def test_keys_are_those_of_the_rows_conventions() -> None:
    assert keys.original_key("u1", "i1", "PNG") == "users/u1/originals/i1.png"
    assert keys.enhanced_key("u1", "i1", "j1", SHA) == "users/u1/enhanced/i1/j1-0123456789abcdef.jpg"
    assert keys.generated_key("u1", "j1", SHA) == "mcp-generated/u1/j1-0123456789abcdef.jpg"
    assert keys.modified_key("u1", "j1", SHA) == "mcp-modified/u1/j1-0123456789abcdef.jpg"
    assert keys.input_key("u1", "j1", ".jpeg") == "mcp-input/u1/j1.jpeg"


BAD_PARTS = ["", ".", "..", "../u2", "a/b", "a\\b", "a\0b", "a b", "a\n", "ü", "a..b", "x" * 500, "%2e", "~root"]


@pytest.mark.parametrize("part", BAD_PARTS)
def test_key_of_a_bad_id_is_refused_and_named(part: str) -> None:
    with pytest.raises(InvalidOptionsError, match=r"userId|the key made of these ids"):
        keys.enhanced_key(part, "i", "j", SHA)
    with pytest.raises(InvalidOptionsError, match=r"imageId|the key made of these ids"):
        keys.enhanced_key("u", part, "j", SHA)
    with pytest.raises(InvalidOptionsError, match=r"job id|the key made of these ids"):
        keys.enhanced_key("u", "i", part, SHA)
    with pytest.raises(InvalidOptionsError, match=r"userId|the key made of these ids"):
        keys.generated_key(part, "j", SHA)
    with pytest.raises(InvalidOptionsError, match=r"job id|the key made of these ids"):
        keys.modified_key("u", part, SHA)


@pytest.mark.parametrize("extension", ["", ".", "a/b", "exe.jpg", "jpg\n", "longer", "é"])
def test_key_of_a_bad_extension_is_refused(extension: str) -> None:
    with pytest.raises(InvalidOptionsError, match="extension can't stand in a key"):
        keys.input_key("u", "j", extension)


@pytest.mark.parametrize("sha256", ["", SHA[:63], SHA.upper(), SHA + "\n", "../" + SHA[3:]])
def test_key_of_a_bad_hash_is_refused(sha256: str) -> None:
    with pytest.raises(InvalidOptionsError, match="sha256"):
        keys.enhanced_key("u", "i", "j", sha256)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "..",
        "a/./b",
        "./a",
        "a/..b",
        "a\\b",
        "a\0",
        "a b",
        "ä",
        "a?b",
        "a#b",
        "a%2Fb",
        "a\n",
        "file:///etc/passwd",
        "a/" * 300 + "a",
        "a" * 256,
        "\udcff",
    ],
)
def test_key_from_a_row_that_is_none_is_refused_with_its_column(key: str) -> None:
    with pytest.raises(InvalidOptionsError, match=r"originalR2Key is no key: it|originalR2Key is no key: a part"):
        keys.check_key(key, "originalR2Key")


def test_key_of_511_bytes_is_the_longest() -> None:
    longest = "/".join(["a" * 127] * 4)

    assert len(longest) == 511
    assert keys.key_problem(longest) is None
    assert keys.key_problem(longest + "a") == "it has 512 bytes; the limit is 511"


@pytest.mark.parametrize(
    ("key", "prefix", "expected"),
    [
        ("users/1/originals/a.jpg", "users/1", True),
        ("users/1/originals/a.jpg", "users/1/", True),
        ("users/10/originals/a.jpg", "users/1", False),
        ("users/10/originals/a.jpg", "users/1/", False),
        ("users/1/../2/a.jpg", "users/1/", False),
        ("users/1", "users/1", False),
        ("/users/1/a.jpg", "/users/1", False),
        ("users/1/a.jpg", "", False),
        ("users/1/a.jpg", "/", False),
    ],
)
def test_is_under_compares_part_by_part(key: str, prefix: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert keys.is_under(key, prefix) is expected


def test_a_users_key_is_nobody_elses() -> None:
    own = keys.enhanced_key("u1", "i", "j", SHA)

    assert keys.is_users(own, "u1")
    assert not keys.is_users(own, "u10")
    assert not keys.is_users(own, "u")
    assert not keys.is_users("mcp-generated/u10/j.jpg", "u1")
    assert not keys.is_users("users//x.jpg", "")
    assert not keys.is_users("users/../x.jpg", "..")


def test_extension_follows_the_content_type() -> None:
    assert keys.extension_of("image/jpeg") == "jpg"
    with pytest.raises(InvalidOptionsError, match="no picture type"):
        keys.extension_of("text/html")


@settings(deadline=None)  # a busy machine is no counterexample
@given(st.text(), st.text(), st.text())
def test_no_id_leads_out_of_its_users_prefix(user_id: str, image_id: str, job_id: str) -> None:
    try:
        key = keys.enhanced_key(user_id, image_id, job_id, SHA)
    except InvalidOptionsError:
        return

    assert keys.is_users(key, user_id)
    assert re.fullmatch(r"users/[\w.-]+/enhanced/[\w.-]+/[\w.-]+\.jpg", key, re.ASCII)
