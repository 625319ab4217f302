"""Lines by which a broker loses nothing, runs nothing twice, and gives no worker too much."""

from mutants.mutation import Mutation

_BROKER = "broker/test_broker.py"
_ENDS = "broker/test_ends_of_brokers.py"
_LOST = "broker/test_lost_workers.py"
_CONNECTIONS = "broker/test_connections_of_workers.py"

BROKER = [
    Mutation(
        "a worker is given more than it takes",
        "broker/_roster.py",
        "            if len(worker.jobs) + 1 < worker.slots:\n",
        "            if True:\n",
        _BROKER,
    ),
    Mutation(
        "a worker that says again what it takes loses its turn",
        "broker/_roster.py",
        "        if len(worker.jobs) < slots:\n",
        "        self.pause(worker)\n        if len(worker.jobs) < slots:\n",
        _BROKER,
    ),
    Mutation(
        "a worker that is silent or leaves is given more",
        "broker/_roster.py",
        "        worker.state = state\n        self.pause(worker)\n",
        "        worker.state = state\n",
        _LOST,
    ),
    Mutation(
        "what is urgent goes last",
        "workers/_jobs.py",
        "self._ranks[max(self._ranks)]",
        "self._ranks[min(self._ranks)]",
        _BROKER,
    ),
    Mutation(
        "a request that a worker has lost waits behind all others",
        "broker/_forwarding.py",
        "        self._line.append(job, first=True)\n",
        "        self._line.append(job)\n",
        _LOST,
    ),
    Mutation(
        "a reply waits for an asker that does not read, and so do all others",
        "broker/_forwarding.py",
        "    waits = False\n",
        "    waits = True\n",
        _BROKER,
    ),
    Mutation(
        "what workers die of is given to all of them",
        "broker/_back.py",
        " and redeliveries < self.max_redeliveries:\n",
        ":\n",
        _LOST,
    ),
    Mutation(
        "a worker that is silent is not told to give up what it had",
        "broker/_back.py",
        "                self._say(worker, Header(Kind.CANCEL, key).encode())\n",
        "                pass\n",
        _LOST,
    ),
    Mutation(
        "a reply to a request that another worker has by now ends it",
        "broker/_back.py",
        "        if job is not None and self._running.get(job) is worker:\n",
        "        if job is not None and job in self._running:\n",
        _LOST,
    ),
    Mutation(
        "what a worker says about a request ends it without giving its place back",
        "broker/_back.py",
        "        if job is not None:\n            self._freed(worker)\n",
        "        pass\n",
        _BROKER,
    ),
    Mutation(
        "a worker that has more to do than it was given is given more",
        "broker/_back.py",
        "        if header.detail == Detail.FULL:",
        "        if False:",
        _BROKER,
    ),
    Mutation(
        "a request of an asker has a key at a worker that means all requests",
        "broker/_back.py",
        "        if not any(key) or key in worker.jobs:\n",
        "        if not key or key in worker.jobs:\n",
        _BROKER,
    ),
    Mutation(
        "a request has the place of one that is yet to end at the same worker",
        "broker/_back.py",
        "        if not any(key) or key in worker.jobs:\n",
        "        if not any(key):\n",
        _LOST,
    ),
    Mutation(
        "a worker has as much as it says, kept in the broker",
        "broker/_back.py",
        "min(header.session, self.max_credit)",
        "header.session",
        _BROKER,
    ),
    Mutation(
        "a stop gives up what waits while no worker is ready",
        "broker/_back.py",
        "    size = UNLIMITED\n",
        "    size = 0\n",
        _ENDS,
    ),
    Mutation(
        "a worker does not learn that its connection is a new one",
        "broker/_back.py",
        "        source.socket.probe_router = 1\n",
        "",
        _CONNECTIONS,
    ),
    Mutation(
        "a worker that is there again is refused its name",
        "broker/_back.py",
        "        source.socket.router_handover = 1\n",
        "",
        _CONNECTIONS,
    ),
    Mutation(
        "what was under way over another connection is waited for",
        "broker/_back.py",
        "        elif header.key == NO_KEY:\n",
        "        elif False:\n",
        _CONNECTIONS,
    ),
    Mutation(
        "what a worker has said before it knew of its connection gives it requests",
        "broker/_back.py",
        "        if header.key == worker.session:\n",
        "        if True:\n",
        _CONNECTIONS,
    ),
    Mutation(
        "each connection that ends has all workers looked at",
        "broker/_watch.py",
        "                    monitor.recv(timeout=0)\n",
        "                    break\n",
        _CONNECTIONS,
    ),
    Mutation(
        "a worker that has a new connection does not say so",
        "workers/_membership.py",
        "            self._sessions[name] = session or NO_KEY\n",
        "            self._sessions[name] = session or self._sessions[name]\n",
        _CONNECTIONS,
    ),
    Mutation(
        "brokers are offered more than a worker takes when it starts",
        "workers/_membership.py",
        "        share, more = divmod(self._slots, len(names))\n",
        "        share, more = divmod(self._slots, len(alive) or 1)\n",
        _CONNECTIONS,
    ),
    Mutation(
        "a redelivered request that expires counts as refused, and its asker has lost it",
        "workers/_handling.py",
        "        if job.end_of_wait is Kind.LOST:\n",
        "        if False:\n",
        "broker/test_redelivered_ends.py",
    ),
]
