"""Addresses that settings name."""

import pytest

from config.network_address import Address, parse_address
from config.settings import SettingsError
from pipelines.settings import load_settings


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        ("127.0.0.1:9100", Address("127.0.0.1", 9100), True),
        ("127.8.8.8:0", Address("127.8.8.8", 0), True),
        ("localhost:80", Address("localhost", 80), True),
        ("[::1]:9100", Address("::1", 9100), True),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535), False),
        ("metrics.internal:1", Address("metrics.internal", 1), False),
    ],
)
def test_address_is_parsed_and_written_alike(text, address, is_loopback):
    assert (parse_address(text), address.is_loopback, str(address)) == (address, is_loopback, text)


@pytest.mark.parametrize(
    "text", ["", "9100", "127.0.0.1", ":9100", "::1:9100", "h:65536", "h:-1", "h:+1", "http://h:1", "a b:1", "[x]:1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"must|has no"):
        parse_address(text)


def test_own_machine_reaches_what_listens_everywhere_by_loopback():
    assert parse_address("0.0.0.0:9100").reachable.url == "http://127.0.0.1:9100"
    assert parse_address("[::]:9100").reachable.url == "http://[::1]:9100"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DARKROOM_METRICS_ADDRESS", "9100", "must be HOST:PORT"),
        ("DARKROOM_API_TOKEN", "short", "must have at least 32 characters"),
    ],
)
def test_setting_that_cannot_work_is_refused_by_name_and_without_the_secret(variable, value, words):
    with pytest.raises(SettingsError, match=words) as refused:
        load_settings({variable: value})

    assert variable in str(refused.value)
    assert "short" not in str(refused.value)
