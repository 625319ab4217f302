"""Greenlets on one Poller, of sockets and descriptors that come, go and change all the time."""

import os
import random
import socket as native

import gevent
import pytest
import zmq
from helpers import unique_inproc

from gzmqsource.testing import all_blocked, no_leaks, wait_until

POLLERS = 5
STEPS = 400


class Socket:
    """A PULL with its PUSH."""

    def __init__(self, context):
        self.key, self._push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        name = unique_inproc()
        self.key.bind(name)
        self._push.connect(name)
        self.name = self.key

    def send(self):
        self._push.send(b"x")

    def take(self):
        """Take one message; return whether another greenlet has left one."""
        try:
            self.key.recv(zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def close(self):
        self.key.close(0)
        self._push.close(0)


class Descriptor:
    """An end of a pipe or a socket pair, as a number or an object."""

    def __init__(self, as_object):
        self._ends = native.socketpair()
        for end in self._ends:
            end.setblocking(False)
        self.key = self._ends[0] if as_object else self._ends[0].fileno()
        self.name = self._ends[0].fileno()

    def send(self):
        os.write(self._ends[1].fileno(), b"x")

    def take(self):
        try:
            return os.read(self.name, 1) == b"x"
        except BlockingIOError:
            return False

    def close(self):
        for end in self._ends:
            end.close()


class Crowd:
    """What is polled by a few greenlets, which take all that is sent."""

    def __init__(self, green, context, plain):
        self.poller = green.Poller()
        self._makers = [
            lambda: Socket(context),
            lambda: Socket(context),
            lambda: Socket(plain),
            lambda: Descriptor(False),
            lambda: Descriptor(True),
        ]
        #: By what a poll answers.
        self.members = {}
        self.sent = self.taken = 0
        self.polling = [gevent.spawn(self._poll) for _ in range(POLLERS)]

    def _poll(self):
        while True:
            try:
                events = self.poller.poll()
            except zmq.ZMQError as error:
                if error.errno != zmq.ENOTSOCK:  # closed before it was unregistered
                    raise
                gevent.sleep(0)
                continue
            if not events:
                assert not self.poller.sockets  # a poll of nothing ends at once
                gevent.sleep(0.001)
                continue
            for name, mask in events:
                member = self.members.get(name)
                if member is not None and mask & zmq.POLLIN:
                    self.taken += member.take()

    def add(self, chosen):
        member = chosen.choice(self._makers)()
        self.members[member.name] = member
        self.poller.register(member.key, zmq.POLLIN)

    def send(self, chosen):
        self.sent += 1
        chosen.choice(list(self.members.values())).send()

    def change(self, chosen):
        member = chosen.choice(list(self.members.values()))
        self.poller.modify(member.key, zmq.POLLERR)
        gevent.sleep(0)
        self.poller.modify(member.key, zmq.POLLIN)

    def remove(self, chosen):
        self.settle()
        member = self.members.pop(chosen.choice(list(self.members)))
        if isinstance(member, Socket) and chosen.random() < 0.5:
            member.close()
            if chosen.random() < 0.5:
                gevent.sleep(0)
            self.poller.unregister(member.key)
        else:
            self.poller.unregister(member.key)
            member.close()

    def again(self, chosen):
        member = chosen.choice(list(self.members.values()))
        self.poller.unregister(member.key)
        if chosen.random() < 0.5:
            all_blocked(1)
        self.poller.register(member.key, zmq.POLLIN)

    def settle(self):
        wait_until(lambda: self.taken == self.sent)

    def close(self):
        for member in self.members.values():
            self.poller.unregister(member.key)
            member.close()
        self.members.clear()
        gevent.killall(self.polling)


@pytest.mark.parametrize("size", [3, 20])
@pytest.mark.parametrize("seed", range(3))
def test_all_that_is_sent_is_heard_of(green, context, size, seed):
    with zmq.Context() as plain:
        for each in (context, plain):
            each.socket(zmq.PULL).close()  # what a context makes once is no leak
        with no_leaks():
            _run(Crowd(green, context, plain), size, random.Random(seed))


def _run(crowd, size, chosen):
    try:
        for _ in range(size):
            crowd.add(chosen)
        for _ in range(STEPS):
            steps = [crowd.send, crowd.send, crowd.send, crowd.change, crowd.again]
            if len(crowd.members) > size // 2:
                steps.append(crowd.remove)
            if len(crowd.members) < 2 * size:
                steps.append(crowd.add)
            chosen.choice(steps)(chosen)
            if chosen.random() < 0.3:
                all_blocked(1)
        crowd.settle()
        all_blocked(20)  # it would not return if they went on looking
        assert not any(greenlet.ready() for greenlet in crowd.polling)
    finally:
        crowd.close()  # pollers that are left would starve all later tests
