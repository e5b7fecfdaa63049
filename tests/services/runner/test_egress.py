"""Every way to name an inner address is refused; public ones are not; the operator's list wins."""

from __future__ import annotations

import socket
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from services.runner.nodes.egress import Egress, EgressRefused, GuardedResolver, parse_networks

REFUSED = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "64:ff9b::127.0.0.1", "64:ff9b:1::a9fe:a9fe", "100::1", "2001::1",
    "2001:0:a9fe:a9fe::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:a9fe:a9fe::", "2002:7f00:1::1",
    "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
    "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1",
    "223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1",
    "2606:4700::5efe:8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_inner_addresses_are_refused(address: str) -> None:
    with pytest.raises(EgressRefused, match="WECONNECT_HTTP_ALLOW"):
        Egress().check("host", address)
    with pytest.raises(EgressRefused):
        Egress().check_literal(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    Egress().check("host", address)


def test_the_operators_networks_pass() -> None:
    egress = Egress([ip_network("10.0.0.0/8"), ip_network("::1")])
    egress.check("host", "10.1.2.3")
    egress.check("host", "::ffff:10.1.2.3")
    egress.check("host", "::1")
    egress.check_literal("a.name")
    with pytest.raises(EgressRefused):
        egress.check("host", "127.0.0.1")
    with pytest.raises(EgressRefused):
        egress.check("host", "64:ff9b::a9fe:a9fe")


def test_networks_are_read_and_mistakes_told() -> None:
    networks, problems = parse_networks(["127.0.0.0/8", "::1", "10.0.0.1/8", "all"])
    assert [str(network) for network in networks] == ["127.0.0.0/8", "::1/128"]
    assert len(problems) == 2 and "all" in problems[1]


class Scripted(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        return None


async def test_one_inner_address_refuses_the_name() -> None:
    resolver = GuardedResolver(Egress(), Scripted("8.8.8.8", "10.0.0.1"))
    with pytest.raises(EgressRefused, match=r"two\.example \(10\.0\.0\.1\)"):
        await resolver.resolve("two.example")
    assert len(await GuardedResolver(Egress(), Scripted("8.8.8.8", "1.1.1.1")).resolve("two.example")) == 2
