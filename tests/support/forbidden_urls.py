"""URLs that must open no connection. `{port}` is replaced by the port of a listener that counts connections."""
# ruff: noqa: RUF001 - digits of other scripts and the unspecified address are what is tested

HOSTS = (
    # this machine, in every form that getaddrinfo takes
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
    "017700000001", "0", "0.0.0.0", "0x0", "00.0.0.0", "localhost", "LOCALHOST", "localhost.", "ip6-localhost",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[::7f00:1]",
    "[::ffff:0.0.0.0]", "①②⑦.⓪.⓪.①", "１２７.０.０.１", "127。0。0。1",
    # IPv4 carried in IPv6
    "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]",
    "[2002:0a00:0001::1]", "[2001:0:7f00:1::1]", "[2001::1]", "[2607:f8b0::5efe:7f00:1]", "[2607:f8b0::200:5efe:a00:1]",
    # links, sites, private nets, carriers
    "169.254.169.254", "169.254.0.1", "[fe80::1]", "[fe80::1%25lo]", "[fe80::a9fe:a9fe]", "[fec0::1]", "[fc00::1]",
    "[fd00:ec2::254]", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.1.254",
    "100.64.0.1", "100.100.100.200", "100.127.255.255", "167772161", "3232235521",
    # metadata and things that are no host of anyone
    "168.63.129.16", "192.0.0.8", "192.0.0.192", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "192.0.2.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "[ff02::1]", "[2001:db8::1]",
    "[100::1]", "[3fff::1]", "[5f00::1]", "[4000::1]",
)  # fmt: skip

SHAPES = (
    "http://public.example\\@127.0.0.1:{port}/", "http://public.example@127.0.0.1:{port}/",
    "http://user:password@public.example/", "http://127.0.0.1:{port}\\.public.example/",
    "http://127.0.0.1:{port}#@public.example/", "http://127.0.0.1:{port}?@public.example/",
    "http://public.example%40127.0.0.1:{port}/", "http://public.example%00.127.0.0.1:{port}/",
    "http://public.example\r\nHost: 127.0.0.1/", "http://public.example/\nx", " http://127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/", "http:127.0.0.1:{port}", "//127.0.0.1:{port}/", "/etc/passwd", "",
    "file:///etc/passwd", "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/_GET", "dict://127.0.0.1:{port}/",
    "data:image/png;base64,AAAA", "javascript:alert(1)", "unix:///var/run/docker.sock", "ldap://127.0.0.1:{port}/",
    "http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://[::1/", "http://[127.0.0.1]:{port}/", "http://",
    "https://", "http://.:{port}/", "http://\u202e127.0.0.1:{port}/", "http://127.0.0.1\u3000:{port}/",
    "http://public.example:22/", "http://public.example:6379/", "https://public.example:8443/",
    "http://public.example:{port}/", "http://public.example/" + "a" * 3000,
)  # fmt: skip
"""Refused for their form, or for the host that the form hides."""


def forbidden_urls(port: int) -> list[str]:
    """Return every URL, with a listener's port filled in."""
    by_host = [f"{scheme}://{host}:{port}/a.png" for host in HOSTS for scheme in ("http",)]
    by_host += [f"https://{host}/a.png" for host in HOSTS]
    return by_host + [shape.replace("{port}", str(port)) for shape in SHAPES]
