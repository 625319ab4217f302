"""Clients that ask all the time, and what became of each request."""

import itertools

import gevent

from gzmqsource import SourceClosed
from gzmqsource.workers import PeerLost


class Clients:
    """Greenlets that ask, one request after another, until they are told or an error comes.

    Parameters
    ----------
    requester : Requester
        Whom they ask.
    count : int
        How many they are.
    patient : bool
        Whether one goes on after its request was lost.
    """

    def __init__(self, requester, count=200, patient=False):
        self.requester = requester
        self.answers = {}
        self.errors = []
        self.told = False
        self._patient = patient
        self._numbers = itertools.count()
        self._greenlets = [gevent.spawn(self._ask) for _ in range(count)]

    def _ask(self):
        while not self.told:
            number = b"%d" % next(self._numbers)
            try:
                self.answers[number] = self.requester.request(number, timeout=10)
            except (PeerLost, SourceClosed) as error:
                self.errors.append(error)
                if not self._patient or isinstance(error, SourceClosed):
                    return

    def join(self):
        """Wait for the last answers."""
        self.told = True
        gevent.joinall(self._greenlets, timeout=20, raise_error=True)
