"""Where somebody is led after signing in, and tokens of forms."""

import pytest

from workers.dashboard.csrf import COOKIE_S, CsrfTokens, agree
from workers.dashboard.sign_in import path_of_ours

TOKENS = CsrfTokens("k" * 32)


@pytest.mark.parametrize(
    "path", ["/", "/jobs", "/jobs?status=FAILED&since=2h", "/jobs/~YSBi", "/jobs/a%20b", "/users/x@y"]
)
def test_path_of_ours_is_where_somebody_is_led(path):
    assert path_of_ours(path) == path


@pytest.mark.parametrize(
    "text",
    [
        *("", "jobs", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/jobs\\x"),
        *("https://evil.example", "javascript:alert(1)", " /jobs", "/\t/evil.example", "/\n/evil.example"),
        *(
            "/jobs\r\nSet-Cookie: a=b",
            "/jobs\x00",
            "/jobs\x85x",
            "/a b",
            "/sign-out",
            "/sign-in?next=/",
            "/" + "a" * 2_000,
        ),
        None,
    ],
)
def test_anything_else_leads_to_the_first_page(text):
    assert path_of_ours(text) == "/"


def test_path_with_other_letters_becomes_a_header():
    assert path_of_ours("/jobs?user=zoë") == "/jobs?user=zo%C3%AB"


def test_tokens_of_others_differ():
    tokens = {
        TOKENS.of_session(b"a" * 32),
        TOKENS.of_session(b"b" * 32),
        TOKENS.of_nonce("n", ""),
        TOKENS.of_nonce("n", "ada"),
        TOKENS.of_nonce("m", ""),
        CsrfTokens("j" * 32).of_nonce("n", ""),
    }

    assert len(tokens) == 6
    assert agree(TOKENS.of_nonce("n", ""), TOKENS.of_nonce("n", ""))
    assert not agree("\ud800", TOKENS.of_nonce("n", ""))


def test_cookie_is_kept_renewed_in_its_second_half_and_replaced_when_it_is_old_or_foreign(monkeypatch):
    first = TOKENS.nonce(None)
    assert first.cookie is not None
    assert TOKENS.nonce(first.cookie) == type(first)(first.value, None)

    foreign = CsrfTokens("j" * 32).nonce(None).cookie
    assert TOKENS.nonce(foreign).value != CsrfTokens("j" * 32).nonce(foreign).value

    began_s = TOKENS._signer.get_timestamp()
    monkeypatch.setattr(TOKENS._signer, "get_timestamp", lambda: began_s + COOKIE_S // 2 + 60)
    renewed = TOKENS.nonce(first.cookie)
    assert (renewed.value, renewed.cookie is None) == (first.value, False)
    monkeypatch.setattr(TOKENS._signer, "get_timestamp", lambda: began_s + COOKIE_S + 60)
    assert TOKENS.nonce(first.cookie).value != first.value
