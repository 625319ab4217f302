"""Raising at each moment at which a signal handler could, one after the other."""

import sys

import gevent

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
    """

    def __init__(self, moment, but=()):
        self.left = moment
        self.but = but
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
        if not any(package in code.co_filename for package in PACKAGES):
            return
        if event != "c_return" and code.co_name in self.but:
            return
        self.left -= 1
        if self.left < 0:
            self.place = f"{code.co_name}:{frame.f_lineno} {event} {argument!r:.60}"
            raise Struck


def moments(scenario, at_least, first=0, step=1, most=2000):
    """Run a scenario for each moment, or each so many, until one run ends undisturbed."""
    moment = first
    while place := scenario(moment):
        moment += step
        assert moment < most, place
    assert moment >= at_least
