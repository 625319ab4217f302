"""Raising at each moment at which a signal handler could, one after the other."""

import dis
import functools
import itertools
import sys

import gevent
import greenlet
from gevent.hub import get_hub

from gzmqsource._socket import garbage
from gzmqsource.testing import wait_until

PACKAGES = "/gzmqsource/_source/", "/gzmqsource/_base/"


class Struck(Exception):
    """What the handler raises."""


class Strike:
    """Raises once in a block, in its greenlet: when a function has begun, or a call has returned.

    Python runs the handlers of signals at these moments. A profile function is called there, and
    may raise.

    Parameters
    ----------
    moment : int
        The number of the moment in which it raises.
    but : tuple of str
        Functions at whose begin and end it does not raise: they have done nothing, or all.
    packages : tuple of str
        Parts of the paths of the files in which it raises.
    """

    def __init__(self, moment, but=(), packages=PACKAGES):
        self.left = moment
        self.but = but
        self._packages = packages
        #: Where it has raised.
        self.place = None
        self._greenlet = None

    def __enter__(self):
        self._greenlet = gevent.getcurrent()
        if self.place is None:
            sys.setprofile(self._look)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def around(self, function):
        """Return a function that is struck, once."""

        def struck(*arguments):
            with self:
                return function(*arguments)

        return struck

    def _look(self, frame, event, argument):
        code = frame.f_code
        if gevent.getcurrent() is not self._greenlet:
            return
        if event not in ("call", "return", "c_return") or self.place is not None:
            return
        if not any(package in code.co_filename for package in self._packages):
            return
        if event != "c_return" and code.co_name in self.but:
            return
        self.left -= 1
        if self.left < 0:
            self.place = f"{code.co_name}:{frame.f_lineno} {event} {argument!r:.60}"
            raise Struck


class StrikeAnywhere:
    """Raises once in a block, as a function of some files begins, in whichever greenlet that is.

    Parameters
    ----------
    moment : int
        The number of the moment in which it raises.
    files : collection of str
        The paths of the files.
    """

    def __init__(self, moment, files):
        self.left = moment
        self._files = files
        self.place = None

    def __enter__(self):
        # Each greenlet has a profile function of its own.
        greenlet.settrace(self._follow)
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_):
        greenlet.settrace(None)
        self.place = self.place or ""
        sys.setprofile(None)

    def _follow(self, *_):
        if self.place is None:
            sys.setprofile(self._look)

    def _look(self, frame, event, _):
        code = frame.f_code
        if self.place is not None:
            sys.setprofile(None)
        elif event == "call" and code.co_filename in self._files:
            self.left -= 1
            if self.left < 0:
                self.place = f"{code.co_filename}:{code.co_name}"
                raise Struck


def moments(scenario, at_least, first=0, step=1, most=2000):
    """Run a scenario for each moment, or each so many, until one run ends undisturbed."""
    moment = first
    while place := scenario(moment):
        moment += step
        assert moment < most, place
    assert moment >= at_least


@functools.cache
def after_calls(code):
    """Return where Python runs the handlers of signals: behind calls, and where a function begins.

    Nowhere else: a ``with`` that has a lock gives it back. A profile function would not see the
    calls of compiled methods.
    """
    pairs = itertools.pairwise(dis.get_instructions(code))
    return {after.offset for one, after in pairs if one.opname.startswith(("CALL", "RESUME"))}


def at_moment(number, call, handler, packages):
    """Call *call*, and *handler* at a moment of that, in the files of these packages.

    Returns
    -------
    bool
        Whether it had so many moments.
    """

    def trace(frame, event, _):
        nonlocal number
        if not any(package in frame.f_code.co_filename for package in packages):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in after_calls(frame.f_code):
            number -= 1
            if number == 0:
                sys.settrace(None)
                handler()
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return number <= 0


class Strikes:
    """Raises in the hub, at the moments in some files of the given numbers, in turn.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
        Keeps the exceptions from the hub.
    traced : tuple of str
        The beginnings of the paths of these files.
    """

    def __init__(self, monkeypatch, traced):
        self.hub = get_hub()
        self.count = 0
        self._traced = traced
        self._before = 0
        self._rest = []
        # One object that lives on: CPython 3.11 calls it through a borrowed reference.
        self._tracer = self._trace
        monkeypatch.setattr(self.hub, "handle_error", self._handle_error)

    def arm(self, *before):
        """Raise at the first of these moments from now on, then at the others."""
        self.count = 0
        self._before, *self._rest = before
        self._trace_soon()
        gevent.sleep(0)

    def disarm(self):
        self._rest = []
        self.hub.loop.run_callback(sys.settrace, None)
        gevent.sleep(0)

    def _trace_soon(self):
        # In the hub, without a frame of Python: tracing is a greenlet's own.
        self.hub.loop.run_callback(sys.settrace, self._tracer)

    def _handle_error(self, context, kind, value, traceback):
        assert kind is Struck, value
        self.count += 1
        if self._rest:
            self._before = self._rest.pop(0)
            self._trace_soon()

    def _trace(self, frame, event, _):
        is_traced = frame.f_code.co_filename.startswith(self._traced)
        callers = [frame.f_code, frame.f_back and frame.f_back.f_code]
        if garbage._note.__code__ in callers:
            return None  # Python ignores and prints what a callback of the collector raises
        if gevent.getcurrent() is not self.hub or not is_traced:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in after_calls(frame.f_code):
            self._before -= 1
            if self._before == 0:
                raise Struck
        return self._tracer


def strike_each(strikes, form, then=(), step=1):
    """Strike at each moment that one message takes, or each *step*, one after the other."""
    begin, has_come = form

    def until(come, strikes_at_most):
        wait_until(lambda: has_come(come) or strikes.count > strikes_at_most, 5)

    for number in itertools.count(1, step):
        strikes.arm(number, *then)
        come = begin()
        until(come, 0)
        until(come, len(then))
        has_struck = strikes.count
        strikes.disarm()
        if not has_struck:
            return number
        come = begin()
        wait_until(functools.partial(has_come, come), 5)
