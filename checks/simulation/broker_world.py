"""Processes that ask brokers, whose workers join them and leave, stick and die."""

from typing import ClassVar

from gzmqsource.broker._back import Back
from simulation.asking import Asker
from simulation.brokering import ENDED, NOTICED, Joined, Middle
from simulation.parties_world import PartiesWorld
from simulation.strangers import Stranger
from simulation.world import action, loop


class BrokerWorld(PartiesWorld):
    """All that can become of requests that brokers share out to workers."""

    options: ClassVar = {
        "brokers": [1, 1, 2],
        "workers": [1, 2, 3],
        "askers": [1, 1, 2],
        "spawn": [1, 2, None, "pool", "spawned"],
        "waiting": [0, 3, 100, 100],
        "redelivers": [False, True],
        "named": [False, False, True],
        "deaf": [False, False, True],
        "room": [1, 3, 1000],
        "steady": [False, True],
        "marks": [1, 1000, 1000],
        "delay": range(3),
    }

    possible = PartiesWorld.possible

    # Workers speak all the time, and each second is one of the simulation's.
    last_stop = 6.0
    rounds = 1.5
    # Requests that stop each worker that has them may be given to sixteen, one after the other.
    most_rounds = 150

    def __init__(
        self,
        brokers,
        workers,
        askers,
        spawn,
        waiting,
        redelivers,
        named,
        deaf,
        room,
        steady,
        marks,
        delay,
    ):
        super().__init__(f"{brokers} {workers} {askers} {spawn} {waiting} {marks}", steady, delay)
        self.marks, self.spawning, self.waiting, self.room = marks, spawn, waiting, room
        self.redelivers, self.are_named = redelivers, named
        #: Whether a stranger has said that it is a worker: what is given to it is lost.
        self.has_false_worker = False
        if redelivers:
            self.most_deliveries = 1 + Back.max_redeliveries
        self.workers = []
        self.servers = [Middle(self, index) for index in range(brokers)]
        for index in range(workers):
            self.workers.append(Joined(self, index))
        self.askers = [Asker(self, index) for index in range(askers)]
        self.stranger = Stranger(self, deaf)

    @property
    def parties(self):
        return [*self.askers, *self.servers, *self.workers]

    # Steps of a schedule.

    @action(weight=2, server=possible["server"], timeout=(0.0, 0.3, 5.0, 5.0))
    def stop(self, server, timeout):
        """Stop a broker."""
        super().stop(server, timeout)

    @action(weight=2, worker=range(3), timeout=(0.0, 0.3, 5.0, 5.0))
    def leave_brokers(self, worker, timeout):
        self.workers[worker % len(self.workers)].stop(timeout)

    @action(weight=2, worker=range(3))
    def join_again(self, worker):
        """Start a worker anew that has gone."""
        self.workers[worker % len(self.workers)].restart()

    @action(worker=range(3))
    def lose_worker(self, worker):
        """Let a worker die."""
        self.workers[worker % len(self.workers)].die()

    @action(worker=range(3), server=possible["server"], lost=(0, 1, 1000))
    def cut_off(self, worker, server, lost):
        """Cut the connection of a worker to a broker."""
        worker = self.workers[worker % len(self.workers)]
        worker.cut(self.servers[server % len(self.servers)], lost)

    @action(worker=range(3))
    def hold(self, worker):
        """Let handlers wait."""
        self.workers[worker % len(self.workers)].hold()

    @action(weight=2, worker=range(3))
    def release(self, worker):
        self.workers[worker % len(self.workers)].release()

    @action(server=possible["server"], what=range(7))
    def shout_behind(self, server, what):
        """Let a peer at the back of a broker say something odd, or that it is a worker."""
        back = self.servers[server % len(self.servers)].back
        self.has_false_worker |= self.stranger.join(back, what)

    @action(server=possible["server"])
    def hush(self, server):
        """End the connection of that peer."""
        self.stranger.leave(self.servers[server % len(self.servers)].back)

    # What must be true.

    def has_excuse(self, address, asked, kinds):
        if "killed" in kinds:  # A worker leaves a broker that is stuck, and joins it anew.
            kinds = *kinds, "stuck"
        if super().has_excuse(address, asked, kinds):
            return True
        # The broker says so of what a worker has lost.
        had = (self.had_trouble(each.address, asked.began, asked.ended) for each in self.workers)
        # libzmq drops what one of a name has said, and was not read, when the next one connects.
        follows = (abs(asked.ended - each.began) < ENDED for each in self.workers)
        lost_word = self.are_named and any(follows)
        return "killed" in kinds and (self.has_false_worker or lost_word or any(had))

    def check_rest(self):
        super().check_rest()
        if self._is_calm():
            for worker in self.workers:
                worker.check_shares()

    def bring_back(self):
        super().bring_back()
        for worker in self.workers:
            worker.restart()
            worker.release()

    def stop_all(self):
        for worker in self.workers:
            worker.stop(0.0)
        super().stop_all()

    def _is_calm(self):
        """Tell whether all know of each other: nothing has gone wrong for long enough."""
        since = [each.began for each in (*self.servers, *self.workers)]
        since += [each.ended for each in self.troubles]
        return not self.is_slow and loop.time - max(since) > NOTICED
