"""Which addresses a node may call: public ones, and those that the operator allows.

Against server-side request forgery: a name is resolved once, *all* its addresses are checked, and the connection
goes to an address that was checked. The lists are the IANA special-purpose registries (RFC 6890 and successors),
written out because `ipaddress.is_global` differs between Python versions and lets embedded IPv4 addresses,
multicast and parts of 192.0.0.0/24 pass.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

Network = IPv4Network | IPv6Network

_REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, clouds' metadata among it
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Global unicast is 2000::/3; all else (::1, fc00::/7, fe80::/10, ff00::/8, ::/96 …) is refused.
_UNICAST_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo (which embeds IPv4) among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, embeds IPv4
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
# Bytes 8 to 11 of an ISATAP address; an IPv4 address follows.
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")


class EgressRefused(Exception):
    """The address of a call is not one that nodes may reach; the text says which and how to allow it."""


class Egress:
    """Decides about addresses. `allowed` are networks that may be reached although they are not public."""

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def check(self, host: str, address: str) -> None:
        """Raise EgressRefused when `host`, which resolved to `address`, may not be called."""
        ip = ip_address(address.partition("%")[0])
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if any(ip.version == network.version and ip in network for network in self._allowed):
            return
        if not _is_public(ip):
            name = address if host == address else f"{host} ({address})"
            raise EgressRefused(
                f"{name} is not a public address; WECONNECT_HTTP_ALLOW lists networks that may be called nevertheless"
            )

    def check_literal(self, host: str) -> None:
        """Check a host that is an address itself, for which no name is resolved."""
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            return
        self.check(host, host)


def parse_networks(words: Iterable[str]) -> tuple[list[Network], list[str]]:
    """Networks of `10.0.0.0/8`, `::1` …, and what is wrong with the others."""
    networks: list[Network] = []
    problems: list[str] = []
    for word in words:
        try:
            networks.append(ip_network(word))
        except ValueError as error:
            problems.append(f"{word!r} is no network: {error}")
    return networks, problems


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _REFUSED_V4)
    if ip in _NAT64:
        return _is_public(IPv4Address(ip.packed[12:]))
    if ip not in _UNICAST_V6 or any(ip in network for network in _REFUSED_V6):
        return False
    if ip.packed[8:12] in _ISATAP:
        return _is_public(IPv4Address(ip.packed[12:]))
    return True


class GuardedResolver(AbstractResolver):
    """Resolves a name and refuses it when one of its addresses is refused."""

    def __init__(self, egress: Egress, resolver: AbstractResolver | None = None) -> None:
        self._egress = egress
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Addresses of a name, all of them checked. Raises EgressRefused, OSError when there are none."""
        results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._egress.check(host, result["host"])
        return results

    async def close(self) -> None:
        """Nothing is kept."""
        await self._resolver.close()
