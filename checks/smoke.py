"""Send a message through the gzmqsource that is installed: ``smoke.py [native|pure]``.

The exit status is 1 if the message is lost, or if another transfer is in use than the one named,
by default the native one. There is no ``assert`` here, as it runs under ``-O``, too.
"""

import sys

import zmq

from gzmqsource import Source, green, transfer

MESSAGE = [b"smoke", b"test"]


def through_a_source():
    with (
        Source.open(zmq.PULL, bind="tcp://127.0.0.1:*") as pull,
        Source.open(zmq.PUSH, connect=pull.socket.get_string(zmq.LAST_ENDPOINT)) as push,
    ):
        push.send(MESSAGE)
        return pull.recv(timeout=10)


def through_the_drop_in():
    with (
        green.Context() as context,
        context.socket(zmq.PAIR) as one,
        context.socket(zmq.PAIR) as other,
    ):
        one.bind("inproc://smoke")
        other.connect("inproc://smoke")
        one.send_multipart(MESSAGE)
        return other.recv_multipart()


if __name__ == "__main__":
    for received in (through_a_source(), through_the_drop_in()):
        if received != MESSAGE:
            raise SystemExit(f"sent {MESSAGE}, received {received}")
    wanted = sys.argv[1] if len(sys.argv) > 1 else "native"
    if transfer.backend != wanted:
        raise SystemExit(f"the transfer is {transfer.backend}, not {wanted}: {transfer.reason}")
