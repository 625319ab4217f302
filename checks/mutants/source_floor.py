"""Lines of `_source` that are broken."""

from mutants.mutation import Mutation

SOURCE = [
    Mutation(
        "a forked child handles the parent's batch",
        "_source/core.py",
        "            self.prefetched.clear()\n",
        "",
        "test_fork.py",
    ),
    Mutation(
        "a full pool does not stop the intake",
        "_source/intake.py",
        "                room = min(room, self._pool.free_count())\n",
        "                pass\n",
        "test_back_pressure.py",
    ),
    Mutation(
        "another thread may touch a source",
        "_source/core.py",
        "        if get_hub_if_exists() is not self.hub:\n            raise Invalid",
        "        if False:\n            raise Invalid",
        "test_owner.py",
    ),
    Mutation(
        "a thread's message waits for a peer that is full",
        "_source/core.py",
        "            self.socket.readiness.wake_writers()\n",
        "            pass\n",
        "test_sender.py",
    ),
    Mutation(
        "a message that leaves a lane lets no putter follow",
        "_source/lane.py",
        "        message: Message = self.queue.popleft()\n        self.settle(1)\n",
        "        message: Message = self.queue.popleft()\n",
        "test_lane.py",
    ),
    Mutation(
        "a paused source is pulled by a short cut",
        "_source/core.py",
        " and self.resumed.is_set()\n",
        "\n",
        "test_pulling.py test_edge.py",
    ),
    Mutation(
        "a source that is collected in a thread leaves its senders waiting",
        "_source/core.py",
        "            self.hub.loop.run_callback_threadsafe(self._refuse_putters)\n",
        "            pass\n",
        "test_sender.py",
    ),
    Mutation(
        "a putter that is woken does not queue its message in that step",
        "_source/outbox.py",
        "            first.wake()\n",
        "            self._hub.loop.run_callback(first.wake)\n",
        "test_lane.py test_outbox.py test_unsent.py test_kills.py",
    ),
    Mutation(
        "a newcomer passes the putters",
        "_source/lane.py",
        "return not self.waiting and not self.full()",
        "return not self.full()",
        "test_lane.py",
    ),
    Mutation(
        "the message of a greenlet of another hub is taken",
        "_source/putter.py",
        "get_hub_if_exists() if awaited else None",
        "None",
        "test_unsent.py test_invitations.py",
    ),
    Mutation(
        "a hub that does not answer holds up the others",
        "_source/outbox.py",
        "            if first.timer is None:\n",
        "            if False:\n",
        "test_invitations.py",
    ),
    Mutation(
        "who gives up passes its turn on to nobody",
        "_source/outbox.py",
        "                self._follow(key, lane)\n                raise\n",
        "                raise\n",
        "test_invitations.py",
    ),
    Mutation(
        "a shortcut waits in a hub that was destroyed",
        "_source/puller.py",
        "        self._core.enter()  # the shortcut",
        "        # the shortcut",
        "test_last_look.py",
    ),
]
