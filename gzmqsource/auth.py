"""Who may connect: ZAP, the ZeroMQ authentication protocol, on a greenlet.

libzmq asks at ``inproc://zeromq.zap.01`` of its context before it lets a peer in
(https://rfc.zeromq.org/spec/27). It asks for each connection of a socket with ``plain_server`` or
``curve_server``, and of one with ``zap_domain``. What it sends here comes from it and not from the
peer, except for the credentials.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import gevent
import zmq
from gevent.pool import Pool
from zmq.auth import CURVE_ALLOW_ANY, load_certificates
from zmq.utils import z85

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.flusher import Report
from gzmqsource._source.source import Source
from gzmqsource.errors import SourceClosed

#: ``rule(domain, username, password)`` or ``rule(domain, key)``: whether this peer may come in. A
#: str lets it in, too, and is its ``User-Id``.
Rule: TypeAlias = Callable[..., "bool | str"]

_ENDPOINT = "inproc://zeromq.zap.01"

_Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_log = logging.getLogger("gzmqsource.auth")


class _Request(NamedTuple):
    """What libzmq asks."""

    reply_to: list[bytes]
    domain: str
    address: str
    mechanism: str
    credentials: list[bytes]

    def __str__(self) -> str:
        return f"{self.mechanism} from {self.address!r} for domain {self.domain!r}"


class _Verdict(NamedTuple):
    """What it is told."""

    status: bytes
    reason: str
    user_id: str = ""


class _Passwords:
    """Compares in a time that tells nothing about the password."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._passwords = {name: password.encode() for name, password in passwords.items()}
        # What an unknown user is compared with, which takes as long.
        self._nobody = secrets.token_bytes()

    def __call__(self, domain: str, username: str, password: str) -> bool:
        expected = self._passwords.get(username, self._nobody)
        return hmac.compare_digest(expected, password.encode())


