"""Check of the addresses that an external URL may lead to: only public ones, in whatever form they are written."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from config.address_terms import NAT64, PUBLIC_IPV6, REFUSED_IPV4, REFUSED_IPV6

_IPV4_REFUSED = tuple(map(IPv4Network, REFUSED_IPV4))
"""Networks that are refused in addition to those that `ipaddress` calls not global.

Python 3.11.7 calls some of them global.
"""

_IPV6_PUBLIC = IPv6Network(PUBLIC_IPV6)
_IPV6_REFUSED = tuple(map(IPv6Network, REFUSED_IPV6))
_NAT64 = IPv6Network(NAT64)

_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""The two values of an ISATAP address's bits 64 to 95. Its last 32 bits are an IPv4 address (RFC 5214)."""


def is_public(text: str) -> bool:
    """Return whether we may connect to an address that a resolver returned.

    An IPv6 address that is mapped, 6to4, NAT64 or ISATAP counts as the IPv4
    address that it contains; IPv4-compatible and Teredo addresses are refused.

    Args:
        text: an IPv4 or IPv6 address. An address with a zone is link-local and refused, as is any other text.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_public_ipv4(address)
    return address.scope_id is None and _is_public_ipv6(address)


def is_loopback(text: str) -> bool:
    """Return whether an address is a loopback address of this machine."""
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False


def _is_public_ipv4(address: IPv4Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _IPV4_REFUSED)


def _is_public_ipv6(address: IPv6Address) -> bool:
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None:
        return _is_public_ipv4(address.ipv4_mapped)
    if address in _NAT64:
        return _is_public_ipv4(last)
    if address not in _IPV6_PUBLIC or any(address in network for network in _IPV6_REFUSED):
        return False
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_site_local:
        return False
    if address.sixtofour is not None and not _is_public_ipv4(address.sixtofour):
        return False
    is_isatap = int(address) >> 32 & 0xFFFF_FFFF in _ISATAP
    return not is_isatap or _is_public_ipv4(last)
