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
        "a message is torn where frames do not say that more follow",
        "transfer/pure.py",
        "    frame.more = bool(option(_RCVMORE))\n",
        "",
        "test_platforms.py",
    ),
    Mutation(
        "what was received is lost for want of memory",
        "transfer/native.pyx",
        "        return self.is_full or self.begun is not None\n",
        "        return False\n",
        "test_memory.py",
    ),
    Mutation(
        "a finaliser receives what is being received",
        "transfer/native.pyx",
        "        cdef int collects = PyGC_Disable()",
        "        cdef int collects = 0",
        "test_signals.py",
    ),
    Mutation(
        "a message that began as bytes goes on as frames",
        "transfer/parts.pxi",
        "    if (type(message[0]) is bytes) != copies:",
        "    if False:",
        "test_signals.py",
    ),
    Mutation(
        "a frame does not say that more follow",
        "transfer/parts.pxi",
        "            set_more(message[index], True)\n",
        "            pass\n",
        "test_transfer.py",
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
        "the collector is woken for each frame that is given back",
        "transfer/lending.pxi",
        "        if (!top && !__atomic_exchange_n(&bell_was_rung, 1, __ATOMIC_ACQ_REL))\n",
        "        if (!top)\n",
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
        "a rule that raises keeps the peer out for good",
        "auth/__init__.py",
        'self._reply(request, _Verdict(b"300", "Internal error"))',
        'self._reply(request, _Verdict(b"400", "Internal error"))',
        "test_auth.py",
    ),
]
