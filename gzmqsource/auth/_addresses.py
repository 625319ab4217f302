"""IP addresses and networks, in any of their spellings, and which peers are in them.

A socket with ``ipv6`` set reports the IPv4 peer ``10.0.0.1`` as ``::ffff:10.0.0.1``, another socket
as ``10.0.0.1``. So such a peer has two addresses, and is in a network that contains one of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_MAPPED = int(ipaddress.IPv6Address("::ffff:0.0.0.0"))


def network(address: str) -> str | Network:
    """Parse an argument of `gzmqsource.auth.Authenticator.allow`.

    Raises
    ------
    ValueError
        It is neither an address nor a network nor ``"ipc"``, or it has a zone.
    """
    if not isinstance(address, str):
        raise ValueError(f"{address!r}: an address is a str, such as '10.0.0.1'")
    if "%" in address:
        # ipaddress would accept it, and compare all but the zone.
        raise ValueError(f"{address!r}: a rule is for all zones, leave out what follows the %")
    try:
        return address if address == "ipc" else ipaddress.ip_network(address)
    except ValueError as error:
        raise ValueError(
            f"{address!r}: an IP address such as '10.0.0.1', a network such as '10.0.0.0/8', "
            f"or 'ipc': {error}"
        ) from None


class Networks:
    """Networks, and ``"ipc"``: to look for an address takes as long in thousands as in a few."""

    def __init__(self) -> None:
        #: The addresses of the networks, by version and mask.
        self._networks: dict[tuple[int, int], set[int]] = {}
        self._has_ipc = False

    def __bool__(self) -> bool:
        return self._has_ipc or bool(self._networks)

    def add(self, networks: Iterable[str | Network]) -> None:
        """Add networks that `network` has returned."""
        for each in networks:
            if isinstance(each, str):
                self._has_ipc = True
            else:
                addresses = self._networks.setdefault((each.version, int(each.netmask)), set())
                addresses.add(int(each.network_address))

    def __contains__(self, address: str) -> bool:
        """Return whether the address of a peer, as libzmq reports it, is in one of them."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            # Over ipc, libzmq sends "localhost:UID:GID:PID".
            return self._has_ipc
        forms = [(ip.version, int(ip))]
        if isinstance(ip, ipaddress.IPv4Address):
            forms.append((6, _MAPPED | int(ip)))
        elif ip.ipv4_mapped is not None:
            forms.append((4, int(ip.ipv4_mapped)))
        return any(
            number & mask in addresses
            for (version, mask), addresses in self._networks.items()
            for form, number in forms
            if form == version
        )
