"""Which addresses may be called on behalf of others: those of the public Internet, and what the settings allow. Pure.

Who may name an address for us to call must not reach with it what only we can reach: this machine, its neighbours,
a cloud's metadata.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import inet_aton, inet_ntoa
from typing import Final

Networks = tuple[IPv4Network | IPv6Network, ...]

# IANA's special-purpose addresses (https://www.iana.org/assignments/iana-ipv4-special-registry), multicast, and
# 168.63.129.16, behind which Azure keeps what belongs to a machine alone.
_SPECIAL: Final[Networks] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
            "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
            "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
        ),
    )
)  # fmt: skip
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_allowed(address: str, allowed: Networks) -> bool:
    """Whether an IP address, as text, may be called.

    Args:
        allowed: networks that may be called although they are not public.
    """
    meant = _meant(ip_address(address))
    if any(meant in network for network in allowed):
        return True
    if isinstance(meant, IPv6Address) and meant not in _PUBLIC_V6:
        return False
    return not any(meant in network for network in _SPECIAL)


def literal(host: str) -> str | None:
    """The IP address that a URL's host writes out, in any of the ways that are understood somewhere: `127.0.0.1`,
    `2130706433`, `0x7f000001`, `0177.1`, `::1`; None for a name.
    """
    bare = host.strip("[]").rstrip(".")
    try:
        return str(ip_address(bare))
    except ValueError:
        pass
    try:
        return inet_ntoa(inet_aton(bare))
    except (OSError, ValueError):
        return None


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address