class _Directory:
    """The public keys in a directory, as `reload` has read them last."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._keys: frozenset[bytes] = frozenset()

    def reload(self) -> None:
        keys = frozenset(load_certificates(self.location))
        for key in keys:
            if len(key) != 40:
                raise ValueError(f"{self.location}: {key!r} is no public key in Z85")
        self._keys = keys

    def __call__(self, domain: str, key: bytes) -> bool:
        return key in self._keys


class AuthStats(NamedTuple):
    """What an authenticator has decided since it was made."""

    accepted: int
    """Peers that were let in."""

    refused: int
    """Peers that were kept out."""

    postponed: int
    """Peers that were put off, because a rule raised or too many were running."""

    malformed: int
    """Messages that were no requests."""


class Authenticator:
    """Decides which peers the sockets of a context let in.

    The names are those of `zmq.auth.Authenticator`. A rule that a program gives may block: it runs
    in a pool, and holds up no other peer. If it raises, the peer is put off, and the error goes to
    *on_error*. Who is put off comes again when its handshake has timed out (``handshake_ivl``, 30 s
    if not set); who is kept out does not. Nobody is let in by a mechanism that was not configured.
    What changes here is for connections to come; those that are there stay. It is a context manager
    that starts and stops it.

    Parameters
    ----------
    context : zmq.Context, optional
        Whose sockets; ``zmq.Context.instance()`` if not given. It has one at a time.
    on_error : callable, optional
        ``on_error(error, None)`` takes what a rule raised; without it, ``hub.handle_error`` does.
    """

    #: How many rules run at a time. A peer that comes when so many run is put off, so that a flood
    #: costs a bounded amount of memory: a greenlet takes some KB.
    max_rules = 1000

    #: Seconds that `stop` takes at most if it is not told; peers that wait then are kept out.
    stop_timeout = 1.0

    def __init__(
        self,
        context: zmq.Context[Any] | None = None,
        on_error: Report | None = None,
    ) -> None:
        self._context = context or zmq.Context.instance()
        self._on_error = on_error
        self._allowed: set[str | _Network] = set()
        self._denied: set[str | _Network] = set()
        self._rules: dict[tuple[str, str], Rule] = {}
        self._pool = Pool(self.max_rules)
        self._source: Source | None = None
        self._accepted = self._postponed = 0
        self._refused = LimitedWarning(_log, "a peer was kept out: %s")
        self._malformed = LimitedWarning(_log, "a malformed ZAP request was dropped: %s")

    def allow(self, *addresses: str) -> None:
        """Let in only peers from these IP addresses or networks, if they pass the rest.

        Parameters
        ----------
        *addresses : str
            ``"10.0.0.1"``, ``"10.0.0.0/8"``, ``"::1"``; or ``"ipc"`` for every peer over ``ipc://``.

        Raises
        ------
        ValueError
            It is none of these.
        """
        self._allowed.update(map(_network, addresses))

    def deny(self, *addresses: str) -> None:
        """Let nobody in from these, also where `allow` does; arguments as there."""
        self._denied.update(map(_network, addresses))

    def configure_plain(
        self, domain: str = "*", passwords: Mapping[str, str] | Rule | None = None
    ) -> None:
        """Let peers in by name and password.

        Parameters
        ----------
        domain : str
            The ``zap_domain`` of the sockets; ``"*"`` for those without a rule of their own.
        passwords : mapping of str to str, or callable
            The password of each user; or ``passwords(domain, username, password)``, which may block
            and tells whether to let the peer in.
        """
        rule = passwords if callable(passwords) else _Passwords(passwords or {})
        self._rules["PLAIN", _domain(domain)] = rule

    def configure_curve(
        self, domain: str = "*", location: str | os.PathLike[str] | Rule = CURVE_ALLOW_ANY
    ) -> None:
        """Let peers in by their public key.

        Parameters
        ----------
        domain : str
            As for `configure_plain`.
        location : path or callable
            The directory of the keys, in files ``*.key`` as `zmq.auth.create_certificates` makes
            them; ``"*"`` for any key; or ``location(domain, key)``, which gets the key in Z85, may
            block, and tells whether to let the peer in.

        Raises
        ------
        OSError, ValueError
            It is no directory, or a file in it has no public key; nothing changes.
        """
        rule: Rule
        if callable(location):
            rule = location
        elif location == CURVE_ALLOW_ANY:
            rule = _any_key
        else:
            rule = _Directory(os.fspath(location))
            rule.reload()
        self._rules["CURVE", _domain(domain)] = rule

    def reload(self) -> None:
        """Read the directories of keys again; they are read in a native thread.

        Raises
        ------
        OSError, ValueError
            As for `configure_curve`; the keys of that directory stay as they were.
        """
        for rule in list(self._rules.values()):
            if isinstance(rule, _Directory):
                gevent.get_hub().threadpool.apply(rule.reload)

    def start(self) -> None:
        """Begin to answer libzmq, before the sockets are bound.

        Without an authenticator it lets in every peer that has the server's CURVE key, and every
        one without a mechanism (libzmq 4.3.5).

        Raises
        ------
        ValueError
            The context has another authenticator.
        """
        if self.started:
            return
        try:
            self._source = Source.open(
                zmq.ROUTER,
                self._asked,
                bind=_ENDPOINT,
                context=self._context,
                on_error=self._on_error,
                ref=False,
                linger=0,
            )
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            raise ValueError(f"{self._context!r} has an authenticator already") from error
        self._source.start()

    def stop(self, timeout: float | None = None) -> None:
        """Answer no more.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait for rules that run; None for `stop_timeout`.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        if self._source is not None and self.started:
            self._source.pause()
            self._pool.join(deadline.left())
            self._pool.kill()
            # The name is free at once then; closing frees it some time later.
            self._source.socket.unbind(_ENDPOINT)
            self._source.stop(deadline.left())

    @property
    def started(self) -> bool:
        """Whether it answers libzmq."""
        return self._source is not None and not self._source.closed

    def stats(self) -> AuthStats:
        """Give a snapshot of what it has decided."""
        return AuthStats(
            accepted=self._accepted,
            refused=self._refused.count,
            postponed=self._postponed,
            malformed=self._malformed.count,
        )

    def __enter__(self) -> Authenticator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "started" if self.started else "stopped"
        return f"<{type(self).__name__} {state} of {self._context!r}>"

    def _asked(self, message: list[bytes]) -> None:
        """Answer one request, or have the rule answer it."""
        try:
            request = _parse(message)
        except ValueError as error:
            self._malformed(error)
            return
        if not self._may_come_from(request.address):
            self._reply(request, _Verdict(b"400", "Address not allowed"))
        elif request.mechanism == "NULL":
            self._reply(request, _Verdict(b"200", "OK"))
        else:
            self._ask_rule(request)

    def _may_come_from(self, address: str) -> bool:
        if _is_in(address, self._denied):
            return False
        return not self._allowed or _is_in(address, self._allowed)

    def _ask_rule(self, request: _Request) -> None:
        mechanism, domain = request.mechanism, request.domain
        rule = self._rules.get((mechanism, domain)) or self._rules.get((mechanism, "*"))
        if rule is None:
            self._reply(request, _Verdict(b"400", "Security mechanism not configured"))
            return
        try:
            arguments = _ARGUMENTS[mechanism](*request.credentials)
        except (TypeError, ValueError):
            self._reply(request, _Verdict(b"400", "Invalid credentials"))
            return
        if isinstance(rule, (_Passwords, _Directory)) or rule is _any_key:
            self._apply(rule, request, arguments)
        elif self._pool.full():
            self._reply(request, _Verdict(b"300", "Too many at a time"))
        else:
            self._pool.spawn(self._apply, rule, request, arguments)

    def _apply(self, rule: Rule, request: _Request, arguments: tuple[Any, ...]) -> None:
        try:
            user = rule(request.domain, *arguments)
        except (Exception, gevent.Timeout) as error:
            # Without the message, which has the credentials.
            if self._source is not None:
                self._source.report(error, None)
            self._reply(request, _Verdict(b"300", "Internal error"))
            return
        if not user:
            self._reply(request, _Verdict(b"400", "Unknown credentials"))
        elif isinstance(user, str):
            self._reply(request, _Verdict(b"200", "OK", user))
        else:
            name = arguments[0]
            user_id = name if isinstance(name, str) else name.decode()
            self._reply(request, _Verdict(b"200", "OK", user_id))

    def _reply(self, request: _Request, verdict: _Verdict) -> None:
        if verdict.status == b"200":
            self._accepted += 1
        elif verdict.status == b"300":
            self._postponed += 1
        else:
            self._refused(f"{request}: {verdict.reason}")
        frames = [verdict.status, verdict.reason.encode(), verdict.user_id.encode(), b""]
        try:
            if self._source is not None:
                self._source.send_nowait(request.reply_to + frames)
        except SourceClosed:
            pass  # stopped meanwhile: libzmq knows, and keeps the peer out


