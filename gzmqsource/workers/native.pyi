from collections.abc import Callable
from typing import Any, TypeVar

from gzmqsource._source.source import Source
from gzmqsource.workers._calling import Calling
from gzmqsource.workers._calls import AnyCall
from gzmqsource.workers._connection import Connection
from gzmqsource.workers._dispatcher import Dispatcher
from gzmqsource.workers._handling import Handling
from gzmqsource.workers._jobs import Job
from gzmqsource.workers._parts import Parts
from gzmqsource.workers._places import Workers
from gzmqsource.workers._reception import Reception

version: str

_Call = TypeVar("_Call", bound=AnyCall)

class Desk:
    def __init__(
        self, reception: Reception, handling: Handling, parts: Parts, source: Source[Any]
    ) -> None: ...
    def let_begin(self, begin: Callable[[Job], bool]) -> None: ...
    def read(self, message: list[Any]) -> None: ...
    def end(self, job: Job, kind: int, payload: list[Any]) -> None: ...

class Clerk:
    def __init__(self, desk: Desk, workers: Workers, calling: Calling) -> None: ...
    def begin(self, job: Job) -> bool: ...

class Match:
    def __init__(
        self, desk: Desk, back: Any, parts: Parts, forwarding: Handling, worker_class: type
    ) -> None: ...
    def begin(self, job: Job) -> bool: ...
    def read(self, message: list[Any]) -> None: ...

def filled(
    call: _Call, key: bytes, frames: list[Any], timeout: float | None, retries: int
) -> _Call: ...

class Mouth:
    def __init__(self, dispatcher: Dispatcher, most: int, most_bytes: int) -> None: ...
    def begin(self, call: AnyCall) -> None: ...

class Ear:
    def __init__(self, connection: Connection, dispatcher: Dispatcher) -> None: ...
    def read(self, message: list[Any]) -> None: ...
