"""Who can reach what listens, or is connected to: this machine alone, or a network."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether all addresses of `host` are this machine's own, in 127.0.0.0/8 or ::1; False where it has none."""
    try:
        found = {str(address[0]) for *_, address in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)


def is_open(address: str) -> bool:
    """Whether a Dask address (`tcp://HOST:PORT`) is on a network without the keys of TLS, so that every host there can connect."""
    kind, _, rest = address.partition("://")
    if kind in ("tls", "wss", "inproc"):
        return False
    return not is_loopback(re.sub(r"(:\d+)?/?$", "", rest).strip("[]"))


def is_own_name(header: str, host: str) -> bool:
    """Whether a request's `Host` header names a server that listens on `host`: as `localhost`, a loopback address or `host` itself, and on
    a network also as any address, or by this machine's name. Any other name may have been made to resolve to this machine."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", host.lower()):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback or not is_loopback(host)
    except ValueError:
        return name in (socket.gethostname().lower(), socket.getfqdn().lower()) and not is_loopback(host)