def _any_key(domain: str, key: bytes) -> bool:
    return True


def _plain(username: bytes, password: bytes) -> tuple[str, str]:
    return username.decode(), password.decode()


def _curve(key: bytes) -> tuple[bytes]:
    if len(key) != 32:
        raise ValueError("a public key has 32 bytes")
    return (z85.encode(key),)


#: What a rule gets for the credentials of a mechanism.
_ARGUMENTS: dict[str, Callable[..., tuple[Any, ...]]] = {"PLAIN": _plain, "CURVE": _curve}


def _parse(message: list[bytes]) -> _Request:
    """Read a request.

    Raises
    ------
    ValueError
        It is none; the text has no credentials.
    """
    if len(message) < 8 or message[1]:
        raise ValueError(f"{len(message)} frames")
    peer, delimiter, version, number, domain, address, _, mechanism, *credentials = message
    if version != b"1.0":
        raise ValueError(f"version {version!r:.20}, not 1.0")
    return _Request(
        reply_to=[peer, delimiter, version, number],
        domain=domain.decode(errors="replace"),
        address=address.decode(errors="replace"),
        mechanism=mechanism.decode(errors="replace"),
        credentials=credentials,
    )


def _domain(domain: str) -> str:
    if not isinstance(domain, str):
        raise TypeError(f"domain={domain!r}: a ZAP domain is a str; name the other arguments")
    return domain


def _network(address: str) -> str | _Network:
    """Read what `Authenticator.allow` gets."""
    return address if address == "ipc" else ipaddress.ip_network(address)


def _is_in(address: str, networks: set[str | _Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        # libzmq gives no IP address but "localhost:UID:GID:PID".
        return "ipc" in networks
    if isinstance(ip, ipaddress.IPv6Address):
        # What an IPv4 peer is called by a socket with ``ipv6`` set.
        ip = ip.ipv4_mapped or ip
    return any(not isinstance(network, str) and ip in network for network in networks)
