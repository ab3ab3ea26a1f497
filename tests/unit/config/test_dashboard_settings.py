"""Settings of the dashboard: what each accepts, and what it says of what it doesn't."""

import pytest

from config.network_address import Address, parse_address
from config.settings import SettingsError
from pipelines.settings import load_settings
from pipelines.settings_table import describe

KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8600", Address("127.0.0.1", 8600)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:8600", Address("::1", 8600)),
        ("[0:0::1]:1", Address("::1", 1)),
        ("localhost:80", Address("localhost", 80)),
        ("dash-1.internal:65535", Address("dash-1.internal", 65535)),
    ],
)
def test_address_is_read_and_written_alike(text, address):
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "8600", ":8600", "127.0.0.1", "::1:8600", "[::1]", "[::g]:1", "h:65536", "h:-1", "h:\u0661", "a b:1", "h\n:1"],
)
def test_anything_else_is_no_address(text):
    with pytest.raises(ValueError, match=r"must be HOST:PORT|must begin with|has no IPv6"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_what_only_this_machine_reaches(host, is_loopback):
    assert Address(host, 1).is_loopback is is_loopback


def test_dashboard_has_its_defaults_without_environment():
    settings = load_settings({})

    assert (settings.dashboard_address, settings.dashboard_url, settings.dashboard_auth) == (
        "127.0.0.1:8600",
        None,
        None,
    )
    assert (settings.dashboard_proxies, settings.secret_key) == ((), None)


def test_values_are_normalized():
    settings = load_settings(
        {
            "DARKROOM_DASHBOARD_URL": "https://Dash.Example.com:8443/",
            "DARKROOM_DASHBOARD_PROXIES": "10.0.0.7, 10.1.0.0/16,fd00::/8",
            "DARKROOM_DASHBOARD_AUTH": "proxy",
            "DARKROOM_SECRET_KEY": KEY,
        }
    )

    assert settings.dashboard_url == "https://dash.example.com:8443"
    assert settings.dashboard_proxies == ("10.0.0.7/32", "10.1.0.0/16", "fd00::/8")
    (row,) = [row for row in describe(settings) if row.name == "DARKROOM_SECRET_KEY"]
    assert (row.value, KEY in str(describe(settings))) == ("***", False)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DARKROOM_DASHBOARD_ADDRESS", "8600", "must be HOST:PORT"),
        ("DARKROOM_DASHBOARD_URL", "dash.example.com", "must be http:// or https://"),
        ("DARKROOM_DASHBOARD_URL", "https://dash.example.com/darkroom", "must end after its host and port"),
        ("DARKROOM_DASHBOARD_URL", "https://a:b@dash.example.com", "must end after its host and port"),
        ("DARKROOM_DASHBOARD_URL", "https://dash.example.com:0", "must be http:// or https://"),
        ("DARKROOM_DASHBOARD_AUTH", "off", "DARKROOM_DASHBOARD_AUTH='off'"),
        ("DARKROOM_DASHBOARD_AUTH", "proxy", "needs DARKROOM_DASHBOARD_PROXIES"),
        ("DARKROOM_DASHBOARD_PROXIES", "10.0.0.7/8", "'10.0.0.7/8' is no network"),
        ("DARKROOM_DASHBOARD_PROXIES", "proxy.internal", "'proxy.internal' is no network"),
        ("DARKROOM_SECRET_KEY", "short-and-secret", "at least 32 characters"),
    ],
)
def test_wrong_value_is_refused_with_what_to_give(name, value, words):
    with pytest.raises(SettingsError) as raised:
        load_settings({name: value})

    assert words in str(raised.value)
    assert "short-and-secret" not in str(raised.value)
