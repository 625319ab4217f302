"""Bytes from a peer, made up by atheris: ``make fuzz SECONDS=60`` for each target.

Whatever parses such bytes may only raise `ValueError`. Whatever comes in on a TCP port, a client
that speaks ZeroMQ gets its answers.
"""

import argparse
import contextlib
import logging
import subprocess
import sys
from collections.abc import Callable

import atheris
import zmq

with atheris.instrument_imports(include=["gzmqsource"]):
    from gzmqsource import monitor
    from gzmqsource.auth import Authenticator
    from gzmqsource.workers import Requester, Responder
    from gzmqsource.workers import _envelope as envelope

from gevent import socket
from helpers import endpoint_of

#: What ZMTP 3 begins with, so that a fuzzer gets past it.
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL"


def frames_of(data):
    """Make a message of what the fuzzer gives: each frame after a byte with its length."""
    frames = []
    while data:
        size = data[0] % 64
        frames.append(bytes(data[1 : 1 + size]))
        data = data[1 + size :]
    return frames


def split(data):
    head, payload = envelope.split(frames_of(data))
    assert not head[-1]
    assert payload


def errors(data):
    envelope.error_in([envelope.ERROR, *frames_of(data)])


class Zap:
    """An authenticator, asked in the place of libzmq."""

    def __init__(self):
        self.authenticator = Authenticator(zmq.Context.instance())
        self.authenticator.configure_plain(passwords={"name": "password"})
        self.authenticator.configure_curve()
        self.authenticator.deny("198.51.100.0/24")
        self.authenticator.start()

    def __call__(self, data):
        frames = frames_of(data)
        for message in frames, [b"peer", b"", b"1.0", b"1", *frames]:
            self.authenticator._asked(message)
        for mechanism in b"PLAIN", b"CURVE":
            start = [b"peer", b"", b"1.0", b"1", b"", b"::1", b"", mechanism]
            self.authenticator._asked(start + frames)


def events(data):
    str(monitor.decode(frames_of(data)))


class Port:
    """A responder behind a TCP port on which anything may come in."""

    def __init__(self):
        self.responder = Responder.open(lambda payload: payload, bind="tcp://127.0.0.1:*")
        self.responder.start()
        endpoint = endpoint_of(self.responder.source)
        self.requester = Requester.open(connect=endpoint)
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self.address = host, int(port)

    def __call__(self, data):
        garbage = GREETING + data if data[:1] < b"\x80" else data
        with contextlib.suppress(OSError), socket.create_connection(self.address) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
        assert self.requester.request(b"still there?", timeout=10) == [b"still there?"]


#: What makes each target.
TARGETS: dict[str, Callable[[], Callable[[bytes], object]]] = {
    "envelope": lambda: split,
    "error": lambda: errors,
    "zap": Zap,
    "monitor": lambda: events,
    "port": Port,
}


def fuzz(name, seconds):
    """Fuzz one target in this process, which libFuzzer ends."""
    target = TARGETS[name]()
    logging.disable()  # of what the fuzzer does wrong

    def test_one_input(data):
        with contextlib.suppress(ValueError):
            target(data)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096"], test_one_input)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", choices=list(TARGETS))
    options = parser.parse_args()
    if options.target:
        fuzz(options.target, options.seconds)
    for name in TARGETS:
        command = [sys.executable, __file__, "--seconds", str(options.seconds), "--target", name]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            print(finished.stderr[-4000:])
            print(f"{name}: broken")
            return 1
        done = [line for line in finished.stderr.splitlines() if line.startswith("Done")]
        print(f"{name:10} {done[-1]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
