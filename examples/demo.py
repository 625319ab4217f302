"""A greenlet server under load: real client processes send over TCP and expect every answer.

The server, a `Source` on a ROUTER socket, runs in this process, beside a greenlet that ticks each
millisecond. The clients run in processes of their own. The exit status is 1 if anything was lost.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import zlib

import gevent
import gevent.subprocess
import zmq

from gzmqsource import Source

TIMEOUT = 120  # seconds for the whole run


def checksum(text):
    return b"%08x" % zlib.crc32(text)


def question(number):
    text = b"question %d" % number
    return [text, checksum(text)]


def answer(text):
    return [text, checksum(text[::-1])]


def client(endpoint, count):
    """Send *count* questions, check each answer, and print what became of them."""
    source = Source.open(zmq.DEALER, connect=endpoint)
    asking = gevent.spawn(lambda: [source.send(question(n)) for n in range(count)])
    missing = {question(n)[0] for n in range(count)}
    wrong = 0
    with gevent.Timeout(TIMEOUT, False):
        while missing:
            reply = source.recv()
            text = reply[0]
            if text in missing and reply == answer(text):
                missing.remove(text)
            else:
                wrong += 1
    asking.kill()
    source.stop()
    print(json.dumps({"answered": count - len(missing), "wrong": wrong}))


class Ticker:
    """A greenlet that wants to run each millisecond, and notes how late it was."""

    def __init__(self):
        self.delays = []
        self.greenlet = gevent.spawn(self.run)

    def run(self):
        while True:
            due = time.perf_counter() + 0.001
            gevent.sleep(0.001)
            self.delays.append(time.perf_counter() - due)


def show_progress(source, total, started):
    stats = source.stats()
    rate = (stats.received + stats.sent) / (time.perf_counter() - started)
    done = 100 * stats.sent // total
    line = f"{done:3d} %  in {stats.received:>8}  out {stats.sent:>8}  {rate:>9,.0f} messages/s"
    print(f"\r{line}", end="", flush=True)


def keep_showing_progress(source, total, started):
    while True:
        show_progress(source, total, started)
        gevent.sleep(0.1)


def serve(clients, count):
    """Run the server and its clients; return the exit status."""
    total = clients * count

    def handle(message):
        peer, text, check = message
        if check == checksum(text):
            source.send([peer, *answer(text)])

    source = Source.open(zmq.ROUTER, handle, bind="tcp://127.0.0.1:*", router_mandatory=1)
    source.start()
    endpoint = source.socket.LAST_ENDPOINT.decode()
    print(f"serving {clients} client processes on {endpoint}, {count} questions each")
    command = [sys.executable, __file__, "--client", endpoint, "--count", str(count)]
    processes = [
        gevent.subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(clients)
    ]
    started = time.perf_counter()
    ticker = Ticker()
    progress = gevent.spawn(keep_showing_progress, source, total, started)
    results = [json.loads(process.communicate(timeout=TIMEOUT)[0]) for process in processes]
    seconds = time.perf_counter() - started
    ticker.greenlet.kill()
    progress.kill()
    show_progress(source, total, started)
    unsent = source.stop()
    stats = source.stats()
    answered = sum(result["answered"] for result in results)
    wrong = sum(result["wrong"] for result in results)
    lost = total - answered
    late = sorted(ticker.delays)
    print("\n")
    for name, value in {
        "messages in": f"{stats.received:,}",
        "messages out": f"{stats.sent:,}",
        "rate": f"{(stats.received + stats.sent) / seconds:,.0f} messages/s",
        "answers right": f"{answered:,} of {total:,}",
        "answers wrong": f"{wrong:,}",
        "lost": f"{lost:,}",
        "ticks": f"{len(late):,}",
        "tick late, median": f"{1000 * statistics.median(late):.2f} ms",
        "tick late, 99 %": f"{1000 * late[len(late) * 99 // 100]:.2f} ms",
        "tick late, worst": f"{1000 * late[-1]:.2f} ms",
    }.items():
        print(f"{name:<20}{value:>24}")
    return 1 if lost or wrong or unsent else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=3, help="client processes")
    parser.add_argument("--count", type=int, default=20_000, help="questions of each client")
    parser.add_argument("--client", metavar="ENDPOINT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        client(arguments.client, arguments.count)
        return 0
    return serve(arguments.clients, arguments.count)


if __name__ == "__main__":
    sys.exit(main())
