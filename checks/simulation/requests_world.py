"""Processes that ask and processes that answer, which stop, are started anew, stick and die."""

from typing import ClassVar

from simulation.asking import Asker
from simulation.parties_world import PartiesWorld
from simulation.serving import PlainServer, Server
from simulation.strangers import Stranger
from simulation.world import action


class RequestsWorld(PartiesWorld):
    """All that can become of requests that several processes make of several others."""

    options: ClassVar = {
        "servers": [1, 2, 2, 3],
        "askers": [1, 2],
        "spawn": [1, 2, None, "pool", "spawned"],
        "waiting": [0, 1, 3, 100],
        "plain": [0, 0, 0, 1],
        "deaf": [False, False, True],
        "room": [1, 3, 1000],
        "steady": [False, True],
        "marks": [1, 2, 1000],
        "delay": range(3),
    }

    possible = PartiesWorld.possible

    def __init__(self, servers, askers, spawn, waiting, plain, deaf, room, steady, marks, delay):
        super().__init__(f"{servers} {askers} {spawn} {waiting} {marks}", steady, delay)
        self.marks, self.spawning, self.waiting, self.room = marks, spawn, waiting, room
        self.servers = [
            (PlainServer if index < plain else Server)(self, index) for index in range(servers)
        ]
        self.askers = [Asker(self, index) for index in range(askers)]
        self.stranger = Stranger(self, deaf)

    # Steps of a schedule.

    @action(weight=0.7, server=possible["server"])
    def replace(self, server):
        """Put another kind of server in the place of one that has gone."""
        server %= len(self.servers)
        if self.servers[server].is_gone:
            kind = PlainServer if isinstance(self.servers[server], Server) else Server
            self.servers[server] = kind(self, server, self.servers[server].process)

    @action(server=possible["server"])
    def hold(self, server):
        """Let handlers wait."""
        self.servers[server % len(self.servers)].hold()

    @action(weight=2, server=possible["server"])
    def release(self, server):
        self.servers[server % len(self.servers)].release()
