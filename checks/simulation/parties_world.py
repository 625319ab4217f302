"""What worlds have in common in which processes ask, and others answer."""

import dataclasses
import itertools
import math
import random
from typing import Any, ClassVar

from gzmqsource._base import turns
from gzmqsource.broker import _watch
from gzmqsource.workers import _link
from simulation.asking import Monitor
from simulation.loop import Process
from simulation.world import STALLS, World, action, check, loop

for _module in _link, _watch:
    vars(_module)["Monitor"] = Monitor

#: What handlers do.
MOODS = ("answer", "answer", "answer", "raise", "wait", "sleep", "doze")

#: The processes, whose loops outlive the worlds as the first one does.
_processes: list[Process] = []


@dataclasses.dataclass
class Trouble:
    """What goes wrong at a server or an asker, for some time."""

    kind: str
    party: object
    began: float
    ended: float = math.inf


class PartiesWorld(World):
    """Requests that several processes make of several others.

    A subclass makes the askers, the servers that they ask, and whoever else there is.
    """

    #: How many servers and askers there can be.
    possible: ClassVar = {"server": range(3), "asker": range(2)}

    #: The handlers' moods from which each request has one.
    moods = (*MOODS, *MOODS, "exit", "stop")

    #: For how many seconds a stop may go on that has begun before the end.
    last_stop = 40.0

    #: After how many seconds it is looked whether all requests have ended.
    rounds = 3.0

    #: How often, at most.
    most_rounds = 40

    #: To how many handlers a request may be given in one attempt.
    most_deliveries = 1

    servers: list[Any]
    askers: list[Any]
    stranger: Any

    def __init__(self, seed, steady, delay):
        super().__init__(delay)
        random.seed(seed)
        turns._here.turns = None
        self.network = self.simulated.network
        self.requests = {}
        self.asked = itertools.count()
        #: What went wrong, that may excuse what becomes of a request.
        self.troubles = []
        self.is_steady = steady
        self._free = list(_processes)
        self.processes = []
        #: Since when processes are stuck, or have run again after that.
        self.stuck_since = {}
        self.running_since = {}

    @property
    def parties(self):
        """All who have a process."""
        return [*self.askers, *self.servers]

    def new_process(self):
        """Give a process that does nothing yet."""
        if not self._free:
            self._free.append(Process(loop.shared))
            _processes.append(self._free[-1])
        process = self._free.pop(0)
        process.is_stuck = False
        vars(process.hub).pop("gzmqsource_slice", None)
        process.hub.handle_error = self._note_failure
        self.processes.append(process)
        return process

    # Steps of a schedule.

    @action(weight=8, which=range(5), things=range(1, 6))
    def step(self, which, things):
        """Let a process run so many things: callbacks, watchers, timers."""
        self.processes[which % len(self.processes)].step(things)

    @action(weight=5, messages=(1, 2, 5))
    def carry(self, messages):
        """Let the network do so many things."""
        self.network.carry(messages)

    @action(weight=4)
    def settle(self):
        """Let everything happen that needs no timeout, and check what must be true then."""
        self._run_for(self.confirmed)
        self.check_rest()

    @action(weight=3, seconds=(0.002, 0.2, 0.4, 1.5, 1.5, 5.0))
    def advance(self, seconds):
        """Let the time pass."""
        self._run_for(seconds)

    @action(seconds=(0.002, 0.02, 0.3, 1.5))
    def hold_up(self, seconds):
        """Let the time pass while no process runs."""
        if not self.is_steady:
            self.is_slow = True
            loop.time += seconds

    @action(weight=2, calls=range(1, 40), seconds=STALLS)
    def stall(self, calls, seconds):
        super().stall(calls, seconds)

    @action(weight=4, calls=range(1, 60), which=range(6), things=range(1, 20))
    def go_on(self, calls, which, things):
        """Let another process or the network run, just before one of the next calls."""

        def run():
            if which < len(self.processes):
                self.processes[which].step(things)
            else:
                self.network.carry(things)

        self.happen_later(calls, run)

    @action(
        weight=12,
        asker=possible["asker"],
        timeout=(None, None, 0.01, 0.35, 0.5, 3.0),
        retries=(0, 0, 1, 3),
        mood=moods,
        count=(1, 1, 1, 4),
    )
    def ask(self, asker, timeout, retries, mood, count=1):
        for _ in range(count):
            self.askers[asker % len(self.askers)].ask(timeout, retries, mood)

    @action(weight=2, asker=possible["asker"], which=range(6))
    def kill(self, asker, which):
        """Kill a greenlet that asks, wherever it is."""
        self.askers[asker % len(self.askers)].kill(which)

    @action(weight=0.4, asker=possible["asker"], timeout=(None, 0.0, 0.5, 5.0))
    def leave(self, asker, timeout):
        """Stop a requester, or close it."""
        self.askers[asker % len(self.askers)].leave(timeout)

    @action(weight=2, server=possible["server"], timeout=(0.0, 0.3, 5.0, 5.0, 30.0))
    def stop(self, server, timeout):
        """Stop a server."""
        self.servers[server % len(self.servers)].stop(timeout)

    @action(weight=2, server=possible["server"])
    def restart(self, server):
        """Start a server anew that has gone, at the same address."""
        self.servers[server % len(self.servers)].restart()

    @action(weight=0.7, server=possible["server"])
    def die(self, server):
        self.servers[server % len(self.servers)].die()

    @action(weight=2, which=range(5))
    def stick(self, which):
        """Let a process run no more."""
        process = self.processes[which % len(self.processes)]
        if not process.is_stuck:
            self.stuck_since[process] = loop.time
        process.is_stuck = True
        for each in self.parties:
            if each.process is process:
                self.note_trouble("stuck", getattr(each, "address", each))

    @action(weight=2)
    def unstick(self):
        """Let all processes run again."""
        for process in list(self.stuck_since):
            self.let_run(process)

    def let_run(self, process):
        """Let a process run again, if it is stuck."""
        if self.stuck_since.pop(process, None) is not None:
            self.running_since[process] = loop.time
            process.is_stuck = False

    @action(weight=0.7, asker=possible["asker"], server=possible["server"])
    def cut(self, asker, server):
        """Cut the connection of an asker to a server."""
        server = self.servers[server % len(self.servers)]
        server.note_trouble("cut")
        self.askers[asker % len(self.askers)].cut(server.address)

    @action(weight=2, server=possible["server"], what=range(9))
    def shout(self, server, what):
        """Let a peer say something odd, or ask in its own way."""
        self.stranger.say(self.servers[server % len(self.servers)].address, what)

    # What must be true.

    def note_trouble(self, kind, party, since=None):
        """Note that something goes wrong at a server or an asker, up to the next rest."""
        self.troubles.append(Trouble(kind, party, loop.time if since is None else since))

    def had_trouble(self, party, since, until, kinds=None):
        """Tell whether something went wrong there, or time leaped, between two times."""
        return self.is_slow or any(
            each.party == party and each.began <= until and since <= each.ended + 0.5
            for each in self.troubles
            if kinds is None or each.kind in kinds
        )

    def has_excuse(self, address, asked, kinds):
        """Tell whether a request may have been lost with a server, for one of these reasons."""
        return self.had_trouble(address, asked.began, asked.ended, kinds)

    @property
    def is_stuck(self):
        return any(process.is_stuck for process in self.processes)

    def check_rest(self):
        super().check_rest()
        if not self.is_stuck:
            for trouble in self.troubles:
                trouble.ended = min(trouble.ended, loop.time)
        for each in self.parties:
            each.check_rest()

    def finish(self):
        """Let all requests end, close everything, and count."""
        self._accidents.clear()
        self.unstick()
        for _ in range(self.most_rounds):
            self.bring_back()
            self._run_for(self.rounds)
            if not any(asker.waits for asker in self.askers):
                break
        for asker in self.askers:
            asker.check_ended()
        self.check_rest()
        for asker in self.askers:
            asker.leave(None)
        self.stop_all()
        self._run_for(self.last_stop)
        for party in self.parties:
            party.check_over()
        self.stranger.close()
        self._check_processes()
        super().finish()

    def bring_back(self):
        """Let all who can answer do so."""
        for server in self.servers:
            server.restart()
            server.release()

    def stop_all(self):
        """Stop all that answer."""
        for server in self.servers:
            server.stop(0.0)

    def abandon(self):
        super().abandon()
        turns._here.turns = None
        _processes.clear()

    def _check_processes(self):
        self._run_for(1.0)
        for process in self.processes:
            left = [*process.timers, *process.ios, *process.asyncs, *process.callbacks]
            check(not left, f"watchers that nobody stopped: {left}")

    def _before_call(self, socket):
        self.watch(socket)
        super()._before_call(socket)

    # Time.

    def _run_for(self, seconds):
        """Let the time pass, with all that happens meanwhile in all processes."""
        end = loop.time + seconds
        while True:
            self._run_to_rest()
            due = [process.next_due() for process in self.processes if not process.is_stuck]
            due.append(self.network.next_due())
            soonest = min((each for each in due if each is not None), default=None)
            if soonest is None or soonest > end:
                break
            self.calls_in_time()
            loop.time = max(loop.time, soonest)
        loop.time = max(loop.time, end)

    def calls_in_time(self):
        """Let calls be counted anew: time has passed."""
        self._calls = 0

    def _run_to_rest(self):
        """Let all processes and the network run until nothing is left to do."""
        while True:
            before = sum(process.ran for process in self.processes)
            done = self.network.carry() + self.stranger.work()
            for server in self.servers:
                done += server.work()
            for process in self.processes:
                process.step()
            if not done and before == sum(process.ran for process in self.processes):
                return
