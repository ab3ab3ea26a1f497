import hashlib
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from config.job_terms import MAX_ID_CHARS
from pipelines import keys
from pipelines.errors import InvalidOptionsError

SHA = "0123456789abcdef" * 4


def id_of(part: str) -> str | None:
    """Read a part of a key back; None if it is the hash of an id, or no encoding of one."""
    if part == "=":
        return ""
    try:
        text = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), part.encode()).decode()
    except UnicodeDecodeError:
        return None
    return text if keys.encoded_id(text) == part else None


def test_keys_are_those_of_the_rows_conventions() -> None:
    assert keys.original_key("u1", "i1", "PNG") == "users/u1/originals/i1.png"
    assert keys.enhanced_key("u1", "i1", "j1", SHA) == "users/u1/enhanced/i1/j1-0123456789abcdef.jpg"
    assert keys.generated_key("u1", "j1", SHA) == "mcp-generated/u1/j1-0123456789abcdef.jpg"
    assert keys.modified_key("u1", "j1", SHA) == "mcp-modified/u1/j1-0123456789abcdef.jpg"
    assert keys.input_key("u1", "j1", ".jpeg") == "mcp-input/u1/j1.jpeg"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("cmwpmc1t1000z7d7dzshipkk3", "cmwpmc1t1000z7d7dzshipkk3"),
        ("a-b_c.d", "a-b_c.d"),
        ("", "="),
        ("=", "=3D"),
        (".", "=2E"),
        ("..", "=2E=2E"),
        (".hidden", "=2Ehidden"),
        ("a..b", "a=2E=2Eb"),
        ("a...b", "a=2E=2E.b"),
        ("a/b", "a=2Fb"),
        ("auth0|5f7c", "auth0=7C5f7c"),
        ("urn:x y", "urn=3Ax=20y"),
        ("ü", "=C3=BC"),
        ("a=2Fb", "a=3D2Fb"),
        ("x" * 200, "x" * 200),
    ],
)
def test_id_stands_in_a_key_by_its_bytes(text: str, part: str) -> None:
    assert keys.encoded_id(text) == part
    assert id_of(part) == text


@pytest.mark.parametrize("text", ["|" * 67, "фото" * 25, "x" * 201])
def test_id_too_long_for_a_key_stands_as_its_hash(text: str) -> None:
    part = keys.encoded_id(text)

    assert part == f"=_{hashlib.sha256(text.encode()).hexdigest()}"
    assert id_of(part) is None


@pytest.mark.parametrize("part", ["a=", "a=7c", "=7", "a=41", "a..b", "=FF", "x" * 201])
def test_what_is_no_encoding_is_no_id(part: str) -> None:
    assert id_of(part) is None


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
        *("", "/a", "a/", "a//b", "a/../b", "..", "a/./b", "./a", "a/..b", "a\\b", "a\0", "a b", "ä", "a?b", "a#b"),
        *("a%2Fb", "a\n", "file:///etc/passwd", "a/" * 300 + "a", "a" * 256, "\udcff"),
    ],
)
def test_key_that_we_would_not_write_has_a_problem(key: str) -> None:
    assert keys.key_problem(key) is not None


@pytest.mark.parametrize("key", ["a b (1).jpg", "ü/фото+%2F?#.jpg", "a//b", "/a", "a/", "a..b/c", "x" * 1024, "a\n"])
def test_key_of_another_program_is_read(key: str) -> None:
    assert keys.check_readable(key, "originalR2Key") == key


@pytest.mark.parametrize("key", ["", "a\0", "../a", "a/../b", "a/.", "./a", "ü" * 513, "\udcff"])
def test_key_that_no_object_has_is_refused_with_its_column(key: str) -> None:
    with pytest.raises(InvalidOptionsError, match="originalR2Key is no key: it"):
        keys.check_readable(key, "originalR2Key")


@pytest.mark.parametrize(
    ("job_id", "name"),
    [
        ("g1", f"g1-2-{SHA[:16]}.jpg"),
        ("a/b", f"a=2Fb-2-{SHA[:16]}.jpg"),
        ("x" * 200, f"{'x' * 200}-2-{SHA[:16]}.jpg"),
        ("x" * 201, f"=_{hashlib.sha256(b'x' * 201).hexdigest()}-2-{SHA[:16]}.jpg"),
    ],
)
def test_result_of_another_application_is_numbered_under_its_name(job_id: str, name: str) -> None:
    key = keys.result_key("studio", "auth0|5f7c", job_id, 2, SHA)

    assert key == f"studio/auth0=7C5f7c/{name}"
    assert keys.names_content(key, SHA)
    assert not keys.is_users(key, "auth0|5f7c")


def test_key_of_the_longest_name_user_and_job_can_be_written() -> None:
    key = keys.result_key("a" * 31, "ü" * 40, "x" * 200, 4, SHA)

    assert keys.key_problem(key) is None
    assert key.endswith(f"/{'x' * 200}-4-{SHA[:16]}.jpg")


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


