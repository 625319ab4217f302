"""Lines of the transfers, the workers and the tools that are broken."""

from mutants.mutation import SIMULATION, Mutation

OTHERS = [
    Mutation(
        "a message leaves the outbox before libzmq has taken it",
        "transfer/pure.py",
        "                    if not self.send_one(message):\n"
        "                        ending = True\n"
        "                        break\n                    lane.popleft()\n",
        "                    lane.popleft()\n                    if not self.send_one(message):\n"
        "                        ending = True\n                        break\n",
        "test_outbox.py test_send.py",
        transfer="pure",
    ),
    Mutation(
        "a message whose pipe died is not begun again",
        "transfer/pure.py",
        "            while 0 < sent < len(message):",
        "            while False:",
        "test_transfer.py test_send.py green/test_faults.py",
        transfer="pure",
    ),
    Mutation(
        "a message that libzmq drops is not ended first",
        "transfer/pure.py",
        "                if self._dropping and sent < len(message) - 1:\n",
        "                if False:\n",
        SIMULATION,
        transfer="pure",
    ),
    Mutation(
        "what was received is lost for want of memory",
        "transfer/native.pyx",
        "        return self.is_full or self.begun is not None\n",
        "        return False\n",
        "test_memory.py",
    ),
    Mutation(
        "the frames after a routing id are not copied",
        "transfer/native.pyx",
        "                if is_copied(frame):\n",
        "                if index == 0 and is_copied(frame):\n",
        "test_transfer.py",
    ),
    Mutation(
        "what a refused message had before it stays in its lane",
        "transfer/native.pyx",
        "                    lane.popleft()\n",
        "                    pass\n",
        "test_transfer.py",
    ),
    Mutation(
        "lent frames are given back by an interpreter that has ended",
        "transfer/lending.pxi",
        "            PyThread_release_lock(collector_bell);\n",
        "            Py_AddPendingCall((int (*)(void *)) let_go_of_returned, NULL);\n",
        "test_lending.py",
    ),
    Mutation(
        "a shortcut joins the frames of two greenlets",
        "transfer/shortcuts.pxi",
        "        current = getcurrent()\n        begun = self.partial.get(current)\n",
        "        current = None\n        begun = self.partial.get(current)\n",
        "green/test_whole_messages.py",
    ),
    Mutation(
        "a shortcut knows no bound in bytes",
        "transfer/shortcuts.pxi",
        "            or self.sizes.total + size > self.sizes.most\n",
        "",
        "test_bounds.py",
    ),
    Mutation(
        "a message has any number of frames",
        "transfer/native.pyx",
        "                if len(self.begun) >= self.max_frames or not self.may_be():\n",
        "                if not self.may_be():\n",
        "test_oversized.py",
    ),
    Mutation(
        "a message that is too large is discarded at once",
        "transfer/pure.py",
        "        for _ in range(MOST_DISCARDED):\n",
        "        while True:\n",
        "test_oversized.py",
        transfer="pure",
    ),
    Mutation(
        "a killed greenlet's request stays in the table",
        "workers/requester.py",
        "            if self._take(call.frames[0]) is not None and not self._source.closed:\n"
        "                self._source.withdraw(call.frames)\n",
        "            pass\n",
        "workers",
    ),
    Mutation(
        "who was answered is told that the peer was lost",
        "workers/requester.py",
        "            self._hear_out()\n            for call in in_turns(asked):\n",
        "            for call in in_turns(asked):\n",
        "workers",
    ),
    Mutation(
        "a rule that raises keeps the peer out for good",
        "auth/__init__.py",
        'self._reply(request, _Verdict(b"300", "Internal error"))',
        'self._reply(request, _Verdict(b"400", "Internal error"))',
        "test_auth.py",
    ),
    Mutation(
        "a request expires although its reply is there",
        "workers/_clock.py",
        "            self._look()\n",
        "            pass\n",
        "workers/test_clock.py test_last_look.py",
    ),
    Mutation(
        "calls that expire at once hold up the hub",
        "workers/_clock.py",
        "                yield_to_io(gevent.get_hub())\n",
        "                pass\n",
        "workers/test_many_calls.py",
    ),
    Mutation(
        "calls of a requester that closes end in one turn",
        "workers/_turns.py",
        "        if not number % TURN:\n",
        "        if False:\n",
        "workers/test_many_calls.py",
    ),
    Mutation(
        "calls of other threads wait until those of this one have ended",
        "workers/requester.py",
        "        self._fail(call for call in calls if isinstance(call, ForeignCall))\n",
        "",
        "workers/test_many_calls.py",
    ),
    Mutation(
        "cancelled deadlines pile up",
        "workers/_clock.py",
        "            if len(self._ticks) > self.slack + 2 * len(self._calls):\n",
        "            if False:\n",
        "workers/test_clock.py workers/test_many_calls.py",
    ),
]
