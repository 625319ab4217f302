"""Bytes from a peer, made up by atheris: ``make fuzz SECONDS=60`` for each target.

Whatever parses such bytes may only raise `ValueError`. Whatever comes in on a TCP port, a client
that speaks ZeroMQ gets its answers. Nothing of it reaches a terminal that a terminal would obey.
"""

import argparse
import contextlib
import io
import ipaddress
import logging
import pathlib
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable

import atheris
import zmq

with atheris.instrument_imports(include=["gzmqsource"]):
    from gzmqsource import monitor
    from gzmqsource._base.deadline import LONGEST
    from gzmqsource.auth import Authenticator, _addresses
    from gzmqsource.auth._rules import Directory
    from gzmqsource.cli import _log, _numbers, _reading, _security, _sockets, _text, _top
    from gzmqsource.workers import Requester, Responder
    from gzmqsource.workers import _envelope as envelope
    from gzmqsource.workers._header import has_header

from click import ClickException
from gevent import socket
from helpers import endpoint_of
from rich.console import Console

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
    message = frames_of(data) or [b""]
    delimiter = envelope.delimiter_of(message)
    assert all(message[:delimiter])
    for at_router in (False, True):
        header = envelope.header_of(message, delimiter, at_router)
        assert header is None or has_header(message[delimiter - 1])


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


def networks_of(*rules):
    networks = _addresses.Networks()
    networks.add(map(_addresses.network, rules))
    return networks


RULES = networks_of("ipc", "::1", "10.0.0.0/8", "::ffff:0:0/96")


def addresses(data):
    """Parse a rule and an address; a rule for an address is one for both of its spellings."""
    rule, _, address = data.decode(errors="replace").partition("\n")
    assert isinstance(address in RULES, bool)
    network = _addresses.network(rule)
    assert isinstance(address in networks_of(rule), bool)
    if isinstance(network, ipaddress.IPv4Network):
        first = str(network.network_address)
        assert first in networks_of(rule)
        assert f"::ffff:{first}" in networks_of(rule)
        assert first in networks_of(f"::ffff:{first}")


class Keys:
    """A directory of keys, with a file of the fuzzer's beside a good one."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.good = zmq.curve_keypair()[0]
        (self.folder / "good.key").write_bytes(b'public-key = "' + self.good + b'"')
        self.rule = Directory(str(self.folder))
        self.rule.reload()

    def __call__(self, data):
        file = self.folder / "other.key"
        for content in data, b'public-key = "' + data:
            file.write_bytes(content)
            with contextlib.suppress(ValueError):
                self.rule.reload()
            with contextlib.suppress(ClickException):
                _security._keys_in(str(file))
            assert self.rule("", self.good)
            assert not self.rule("", b"")


#: The categories of what a terminal obeys: controls, formats, lone surrogates, ends of lines.
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def assert_harmless(text):
    assert not any(unicodedata.category(each) in OBEYED for each in text), text


def lines(data):
    """Write a message in each format, and read it again."""
    message = frames_of(data) or [b""]
    for name in ("text", "hex", "json"):
        line = b"".join(_text.FORMATS[name](message)).decode()
        assert line.endswith("\n")
        assert_harmless(line[:-1].replace("\t", ""))
    assert _text.from_json(b"".join(_text.FORMATS["json"](message))) == message
    assert all(type(frame) is bytes for frame in _text.from_json(data))


class Terminal:
    """What a verb logs, and what gevent prints."""

    def __init__(self):
        self.formatter = _log.Formatter()
        self.json = _log.JsonFormatter()

    def __call__(self, data):
        for text in data.decode("utf-8", "surrogateescape"), data.decode("utf-16", "replace"):
            record = logging.LogRecord("x", 30, "", 1, "%s", (text,), None, sinfo=text)
            first, *others = self.formatter.format(record).split("\n")
            for line in (first, *others):
                assert_harmless(line)
            assert all(line.startswith("    ") for line in others)
            assert_harmless(self.json.format(record))
            assert_harmless(_text.printable(text))


FIRST = "# TYPE gzmqsource_sources gauge\n"
METRIC = 'gzmqsource_received_messages_total{source="x",type="PULL",endpoint="'


def numbers(data):
    """Show the numbers of a server."""
    text = data.decode(errors="replace")
    for each in text, METRIC + text, METRIC + text + '"} 1\n':
        try:
            now = _reading.Reading.of(each)
        except ValueError:
            continue
        out = io.StringIO()
        try:
            table = _top._table(_reading.Reading.of(FIRST), now)
        except ValueError as error:
            raise AssertionError(each) from error
        Console(file=out, width=100, color_system=None, legacy_windows=False).print(table)
        assert_harmless(out.getvalue().replace("\n", ""))


NUMBERS = [
    _numbers.Seconds(0),
    _numbers.Seconds(0.05),
    _numbers.Seconds(0, min_open=True),
    _numbers.Number(0, min_open=True),
]


def options(data):
    """Pass an option's value: it is used, or refused in a line that a terminal may show."""
    for text in data.decode(errors="surrogateescape"), data.decode("utf-16", "replace"):
        option(text)


def option(text):
    try:
        for number in NUMBERS:
            with refused():
                value = number.convert(text, None, None)
                assert number.min is None or value >= number.min, value
                assert value <= LONGEST or type(number) is _numbers.Number, value
        for endpoint in text, f"tcp://127.0.0.1:{text}":
            with refused():
                _sockets.Endpoint(binds=True).convert(endpoint, None, None)
            with refused():
                _security._check_transports({"front": endpoint, "back": "ipc://x"})
        with refused():
            assert 0 < len(_security._credential("--plain-user", text)) < 256
    except ValueError as error:
        raise AssertionError(text) from error


@contextlib.contextmanager
def refused():
    try:
        yield
    except ClickException as error:
        assert_harmless(_text.printable(error.format_message()))


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
    "addresses": lambda: addresses,
    "keys": Keys,
    "lines": lambda: lines,
    "terminal": Terminal,
    "numbers": lambda: numbers,
    "options": lambda: options,
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