@pytest.mark.parametrize(
    ("key", "user_id", "expected"),
    [
        ("users/auth0=7C5f7c/originals/a.jpg", "auth0|5f7c", True),
        ("users/auth0|5f7c/originals/IMG 1.jpg", "auth0|5f7c", True),
        ("mcp-input/ü/x.jpg", "ü", True),
        ("users/a=2Fb/x.jpg", "a/b", True),
        ("users/a/b/x.jpg", "a/b", False),  # may be of user a
        ("users/a=2Fb/x.jpg", "a=2Fb", False),  # is of user a/b
        ("users/a=3D2Fb/x.jpg", "a=2Fb", True),
        ("users/=/x.jpg", "=", False),  # is of the user without an id
        ("users/=/x.jpg", "", True),
        ("users/./x.jpg", ".", False),
        ("users/=2E/x.jpg", ".", True),
        ("users/u1//x.jpg", "u1", False),
        ("users/u1/\0.jpg", "u1", False),
        (f"users/{'|' * 67}/x.jpg", "|" * 67, True),
    ],
)
def test_prefixes_of_odd_ids_are_their_users_alone(key: str, user_id: str, expected: bool) -> None:  # noqa: FBT001
    assert keys.is_users(key, user_id) is expected


def test_key_that_two_users_may_have_names_the_other_ids() -> None:
    assert keys.ids_below("users/a/b/c/x.jpg", "a") == ("a/b", "a/b/c")
    assert keys.ids_below("mcp-input/a|b/x/y.jpg", "a|b") == ("a|b/x",)
    assert keys.ids_below("users/a/x.jpg", "a") == ()
    assert keys.ids_below("users/other/b/x.jpg", "a") == ()


def test_extension_follows_the_content_type() -> None:
    assert keys.extension_of("image/jpeg") == "jpg"
    with pytest.raises(InvalidOptionsError, match="no picture type"):
        keys.extension_of("text/html")


IDS = st.text() | st.text("ab./=_-|0\u00fc", max_size=8) | st.text(min_size=60, max_size=250)


@settings(deadline=None)  # a busy machine is no counterexample
@given(IDS)
def test_encoding_of_an_id_is_one_part_that_reads_back(text: str) -> None:
    part = keys.encoded_id(text)

    assert re.fullmatch(r"[A-Za-z0-9_.=-]{1,200}", part, re.ASCII)
    assert not part.startswith(".")
    assert ".." not in part
    if part.startswith("=_"):
        assert len("".join(f"={byte:02X}" for byte in text.encode())) > MAX_ID_CHARS
    else:
        assert id_of(part) == text
    if len(text) <= MAX_ID_CHARS and re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_-]*", text, re.ASCII):
        assert part == text


@settings(deadline=None)
@given(IDS, IDS)
def test_no_two_ids_share_a_part_or_a_prefix(one: str, other: str) -> None:
    assume(one != other)

    assert keys.encoded_id(one) != keys.encoded_id(other)
    for mine in keys.user_prefixes(one):
        for theirs in keys.user_prefixes(other):
            assert not mine.startswith(theirs)


@settings(deadline=None)
@given(st.tuples(IDS, IDS, IDS), st.tuples(IDS, IDS, IDS))
def test_no_two_jobs_share_a_key_and_each_is_its_users(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    makers = (
        lambda user, image, job: keys.enhanced_key(user, image, job, SHA),
        lambda user, image, job: keys.generated_key(f"{user}{image}", job, SHA),
        lambda user, image, job: keys.input_key(user, f"{image}{job}", "jpg"),
    )
    assume(one != other)

    for make in makers:
        key = make(*one)
        assert keys.key_problem(key) is None
        assert len(key) <= keys.MAX_KEY_BYTES
    assert makers[0](*one) != makers[0](*other)
    assert keys.is_users(makers[0](*one), one[0])
    if one[0] != other[0]:
        assert not keys.is_users(makers[0](*one), other[0])
        assert not keys.is_users(makers[2](*one), other[0])


@pytest.mark.parametrize("text", ["x" * 200, "|" * 200, "ü" * 100, "." * 200])
def test_ids_of_200_bytes_fit_into_every_key(text: str) -> None:
    for key in (
        keys.enhanced_key(text, text, text, SHA),
        keys.generated_key(text, text, SHA),
        keys.modified_key(text, text, SHA),
        keys.original_key(text, text, "jpeg"),
        keys.input_key(text, text, "webp"),
    ):
        assert keys.key_problem(key) is None
        assert keys.is_users(key, text)


@pytest.mark.parametrize("text", ["u1", "", "x" * 200, "|" * 200, "ü" * 100, "." * 200, "answers", "../users"])
def test_key_of_an_answer_fits_and_is_no_users(text: str) -> None:
    key = keys.answer_key(text, text, SHA)

    assert key.startswith(keys.ANSWERS)
    assert keys.key_problem(key) is None
    assert not keys.is_users(key, text)
    with pytest.raises(InvalidOptionsError, match="64 lower-case hex digits"):
        keys.answer_key(text, text, "../x")
