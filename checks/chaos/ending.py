"""A process that ends in the midst of everything, while C's own exit takes its time.

It sends large frames, which are lent to libzmq, through a source to the endpoint in its arguments,
and has sources with handlers, requests under way, a monitor, a proxy and a thread that sends. After
some time, also of the arguments, it ends in one of `WAYS`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

import gevent
import zmq

from chaos.peer import message_of, say
from gzmqsource import Source, green
from gzmqsource.monitor import Monitor
from gzmqsource.proxy import Proxy
from gzmqsource.workers import Requester, Responder

#: Bytes of a frame that is lent, and how many such messages there are.
BIG, MESSAGES = 1 << 19, 12

#: Microseconds that C's exit takes once the interpreter has ended.
SLOW = 200_000


def endpoint_of(source):
    return source.socket.LAST_ENDPOINT.decode()


def send_big(endpoint):
    source = Source.open(zmq.PUSH, connect=endpoint, sndbuf=4096, outbox=4)
    for number in range(MESSAGES):
        source.send(message_of(number, BIG))
    return source


def send_green(endpoint):
    context: green.Context = green.Context.instance()
    socket = context.socket(zmq.PUSH)
    socket.connect(endpoint)
    while True:
        socket.send_multipart([bytes(BIG)], copy=False, track=True).wait()


def send_in_thread(sender):
    while True:
        sender.send(bytes(BIG))


def handle(message):
    gevent.sleep(0.001)
    return message


def watch(source):
    return list(Monitor(source))


def ask(requester):
    while True:
        requester.request(b"x" * 1000)


def begin(endpoint):
    """Start all; what is returned is open until the end."""
    started = [gevent.spawn(send_big, endpoint)]
    sink = Source.open(zmq.PULL, handle, bind="tcp://127.0.0.1:*", rcvhwm=1, spawn=3)
    sink.start()
    responder = Responder.open(handle, bind="tcp://127.0.0.1:*")
    responder.start()
    requester = Requester.open(endpoint_of(responder.source))
    started += [gevent.spawn(ask, requester) for _ in range(10)]
    started += [gevent.spawn(send_green, endpoint_of(sink)), gevent.spawn(watch, sink)]
    plain: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    ends = [plain.socket(kind) for kind in (zmq.PULL, zmq.PUSH)]
    ends[0].bind("inproc://front")
    ends[1].connect(endpoint_of(sink))
    proxy = Proxy(*ends)
    proxy.start()
    push = Source.open(zmq.PUSH, connect="inproc://front", outbox=4)
    threading.Thread(target=send_in_thread, args=(push.sender(),), daemon=True).start()
    return started, sink, responder, requester, proxy, push


def fail():
    raise RuntimeError("an error of the program")


def fork():
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def raise_in_greenlet():
    gevent.spawn(sys.exit).join()


#: How it ends, and the exit status.
WAYS = {
    "at its last line": (lambda: None, 0),
    "by sys.exit": (sys.exit, 0),
    "by sys.exit in a greenlet": (raise_in_greenlet, 0),
    "by an error": (fail, 1),
    "by SIGINT": (lambda: os.kill(os.getpid(), signal.SIGINT), -signal.SIGINT),
    "after its context": (lambda: zmq.Context.instance().destroy(0), 0),
    "after its hub": (lambda: gevent.get_hub().destroy(True), 0),
    "in a forked child": (fork, 0),
}


def main():
    way, seconds, endpoint = sys.argv[1:]
    libc = ctypes.CDLL(None)
    libc.__cxa_atexit(libc.usleep, SLOW, None)
    held = begin(endpoint)
    say(endpoint)
    gevent.sleep(float(seconds))
    WAYS[way][0]()
    return held


if __name__ == "__main__":
    HELD = main()
