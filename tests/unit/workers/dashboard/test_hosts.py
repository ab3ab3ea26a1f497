"""Which hosts and origins are the dashboard's own, and from which address a request counts."""

import pytest
from starlette.datastructures import Headers

from config.network_address import Address
from workers.dashboard.hosts import Hosts

LOOPBACK = Hosts(Address("127.0.0.1", 8600))
PUBLIC = Hosts(Address("10.0.0.5", 80), "https://dash.example.com")
PROXIED = Hosts(Address("127.0.0.1", 8600), proxies=("10.0.0.0/24", "127.0.0.1/32", "fd00::/8"))


def headers(**named):
    return Headers({name.replace("_", "-"): value for name, value in named.items()})


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (LOOPBACK, "127.0.0.1:8600"),
        (LOOPBACK, "localhost:8600"),
        (LOOPBACK, "LOCALHOST:8600"),
        (LOOPBACK, "[::1]:8600"),
        (Hosts(Address("::1", 8600)), "[::1]:8600"),
        (Hosts(Address("0.0.0.0", 8600)), "127.0.0.1:8600"),
        (PUBLIC, "dash.example.com"),
        (PUBLIC, "dash.example.com:443"),
        (PUBLIC, "10.0.0.5"),
        (PUBLIC, "10.0.0.5:80"),
        (PUBLIC, "localhost"),
        (Hosts(Address("127.0.0.1", 1), "https://dash.example.com:8443"), "dash.example.com:8443"),
        (Hosts(Address("127.0.0.1", 1), "https://dash.example.com:8443"), "dash.example.com"),
    ],
)
def test_own_host_is_accepted(hosts, host):
    assert hosts.is_accepted(headers(host=host))


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (LOOPBACK, "evil.example"),
        (LOOPBACK, "evil.example:8600"),
        (LOOPBACK, "localhost"),
        (LOOPBACK, "localhost:8601"),
        (LOOPBACK, "localhost:8600.evil.example"),
        (LOOPBACK, "user@localhost:8600"),
        (LOOPBACK, "localhost.:8600"),
        (LOOPBACK, ""),
        (PUBLIC, "dash.example.com.evil.example"),
        (PUBLIC, "127.0.0.1"),
    ],
)
def test_other_host_is_refused(hosts, host):
    assert not hosts.is_accepted(headers(host=host))


def test_request_with_no_host_or_with_two_is_refused():
    assert not LOOPBACK.is_accepted(headers())
    assert not LOOPBACK.is_accepted(Headers(raw=[(b"host", b"localhost:8600"), (b"host", b"evil.example")]))


@pytest.mark.parametrize(
    ("hosts", "origin", "is_ours"),
    [
        (LOOPBACK, "http://localhost:8600", True),
        (LOOPBACK, "http://127.0.0.1:8600", True),
        (LOOPBACK, "https://localhost:8600", False),
        (LOOPBACK, "http://localhost:3000", False),
        (LOOPBACK, "null", False),
        (LOOPBACK, "", False),
        (PUBLIC, "https://dash.example.com", True),
        (PUBLIC, "http://dash.example.com", False),
        (PUBLIC, "http://localhost", True),
    ],
)
def test_origin_is_ours_with_its_scheme_and_port(hosts, origin, is_ours):
    assert hosts.is_ours(origin) is is_ours


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # it is no proxy, so it says nothing
        ("10.0.0.7", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.7", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # the client wrote the first itself
        ("10.0.0.7", "198.51.100.1, 10.0.0.8", "198.51.100.1"),
        ("10.0.0.7", "", "10.0.0.7"),
        ("10.0.0.7", "unknown", "10.0.0.7"),
        ("::ffff:10.0.0.7", "198.51.100.1", "198.51.100.1"),
        ("fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "", "2001:db8:1:2::/64"),
    ],
)
def test_address_of_a_request_is_the_last_that_a_proxy_vouches_for(peer, forwarded, client):
    assert PROXIED.client(headers(x_forwarded_for=forwarded), peer) == client


@pytest.mark.parametrize(
    ("peer", "names", "named"),
    [
        ("10.0.0.7", ["ada"], "ada"),
        ("10.0.0.7", ["Zoë".encode().decode("latin-1")], "Zoë"),
        ("10.0.0.7", ["Zoe\u0308".encode().decode("latin-1")], "Zoë"),
        ("10.0.0.7", ["eve", "ada"], None),
        ("10.0.0.7", [""], None),
        ("10.0.0.7", ["\xff"], None),
        ("203.0.113.9", ["ada"], None),
        ("10.0.0.7", [], None),
    ],
)
def test_operator_is_named_by_one_header_of_a_proxy(peer, names, named):
    raw = [(b"x-forwarded-user", name.encode("latin-1")) for name in names]

    assert PROXIED.named(Headers(raw=raw), peer) == named
