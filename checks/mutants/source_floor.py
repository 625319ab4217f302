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
        "_source/receiver.py",
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
]
