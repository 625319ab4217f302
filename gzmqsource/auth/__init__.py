"""Deciding which peers may connect: ZAP, the ZeroMQ authentication protocol, on a greenlet.

Before libzmq accepts a peer it sends a request to ``inproc://zeromq.zap.01`` of its context
(https://rfc.zeromq.org/spec/27), for each connection of a socket with ``plain_server``,
``curve_server`` or ``zap_domain``. Only the credentials in a request come from the peer.

Without an authenticator libzmq accepts every peer, unless the socket has ``zap_enforce_domain``
(and a ``zap_domain``). A source with one of these options has both, if it makes its socket itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import gevent
import zmq
from gevent.pool import Pool
from zmq.auth import CURVE_ALLOW_ANY
from zmq.utils import z85

from gzmqsource._base.deadline import Deadline
from gzmqsource._base.threads import call_in_pool
from gzmqsource._base.warning import LimitedWarning
from gzmqsource._source.flusher import Report
from gzmqsource._source.handlers import check_callable, check_runs
from gzmqsource._source.opening import COMMON_DOMAIN, check_context
from gzmqsource._source.refusals import cannot_wait
from gzmqsource._source.source import Source
from gzmqsource.auth._addresses import Networks, network
from gzmqsource.auth._relying import relying_on
from gzmqsource.auth._rules import Directory, Passwords, any_key
from gzmqsource.errors import SourceClosed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AuthStats", "Authenticator", "Rule"]

_PasswordRule: TypeAlias = "Callable[[str, str, str], bool | str]"
_KeyRule: TypeAlias = "Callable[[str, bytes], bool | str]"

#: ``rule(domain, username, password)`` or ``rule(domain, key)``. It returns whether to accept the
#: peer; a str accepts it, too, and becomes its ``User-Id``.
Rule: TypeAlias = "_PasswordRule | _KeyRule"

_ENDPOINT = "inproc://zeromq.zap.01"

_log = logging.getLogger("gzmqsource.auth")


class _Request(NamedTuple):
    """A request of libzmq."""

    reply_to: list[bytes]
    domain: str
    address: str
    mechanism: str
    credentials: list[bytes]

    def __str__(self) -> str:
        return f"{self.mechanism} from {self.address!r} for domain {self.domain!r}"


class _Verdict(NamedTuple):
    """The reply to a request."""

    status: bytes
    reason: str
    user_id: str = ""


class AuthStats(NamedTuple):
    """The decisions of an authenticator since it was made."""

    accepted: int
    """Peers that were accepted."""

    refused: int
    """Peers that were rejected for good."""

    postponed: int
    """Peers that were rejected for now, because a rule raised or was killed by a stop, or too many
    rules were running."""

    malformed: int
    """Messages that were not ZAP requests."""


class Authenticator:
    """Decides which peers the sockets of a context accept.

    The method names are those of `zmq.auth.Authenticator`. A rule may be a function, which may
    block: it runs in a pool, and delays no other peer. If it raises, the peer is *postponed*, and
    the error goes to *on_error*. A postponed peer tries again once its handshake has timed out
    (``handshake_ivl``, 30 s by default); a refused one does not. A peer with a mechanism that was
    not configured is refused. Changes apply to new connections; existing ones stay. As a context
    manager, an authenticator is started, and stopped at the end of the block.

    Parameters
    ----------
    context : zmq.Context, optional
        The context of the sockets; ``zmq.Context.instance()`` if not passed. Only one authenticator
        of a context can be started.
    on_error : callable, optional
        ``on_error(error, None)`` is called with an exception of a rule; without it, that is logged.

    Raises
    ------
    TypeError
        *context* is not a `zmq.Context`, or *on_error* cannot be called.
    """

    #: How many rules may run at once. While this many run, further peers are postponed, so that a
    #: flood costs a bounded amount of memory: a greenlet takes several KB.
    max_rules = 1000

    #: The most seconds that `stop` takes if no timeout is passed.
    stop_timeout = 1.0

    def __init__(
        self,
        context: zmq.Context[Any] | None = None,
        on_error: Report | None = None,
    ) -> None:
        check_context(context)
        check_callable("on_error", on_error)
        self._context = context or zmq.Context.instance()
        self._on_error = on_error
        self._allowed = Networks()
        self._denied = Networks()
        self._rules: dict[tuple[str, str], Callable[..., bool | str]] = {}
        self._pool = Pool(self.max_rules)
        self._source: Source | None = None
        self._accepted = self._postponed = 0
        self._refused = LimitedWarning(_log, "a peer was refused: %s")
        self._malformed = LimitedWarning(_log, "a malformed ZAP request was dropped: %s")

    def allow(self, *addresses: str) -> None:
        """Accept only peers from these IP addresses or networks, if they pass the other rules.

        Parameters
        ----------
        *addresses : str
            ``"10.0.0.1"``, ``"10.0.0.0/8"``, ``"::1"``; or ``"ipc"`` for every peer over
            ``ipc://``. ``"::ffff:10.0.0.1"`` is ``"10.0.0.1"``, and ``"::/0"`` includes all IPv4
            addresses. Without any, nothing changes, and an empty list lets every peer in.

        Raises
        ------
        ValueError
            An address is none of these; nothing changes.
        """
        self._allowed.add([network(address) for address in addresses])

    def deny(self, *addresses: str) -> None:
        """Refuse all peers from these *addresses*, including those that `allow` accepts.

        Parameters and errors are those of `allow`.
        """
        self._denied.add([network(address) for address in addresses])

    def configure_plain(
        self, domain: str = "*", passwords: Mapping[str, str] | _PasswordRule | None = None
    ) -> None:
        """Accept peers by name and password.

        Parameters
        ----------
        domain : str
            The ``zap_domain`` of the sockets; ``"*"`` for those without a rule of their own.
        passwords : mapping of str to str, or callable
            The password of each user; or ``passwords(domain, username, password)``, which returns
            whether to accept the peer, and may block. None refuses every peer.

        Raises
        ------
        TypeError
            *domain* is not a str, or *passwords* none of these; nothing changes.
        """
        rule: Rule
        if callable(passwords):
            check_runs(passwords, "the rule")
            rule = passwords
        else:
            rule = Passwords(passwords or {})
        self._rules["PLAIN", _domain(domain)] = rule

    def configure_curve(
        self, domain: str = "*", location: str | os.PathLike[str] | _KeyRule = CURVE_ALLOW_ANY
    ) -> None:
        """Accept peers by their public key.

        Parameters
        ----------
        domain : str
            As for `configure_plain`.
        location : str, os.PathLike or callable
            The directory of the keys, in files ``*.key`` as `zmq.auth.create_certificates` makes
            them; ``"*"`` for any key; or ``location(domain, key)``, which returns whether to
            accept the peer with this key in Z85, and may block.

        Raises
        ------
        OSError, ValueError
            It is not a directory, or a file in it has no public key; nothing changes.
        TypeError
            *domain* is not a str, or *location* none of these; nothing changes.
        """
        rule: _KeyRule
        if callable(location):
            check_runs(location, "the rule")
            rule = location
        elif location == CURVE_ALLOW_ANY:
            rule = any_key
        elif not isinstance(location, (str, os.PathLike)):
            raise TypeError(f"location={location!r}: the folder of the keys, '*', or a rule")
        else:
            rule = Directory(os.fspath(location))
            rule.reload()
        self._rules["CURVE", _domain(domain)] = rule

    def reload(self) -> None:
        """Read the directories of keys again, in a native thread.

        Raises
        ------
        OSError, ValueError
            As for `configure_curve`; the keys of that directory stay as they were.
        """
        for rule in list(self._rules.values()):
            if isinstance(rule, Directory):
                call_in_pool(rule.reload)

    def start(self) -> None:
        """Start answering libzmq; call this before the sockets are bound.

        Before that, a source that made its socket itself accepts no peer. Other sockets accept
        every peer that has their CURVE key, and every peer without a mechanism, unless
        ``zap_enforce_domain`` and ``zap_domain`` are set.

        Raises
        ------
        ValueError
            Another authenticator of the context is started.
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
            raise ValueError(
                f"{self._context!r} has an authenticator already: configure or stop that one"
            ) from error
        self._source._own("authenticator", self, self.stats)
        self._source.start()

    def stop(self, timeout: float | None = None) -> None:
        """Stop answering; stopping again does nothing.

        Sources that still rely on it accept no peer from now on, or every peer if they were opened
        with ``zap_enforce_domain=0``. A warning is logged for either. Rules that still run at the
        end of the time are killed, and their peers are postponed.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait for running rules; None for `stop_timeout`.

        Raises
        ------
        ValueError, InvalidThreadUseError, gevent.exceptions.BlockingSwitchOutError
            As for `gzmqsource.Source.stop`.
        """
        deadline = Deadline(self.stop_timeout if timeout is None else timeout)
        if self._source is not None and self.started:
            if self._pool and gevent.getcurrent() is self._source._core.hub:
                raise cannot_wait(self, "authenticator.stop")
            for endpoint, what in relying_on(self._context):
                _log.warning("%r stops, and %s %s", self, endpoint, what)
            self._source.pause()
            self._pool.join(deadline.left())
            self._pool.kill(timeout=deadline.left())  # what a rule does at its end may take long
            # This frees the endpoint at once; closing frees it some time later.
            if not self._source.closed:
                with contextlib.suppress(zmq.ZMQError):  # a stop that was killed has done it
                    self._source.socket.unbind(_ENDPOINT)
            self._source.stop(deadline.left())

    @property
    def started(self) -> bool:
        """Whether it answers libzmq."""
        return self._source is not None and not self._source.closed

    def stats(self) -> AuthStats:
        """Return a snapshot of its decisions."""
        return AuthStats(
            accepted=self._accepted,
            refused=self._refused.count,
            postponed=self._postponed,
            malformed=self._malformed.count,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "started" if self.started else "stopped"
        return f"<{type(self).__name__} {state} of {self._context!r}>"

    def _asked(self, message: list[bytes]) -> None:
        """Answer one request, or have a rule answer it."""
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
        if address in self._denied:
            return False
        return not self._allowed or address in self._allowed

    def _ask_rule(self, request: _Request) -> None:
        mechanism, domain = request.mechanism, request.domain
        rule = self._rules.get((mechanism, domain), self._rules.get((mechanism, "*")))
        if rule is None:
            self._reply(request, _Verdict(b"400", "Security mechanism not configured"))
            return
        try:
            arguments = _ARGUMENTS[mechanism](*request.credentials)
        except (TypeError, ValueError):
            self._reply(request, _Verdict(b"400", "Invalid credentials"))
            return
        if isinstance(rule, (Passwords, Directory)) or rule is any_key:
            self._apply(rule, request, arguments)
        elif self._pool.full():
            self._reply(request, _Verdict(b"300", "Too many pending requests"))
        else:
            self._pool.spawn(self._apply, rule, request, arguments)

    def _apply(
        self, rule: Callable[..., bool | str], request: _Request, arguments: tuple[Any, ...]
    ) -> None:
        try:
            user = _checked(rule(request.domain, *arguments))
        except BaseException as error:
            # Without the message, which holds the credentials.
            if self._source is not None and not isinstance(error, gevent.GreenletExit):
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
        with contextlib.suppress(SourceClosed):  # stopped meanwhile: libzmq refuses the peer
            if self._source is not None:
                self._source.send_nowait(request.reply_to + frames)


def _checked(outcome: object) -> bool | str:
    """Return what a rule has returned, if libzmq takes that; a coroutine is true, too."""
    if outcome is None or isinstance(outcome, (bool, int, str)):
        return outcome.encode().decode() if isinstance(outcome, str) else bool(outcome)
    kind = type(outcome).__name__
    raise TypeError(f"a rule returned <{kind}>: it returns whether to accept, or the user's name")


def _plain(username: bytes, password: bytes) -> tuple[str, str]:
    return username.decode(), password.decode()


def _curve(key: bytes) -> tuple[bytes]:
    if len(key) != 32:
        raise ValueError("a public key has 32 bytes")
    return (z85.encode(key),)


#: The conversion of a mechanism's credentials into the arguments of a rule.
_ARGUMENTS: dict[str, Callable[..., tuple[Any, ...]]] = {"PLAIN": _plain, "CURVE": _curve}


def _parse(message: list[bytes]) -> _Request:
    """Parse a request.

    Raises
    ------
    ValueError
        It is not a request; the text holds no credentials.
    """
    if len(message) < 8 or message[1]:
        raise ValueError(f"{len(message)} frames")
    peer, delimiter, version, number, domain, address, _, mechanism, *credentials = message
    if version != b"1.0":
        raise ValueError(f"version {version!r:.20}, not 1.0")
    return _Request(
        reply_to=[peer, delimiter, version, number],
        domain="" if domain == COMMON_DOMAIN else domain.decode(errors="replace"),
        address=address.decode(errors="replace"),
        mechanism=mechanism.decode(errors="replace"),
        credentials=credentials,
    )


def _domain(domain: str) -> str:
    if not isinstance(domain, str):
        # Without the value, which may be the passwords.
        got = type(domain).__name__
        raise TypeError(f"domain=<{got}>: a ZAP domain is a str; name the other arguments")
    return domain
