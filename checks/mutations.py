"""Break, one at a time, each line that keeps an invariant, and see that the suite fails.

Run by ``make mutations``. Each mutation is made in a copy of the project, over which the tests that
should notice run until the first of them does. The exit status is 1 if one goes unnoticed, and if
they fail over a copy that is not broken.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

HERE = pathlib.Path(__file__).parent.parent
COPIED = ("gzmqsource", "tests", "checks", "examples", "README.rst", "pyproject.toml", "setup.cfg")

#: Seconds after which the tests of one mutation count as noticing it: they hang.
LIMIT = 300

#: In place of tests: `simulation`, until it finds a schedule.
SIMULATION = "simulation"


@dataclass
class Mutation:
    """A line that is broken, and the tests that should notice."""

    what: str
    module: str
    line: str
    broken: str
    tests: str
    transfer: str = "native"

    def make_in(self, tree: pathlib.Path) -> None:
        path = tree / "gzmqsource" / self.module
        text = path.read_text()
        if text.count(self.line) != 1:
            raise SystemExit(f"{self.what}: {self.module} has no line {self.line!r}, or several")
        path.write_text(text.replace(self.line, self.broken))


MUTATIONS = [
    Mutation(
        "a call that eats the edge is not repaired",
        "_socket/readiness.py",
        "            self.hub.loop.run_callback(self._look)\n",
        "            pass\n",
        "test_edge.py",
    ),
    Mutation(
        "a writer that is done does not look for the readers",
        "_socket/readiness.py",
        "                confirmed = not self._wait(self.writers, self.confirm_after)\n"
        "        self.recheck()\n",
        "                confirmed = not self._wait(self.writers, self.confirm_after)\n",
        SIMULATION,
        transfer="pure",
    ),
    Mutation(
        "an edge wakes no reader",
        "_socket/readiness.py",
        "        if events & _POLLIN:\n            self.readers.wake(1)\n",
        "",
        "test_edge.py",
    ),
    Mutation(
        "an edge wakes writers only if POLLOUT says so",
        "_socket/readiness.py",
        "        if events & _POLLOUT or not self.pollout_is_exact:\n            self.writers.wake",
        "        if events & _POLLOUT:\n            self.writers.wake",
        "test_readiness.py test_peers.py test_refused.py",
    ),
    Mutation(
        "a failed send on a ROUTER is not confirmed",
        "_socket/readiness.py",
        "confirmed = not self._wait(self.writers, self.confirm_after)",
        "self._wait(self.writers, None)",
        SIMULATION,
        transfer="pure",
    ),
    Mutation(
        "the watcher of an idle socket goes on",
        "_socket/readiness.py",
        "                self._watcher.stop()\n\n    def _on_edge",
        "                pass\n\n    def _on_edge",
        "test_readiness.py test_lifetime.py",
    ),
    Mutation(
        "a close wakes nobody",
        "_socket/readiness.py",
        "            self._watcher = None\n        self.wake_all()\n",
        "            self._watcher = None\n",
        "test_lifetime.py test_back_off.py test_context_end.py",
    ),
    Mutation(
        "a forked child keeps the watchers",
        "_socket/hub_socket.py",
        "        self.readiness.abandon()\n",
        "",
        "test_fork.py",
    ),
    Mutation(
        "a forked child handles the parent's batch",
        "_source/core.py",
        "            self.prefetched.clear()\n",
        "",
        "test_fork.py",
    ),
    Mutation(
        "a poller does not look after a call",
        "_socket/readiness.py",
        "        for poller in self.pollers:\n            poller.mark_stale()\n",
        "",
        "green/test_pollers.py",
    ),
    Mutation(
        "yielding lets only callbacks in",
        "_socket/budget.py",
        "    with hub.loop.timer(0, priority=-2) as timer:\n        hub.wait(timer)\n",
        "    import gevent\n\n    gevent.sleep(0)\n",
        "test_fairness.py test_readiness.py",
    ),
    Mutation(
        "a turn does not end",
        "_socket/budget.py",
        "        return self.left <= 0\n",
        "        return False\n",
        "test_fairness.py",
    ),
    Mutation(
        "a full pool does not stop the intake",
        "_source/receiver.py",
        "                room = min(room, self._pool.free_count())\n",
        "                pass\n",
        "test_back_pressure.py",
    ),
    Mutation(
        "a message leaves the outbox before libzmq has taken it",
        "transfer/pure.py",
        "            if not send_one(message):\n                return False\n"
        "            messages.popleft()\n",
        "            messages.popleft()\n"
        "            if not send_one(message):\n                return False\n",
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
        "another thread may touch a source",
        "_source/core.py",
        "        if get_hub_if_exists() is not self.hub:\n            raise Invalid",
        "        if False:\n            raise Invalid",
        "test_owner.py",
    ),
    Mutation(
        "who does not wait for a lingering socket leaves its monitor unread",
        "_socket/linger.py",
        "else lambda: start_thread(_close_once_stopped, (monitor,))",
        "else monitor.close",
        "test_stop.py test_kills.py",
    ),
    Mutation(
        "the handle of a closed socket is still used",
        "green/_poll.py",
        "            if entry.socket._closed:\n                raise zmq.ZMQError(zmq.ENOTSOCK)\n",
        "",
        "green/test_pollers.py",
    ),
    Mutation(
        "a thread's message waits for a peer that is full",
        "_source/core.py",
        "            socket.readiness.wake_writers()\n",
        "            pass\n",
        "test_sender.py",
    ),
    Mutation(
        "a green send waits for another's peer that is full",
        "green/_shared.py",
        "            if not is_new and not self.readiness.pollout_is_exact:\n",
        "            if False:\n",
        "green/test_sockets.py",
    ),
    Mutation(
        "who polls tells nobody that the context has ended",
        "green/_poll.py",
        "                readiness.wake_all()  # this has",
        "                # this has",
        SIMULATION,
        transfer="pure",
    ),
    Mutation(
        "who waits for an event that is set is forgotten with the others",
        "_base/event.py",
        "return self.is_set() or bool(super().wait(timeout))",
        "return bool(super().wait(timeout))",
        "test_event.py",
    ),
    Mutation(
        "a forked child goes on polling",
        "_socket/readiness.py",
        "            poller.abandon()\n",
        "            pass\n",
        SIMULATION,
        transfer="pure",
    ),
    Mutation(
        "a message that was sent counts as timed out",
        "green/_shared.py",
        " and not pending.done.is_set():",
        ":",
        SIMULATION,
        transfer="pure",
    ),
    Mutation(
        "a killed greenlet's request stays in the table",
        "workers/requester.py",
        "        except BaseException:\n            self._take(call.frames[0])\n            raise\n"
        "        if isinstance(outcome",
        "        except ZeroDivisionError:\n            raise\n        if isinstance(outcome",
        "workers",
    ),
    Mutation(
        "a peer that was authenticated ends a proxy",
        "_socket/loops.py",
        "        except zmq.Again:\n",
        "        except ZeroDivisionError:\n",
        "test_proxy.py",
    ),
    Mutation(
        "who was answered is told that the peer was lost",
        "workers/requester.py",
        "            self._hear_out()\n",
        "",
        "workers",
    ),
    Mutation(
        "a rule that raises keeps the peer out for good",
        "auth.py",
        'self._reply(request, _Verdict(b"300", "Internal error"))',
        'self._reply(request, _Verdict(b"400", "Internal error"))',
        "test_auth.py",
    ),
    Mutation(
        "a poll set watches a descriptor that is being closed",
        "_socket/readiness.py",
        "        for poller in self.pollers:\n            poller.unwatch()\n",
        "",
        "green/test_release.py",
    ),
    Mutation(
        "a socket is closed before its watcher is stopped",
        "_socket/hub_socket.py",
        "        self._stop()\n        close()\n",
        "        self.hub.loop.run_callback(self._stop)\n        close()\n",
        "test_lifetime.py",
    ),
    Mutation(
        "a timeout counts from the last turn of the loop",
        "_base/waiters.py",
        "_TIMED_OUT, update=True)",
        "_TIMED_OUT)",
        "test_readiness.py",
    ),
    Mutation(
        "a message that leaves a lane lets no putter follow",
        "_source/lane.py",
        "        message: Message = self.queue.popleft()\n        self.settle(1)\n",
        "        message: Message = self.queue.popleft()\n",
        "test_lane.py",
    ),
    Mutation(
        "a forked child takes short cuts",
        "_socket/hub_socket.py",
        '"""Leave the socket to the parent process, in a forked child."""\n'
        "        self.shortcuts.close()\n",
        '"""Leave the socket to the parent process, in a forked child."""\n',
        "test_fork.py",
    ),
    Mutation(
        "a forked child does not count its fork",
        "_base/fork.py",
        "    generation += 1\n",
        "    generation += 0\n",
        "test_fork.py",
    ),
    Mutation(
        "a paused source is pulled by a short cut",
        "_source/core.py",
        " and self.resumed.is_set()\n",
        "\n",
        "test_pulling.py test_edge.py",
    ),
    Mutation(
        "an alias of a call that eats the edge is not repaired",
        "_socket/calls.py",
        '*("get", "getsockopt",',
        '*("get",',
        "test_calls.py",
    ),
    Mutation(
        "a flusher never yields",
        "_socket/flusher.py",
        "                    socket.yield_to_io()\n",
        "                    pass\n",
        "test_stats.py test_fairness.py test_outbox.py",
    ),
    Mutation(
        "another thread closes a socket under the greenlets that wait",
        "_socket/hub_socket.py",
        "        elif self.readiness.waiting and",
        "        elif False and",
        "green/test_release.py",
    ),
    Mutation(
        "a source that is collected in a thread leaves its senders waiting",
        "_source/core.py",
        "            self.hub.loop.run_callback_threadsafe(self._refuse_putters)\n",
        "            pass\n",
        "test_sender.py",
    ),
    Mutation(
        "an inherited green socket is polled",
        "green/_socket.py",
        "            socket._closed = True\n",
        "            pass\n",
        "test_fork.py",
    ),
    Mutation(
        "a close in another thread waits for a hub that is held up",
        "green/_shared.py",
        "            closed.wait(self.patience)\n",
        "            closed.wait(None)\n",
        "green/test_release.py",
    ),
]


@contextlib.contextmanager
def copied():
    """Copy the project for the time of the block."""
    with tempfile.TemporaryDirectory() as name:
        tree = pathlib.Path(name)
        for each in COPIED:
            source = HERE / each
            if source.is_dir():
                shutil.copytree(source, tree / each)
            else:
                shutil.copy(source, tree)
        yield tree


def fails(tree: pathlib.Path, tests: str, transfer: str, seconds: int = 150) -> bool:
    """Run tests in a copy of the project, or the simulation for some seconds, until one fails."""
    # In the copy, whose package comes first on the path, also of the tests' own processes.
    files = [f"tests/{each}" for each in tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not idle", *files]
    environment = os.environ | {"GZMQSOURCE_TRANSFER": transfer}
    if tests == SIMULATION:
        command = [sys.executable, "-m", "simulation", "--seconds", str(seconds), "--seed", "1"]
        environment["PYZMQ_BACKEND"] = "simulation.backend"
        environment["PYTHONPATH"] = os.pathsep.join((str(tree / "checks"), str(tree)))
    try:
        finished = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    if finished.returncode in (2, 3, 4, 5):
        raise SystemExit(f"pytest could not run {tests}")
    return finished.returncode != 0


def notices(mutation: Mutation) -> bool:
    """Run the tests over a broken copy; True if they fail."""
    with copied() as tree:
        mutation.make_in(tree)
        return fails(tree, mutation.tests, mutation.transfer)


def check_unbroken(chosen: list[Mutation]) -> None:
    """End here if tests fail without a mutation, for those would seem to notice any."""
    with copied() as tree:
        for tests, transfer in sorted({(each.tests, each.transfer) for each in chosen}):
            if fails(tree, tests, transfer, seconds=5):
                raise SystemExit(f"without a mutation, {tests} fails")


def main() -> int:
    wanted = " ".join(sys.argv[1:])
    chosen = [each for each in MUTATIONS if wanted in each.what]
    check_unbroken(chosen)
    unnoticed = 0
    for mutation in chosen:
        started = time.monotonic()
        noticed = notices(mutation)
        unnoticed += not noticed
        seconds = time.monotonic() - started
        print(f"{'noticed' if noticed else 'NOT NOTICED':<12} {seconds:5.0f} s  {mutation.what}")
        sys.stdout.flush()
    print(f"{len(chosen) - unnoticed} of {len(chosen)} noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
