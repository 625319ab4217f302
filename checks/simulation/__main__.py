"""Search schedules for one that breaks an invariant: ``make simulate``.

Run with ``PYZMQ_BACKEND=simulation.backend``. It prints its seeds; the same seeds give the same
schedules. The exit status is 1 if one was found, which is printed as a test.
"""

import argparse
import gc
import os
import random
import subprocess
import sys
import time

import zmq  # before its backend is used elsewhere

from simulation import found, found_brokers, found_requests
from simulation.broker_world import BrokerWorld
from simulation.crew_world import CrewWorld
from simulation.green_world import GreenWorld
from simulation.machine import search
from simulation.many_world import ManyGreenWorld, ManySourceWorld
from simulation.poll_world import PollWorld
from simulation.requests_world import RequestsWorld
from simulation.schedule import Schedule
from simulation.source_world import SourceWorld
from simulation.sources_world import SourcesWorld
from simulation.workers_world import WorkersWorld
from simulation.world import World

_QUICK = [
    SourceWorld,
    GreenWorld,
    PollWorld,
    WorkersWorld,
    RequestsWorld,
    BrokerWorld,
    CrewWorld,
    ManySourceWorld,
    ManyGreenWorld,
]

#: Whose schedules take turns. One of the last world takes as long as a dozen of the others.
WORLDS = [*3 * _QUICK, SourcesWorld]

#: The real clock, for `time.monotonic` is the simulation's.
clock = time.perf_counter


def explore(options):
    """Carry out schedules until the time is over; give how many, and the first that went wrong."""
    began, done, seed = clock(), 0, options.seed
    told = began
    # Worlds are cycles. To look at all that is there for each of them takes a third of the time.
    gc.disable()
    for index in range(options.first, options.schedules):
        if index // len(WORLDS) % options.jobs != options.job:  # all worlds for each job
            continue
        now = clock()
        if now - began > options.seconds:
            break
        if now - told > options.progress:
            told = now
            rate = done / (now - began)
            print(f"job {options.job}: {done} schedules, {rate:.0f}/s, at {index}", flush=True)
        if not done % 100:
            World.forget_sockets()
            gc.collect()
        schedule = Schedule.draw(WORLDS[index % len(WORLDS)], f"{seed} {index}")
        if schedule.run() is not None:
            print(f"schedule {index} of seed {seed}")
            return done, schedule
        done += 1
    return done, None


def report(schedule):
    """Print a schedule that breaks an invariant."""
    shorter = schedule.shorter()
    print(f"{shorter.as_test()}\n{shorter.run()!r}", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--schedules", type=int, default=1 << 40, help="how many at most")
    parser.add_argument("--first", type=int, default=0, help="to go on with a search from there")
    parser.add_argument("--seconds", type=float, default=1e9, help="for how long at most")
    parser.add_argument("--progress", type=float, default=60.0, help="seconds between two lines")
    parser.add_argument("--examples", type=int, default=0, help="how many hypothesis tries, too")
    parser.add_argument("--world", help="only the one of this name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    WORLDS[:] = [each for each in WORLDS if options.world in (None, each.__name__)]
    if options.job is not None:
        done, broken = explore(options)
        if broken is not None:
            report(broken)
        else:
            for world in dict.fromkeys(WORLDS) if options.examples else ():
                search(world, options.examples, options.seed + options.job)
        print(done, file=sys.stderr)
        return int(broken is not None)
    for test in (*found.TESTS, *found_requests.TESTS, *found_brokers.TESTS):
        test()
    print(f"seed {options.seed}, pyzmq {zmq.__version__}", flush=True)
    began = clock()
    jobs = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "simulation", *sys.argv[1:]),
                *("--seed", str(options.seed), "--job", str(job)),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for job in range(options.jobs)
    ]
    told = [job.communicate()[1] for job in jobs]
    failed = [text for job, text in zip(jobs, told, strict=True) if job.returncode]
    if failed:
        print("\n".join(failed))
        return 1
    done = sum(int(text) for text in told)
    tried = options.examples * len({*WORLDS}) * options.jobs
    print(
        f"{done} random schedules, {tried} of hypothesis, no broken invariant, "
        f"{clock() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
