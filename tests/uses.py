"""Every use of a source that its end, or its owner, makes an error."""

import pytest

USES = {
    "recv": lambda source: source.recv(),
    "recv(block=False)": lambda source: source.recv(block=False),
    "recv_many": lambda source: source.recv_many(3),
    "send": lambda source: source.send(b"message"),
    "send_nowait": lambda source: source.send_nowait(b"message"),
    "flush": lambda source: source.flush(),
    "sender": lambda source: source.sender(),
    "socket": lambda source: source.socket,
    "pause": lambda source: source.pause(),
    "resume": lambda source: source.resume(),
    "start": lambda source: source.start(),
}

uses = pytest.mark.parametrize("use", USES.values(), ids=list(USES))
