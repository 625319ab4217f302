"""The numbers of a worker, as its master takes them from the line to it."""

from __future__ import annotations

from base64 import b64decode

from gevent.event import AsyncResult

from gzmqsource.cli._fleet.words import END, MOST, NUMBERS, without_words


class Answers:
    """The answers of a worker, one at a time.

    A worker that owes an answer is not asked again. So a line that the worker does not read has
    one question at most, and all callers that ask meanwhile wait for the same answer.
    """

    #: The most characters of an answer.
    most = MOST * 4 // 3 + 4

    def __init__(self) -> None:
        #: Whether an answer is to come.
        self.owed = False
        self._waited_for: AsyncResult[str | None] = AsyncResult()
        self._body: bytearray | None = None

    def next(self) -> AsyncResult[str | None]:
        """Return the next answer once it comes: a text, or None if there is none."""
        if not self.owed:
            self.owed = True
            self._waited_for = AsyncResult()
        return self._waited_for

    def take(self, data: bytes) -> bytes:
        """Take the bytes of an answer from the data, and return the rest."""
        rest = b""
        while data:
            if self._body is None:
                before, begun, data = data.partition(NUMBERS)
                rest += before
                if begun:
                    self._body = bytearray()
                continue
            part, ended, data = data.partition(END)
            if len(self._body) <= self.most:
                self._body += without_words(part)
            if ended:
                self._tell(self._body)
        return rest

    def give_up(self) -> None:
        """Wake all callers that wait: there are no more answers."""
        self._tell(b"")

    def _tell(self, body: bytes | bytearray) -> None:
        fits = 0 < len(body) <= self.most
        text = b64decode(body).decode() if fits else None
        self.owed, self._body = False, None
        self._waited_for.set(text)
