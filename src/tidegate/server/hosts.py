"""What a server is called, so that it answers under no name that another site has made up for it.

A page from elsewhere may not read what a server on this machine answers, unless its own name is
made to lead to this machine after it was loaded (DNS rebinding): then the browser takes both for
the same site. But it still says the name that it was given.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable

from tidegate.errors import ConfigError

_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[^:\[\]\s]+)(?::[0-9]*)?")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def is_loopback(address: str) -> bool:
    """Whether only this machine can be reached by the address, which may be a name."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost"
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def check_host(given: str) -> str:
    """A host's name or address as it is compared. ConfigError if it is none, or has a port."""
    name = given.lower().removesuffix(".")
    if not _NAME.fullmatch(name):
        try:
            return str(ipaddress.IPv6Address(name.removeprefix("[").removesuffix("]")))
        except ValueError:
            raise ConfigError(
                f"allowed_host={given!r} is no name of a host; give it as browsers send it, "
                "without https:// and port, like reviews.example.org"
            ) from None
    return name


def accepted(address: str, host: str, allowed: Iterable[str]) -> frozenset[str] | None:
    """The names that a server on this address answers to beside the loopback ones; None for all.

    host: what it was told to listen on, which may be a name of one's own for the address.
    """
    names = frozenset(check_host(given) for given in allowed)
    if is_loopback(address):
        return names | {host.lower()}
    return names or None


def admitted(headers: Iterable[tuple[bytes, bytes]], names: Collection[str]) -> bool:
    """Whether a request is for one of the names, or for a loopback one.

    One that names no host is: no browser sends such a request.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts:
        return True
    found = _HOST.fullmatch(hosts[0].lower())
    if found is None or len(hosts) > 1:
        return False
    name = found[1].strip(b"[]").removesuffix(b".").decode("latin-1")
    return name in names or is_loopback(name)
