"""The guard: which addresses an image may be fetched from, checked on the address that is really connected to.

A link's host passes three gates, since each alone can be walked around:

1. the link itself: an address written as a number (also in octal, hexadecimal or one piece) is judged at once;
2. the resolver: a name is refused whole if *one* of its addresses is refused (else the next look-up may give that one);
3. the socket: the address about to be connected to, wherever it came from.

Redirects begin again at gate 1.  `KINDRED_IMAGE_HOSTS` opens all three for the names and networks in it.
Networks: IANA's special-purpose address registries (RFC 6890 and its updates), and the public-looking one of a cloud.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
OpenSocket = Callable[[AddrInfo], socket.socket]

NOT_PUBLIC: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), words)
    for network, words in (
        ("0.0.0.0/8", "this host itself"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address shared behind a carrier's NAT"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a cloud's own service"),  # Azure's; looks public, is not
        ("169.254.0.0/16", "a link-local address"),  # clouds keep machine credentials there
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a reserved address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "this host itself"),
        ("::1/128", "a loopback address"),
        ("2001::/23", "a reserved address"),  # with Teredo, benchmarks, ORCHID
        ("2001:db8::/32", "an address for documentation"),
        ("3fff::/20", "an address for documentation"),
        ("64:ff9b:1::/48", "a private address behind NAT64"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
    )
)
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out as global unicast; any other IPv6 address is refused."""

IPV4_WITHIN: tuple[tuple[ipaddress.IPv6Network, int], ...] = tuple(
    (ipaddress.IPv6Network(network), bits_below)
    for network, bits_below in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
    )
)
"""IPv6 forms that lead to an IPv4 address, and how many bits stand below it."""

_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252})", re.IGNORECASE)

visited_host: ContextVar[str] = ContextVar("visited_host", default="")
"""The host of the request that the running task makes; without it no name is taken for allowed."""


class RefusedAddress(OSError):
    """An address that nothing may be fetched from.  An OSError, so that aiohttp treats it as a failed connection."""


class AddressGuard:
    """Which hosts and addresses may be connected to: public ones, and those allowed."""

    def __init__(self, allowed_hosts: Sequence[str] = ()) -> None:
        """`allowed_hosts`: names, addresses, or networks such as 10.1.0.0/16.  ValueError names one that is none."""
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for host in allowed_hosts:
            try:
                self._networks.append(ipaddress.ip_network(host.strip("[]"), strict=False))
            except ValueError:
                self._names.add(_allowed_name(host))

    def check_host(self, host: str) -> None:
        """Gate 1: raises RefusedAddress for a host that is a refused address, in whatever form, or no name at all."""
        bare = host.rstrip(".")
        try:
            address = ipaddress.ip_address(bare)
        except ValueError:
            if _NUMBER.fullmatch(bare.rpartition(".")[2]):
                raise RefusedAddress(f"{host} is an address in disguise, expected four decimal numbers") from None
            if not _HOST_NAME.fullmatch(host):
                raise RefusedAddress(f"{host[:80]!r} is not the name of a host") from None
            return
        self.check_address(host, address)

    def check_address(self, host: str, address: Address | str) -> None:
        """Gates 2 and 3: raises RefusedAddress unless `address`, found for `host`, may be connected to."""
        if host.rstrip(".").lower() in self._names:
            return
        reason = self._refusal(ipaddress.ip_address(address))
        if reason is not None:
            where = f"{host} is at {address}, " if host not in ("", str(address)) else f"{address} is "
            raise RefusedAddress(f"{where}{reason}; only KINDRED_IMAGE_HOSTS may allow it")

    def _refusal(self, address: Address) -> str | None:
        """Why `address` must not be connected to; None: it may."""
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
            return "an address of one network card"
        allowed = any(address in network for network in self._networks)
        within = _ipv4_within(address)
        if within is not None:  # allowing NAT64's network must not open the private addresses behind it
            return self._refusal(within) if allowed else f"an IPv6 form of {within}"
        if allowed:
            return None
        for network, words in NOT_PUBLIC:
            if address in network:
                return words
        if address.version == 6 and address not in PUBLIC_IPV6:
            return "not an address of the public internet"
        return None


def _allowed_name(host: str) -> str:
    try:
        name = URL(f"http://{host}/").raw_host or ""
    except ValueError:
        name = ""
    if not _HOST_NAME.fullmatch(name) or (host.isascii() and name != host.lower()):
        raise ValueError(f"{host!r} is neither a host's name nor a network (such as 10.1.0.0/16)")
    return name.rstrip(".")


def _ipv4_within(address: Address) -> ipaddress.IPv4Address | None:
    for network, bits_below in IPV4_WITHIN:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> bits_below & 0xFFFFFFFF)
    return None


class GuardedResolver(AbstractResolver):
    """Gate 2: another resolver's answers, refused whole if one address is."""

    def __init__(self, guard: AddressGuard, resolver: AbstractResolver) -> None:
        self._guard = guard
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            self._guard.check_address(host, result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def guarded_connector(guard: AddressGuard, resolver: AbstractResolver, open_socket: OpenSocket) -> aiohttp.TCPConnector:
    """An aiohttp connector with gates 2 and 3.  `open_socket` is only ever called for an address that may be used."""

    def open_checked(addr_info: AddrInfo) -> socket.socket:
        guard.check_address(visited_host.get(), addr_info[4][0])
        return open_socket(addr_info)

    return aiohttp.TCPConnector(
        resolver=GuardedResolver(guard, resolver),
        socket_factory=open_checked,
        limit=0,  # the fetcher keeps its own limits
        ttl_dns_cache=10,
    )


def open_tcp_socket(addr_info: AddrInfo) -> socket.socket:
    """A plain socket for `addr_info`."""
    family, kind, protocol, _, _ = addr_info
    return socket.socket(family=family, type=kind, proto=protocol)
