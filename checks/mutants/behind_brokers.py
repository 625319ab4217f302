"""Lines of brokers, and of workers that have joined one, that are broken; a simulation notices."""

from mutants.mutation import BROKER_SIMULATION, Mutation

BEHIND_BROKERS = [
    Mutation(
        "a worker's slot is not free again after a cancellation",
        "broker/_back.py",
        "        job = worker.jobs.pop(header.key, None)\n",
        "        job = worker.jobs.get(header.key)\n",
        BROKER_SIMULATION,
    ),
    Mutation(
        "what a worker has said is not read once its connection has ended",
        "broker/_back.py",
        "            return  # there may be replies to read; the JOIN will be repeated\n",
        "            worker = None\n",
        BROKER_SIMULATION,
    ),
    Mutation(
        "a worker that is silent is given more",
        "broker/_back.py",
        "        self.roster.withdraw(worker, State.SILENT)\n",
        "        self.roster.slots -= worker.slots\n        worker.state = State.SILENT\n",
        BROKER_SIMULATION,
    ),
    Mutation(
        "a worker gets more than it takes",
        "broker/_roster.py",
        "            if len(worker.jobs) + 1 < worker.slots:\n",
        "            if len(worker.jobs) < worker.slots:\n",
        BROKER_SIMULATION,
    ),
    Mutation(
        "what a worker has refused is not given to another",
        "broker/_back.py",
        "                self._forwarding.take_back(job)\n        if",
        "                pass\n        if",
        BROKER_SIMULATION,
    ),
    Mutation(
        "a worker disconnects a socket that is closed",
        "workers/_membership.py",
        "        if self._source.closed:\n            return\n",
        "",
        BROKER_SIMULATION,
    ),
    Mutation(
        "a worker does not join a broker again that starts again within the process",
        "workers/_membership.py",
        "        if is_gone and not self._source.closed:\n",
        "        if False:\n",
        "broker/test_ends_of_brokers.py",
    ),
    Mutation(
        "a worker cannot leave a broker that libzmq has forgotten",
        "workers/_membership.py",
        "        if error.errno != errno.ENOENT:\n",
        "        if True:\n",
        "broker/test_ends_of_brokers.py",
    ),
    Mutation(
        "who has let a responder go is told on that its hub lives",
        "workers/_pulse.py",
        "(leaving and not asker.has_left)",
        "leaving",
        "workers/test_responder_liveness.py",
    ),
    Mutation(
        "what workers have counts as running after the end of the broker",
        "broker/broker.py",
        "        self._farewell.give_up()",
        "        pass",
        BROKER_SIMULATION,
    ),
    Mutation(
        "a request that a worker has begun is refused",
        "workers/_jobs.py",
        "        return Kind.LOST if self.redeliveries else Kind.REFUSED\n",
        "        return Kind.REFUSED\n",
        BROKER_SIMULATION,
    ),
]
