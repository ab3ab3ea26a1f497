"""Networks that the URL of a job's input may not lead to. Python and the SQL functions both use these lists."""

from typing import Final

REFUSED_IPV4: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carriers' NAT, and Alibaba's metadata at 100.100.100.200
    "127.0.0.0/8",
    "168.63.129.16/32",  # Azure's host, which answers metadata
    "169.254.0.0/16",  # link-local addresses, and most clouds' metadata services
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",  # 6to4 relays, given up by RFC 7526
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",  # multicast and reserved
)
"""IPv4 ranges from which no input is fetched.

IANA's special-purpose addresses (registry read 2026-11) and two of clouds.
"""

PUBLIC_IPV6: Final = "2000::/3"
"""The whole range that IANA has assigned as global unicast addresses; registry read 2026-11."""

NAT64: Final = "64:ff9b::/96"
"""Prefix that carries an IPv4 address in the last 32 bits (RFC 6052); hosts with only IPv6 reach IPv4 servers by it."""

REFUSED_IPV6: Final = (
    "2001::/23",  # Teredo and other protocol assignments
    "2001:db8::/32",
    "3fff::/20",  # documentation, RFC 9637
)
"""Parts of PUBLIC_IPV6 that are not public addresses and are refused."""
