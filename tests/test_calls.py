"""The list of calls that eat the edge has no gaps."""

import zmq
from zmq.sugar.socket import Socket as PlainSocket

from gzmqsource import green
from gzmqsource._socket.calls import EAT_THE_EDGE, override_calls
from gzmqsource._socket.view import SourceSocket

#: Public methods of pyzmq's that read no mailbox, or that read it through a listed one.
OTHERS = {
    # What is made of listed calls.
    *("get_hwm", "set_hwm", "get_monitor_socket", "disable_monitor"),
    *("send_json", "send_pyobj", "send_serialized", "send_string", "send_unicode"),
    *("recv_json", "recv_pyobj", "recv_serialized", "recv_string", "recv_unicode"),
    # What leaves the socket alone, or ends it.
    *("close", "fileno", "shadow", "underlying"),
}


def public_methods(cls):
    return {
        name
        for name in dir(cls)
        if not name.startswith("_") and callable(getattr(cls, name)) and name != "FD"
    }


def test_each_public_call_of_pyzmqs_socket_is_listed_or_known_to_be_harmless():
    assert public_methods(PlainSocket) - set(EAT_THE_EDGE) - OTHERS == set()


def test_no_listed_call_is_left_as_it_is():
    for cls in (SourceSocket, green.Socket):
        for name in EAT_THE_EDGE:
            if (cls, name) != (green.Socket, "poll"):  # which goes through the green Poller
                assert getattr(cls, name) is not getattr(PlainSocket, name), (cls, name)


def test_what_is_made_of_listed_calls_makes_them_on_the_socket_itself(context):
    made: list[object] = []

    class Noting(PlainSocket):
        pass

    def noting(name, method):
        def call(*args, **kwargs):
            made.append(name)
            return method(*args, **kwargs)

        return call

    override_calls(Noting, noting)
    with Noting(context, zmq.PAIR) as one, Noting(context, zmq.PAIR) as other:
        one.bind("inproc://calls")
        other.connect("inproc://calls")
        monitors = []
        for call in (
            lambda: one.send_json(1),
            other.recv_json,
            lambda: one.send_pyobj(1),
            other.recv_pyobj,
            lambda: one.send_string("x"),
            other.recv_string,
            lambda: one.send_serialized(1, lambda value: [b"x"]),
            lambda: other.recv_serialized(lambda frames: frames),
            one.get_hwm,
            lambda: one.set_hwm(5),
            lambda: monitors.append(one.get_monitor_socket()),
            one.disable_monitor,  # which waits for ever if the monitor's socket was closed before
        ):
            made.clear()
            call()
            assert made
        monitors[0].close()
