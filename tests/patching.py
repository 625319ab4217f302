"""Programs that patch: each runs in a process of its own, for it patches for good."""

import subprocess
import sys
import textwrap


def run(program, **options):
    """Run a program to its end, in which a warning is an error; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


EXCHANGE = """
def exchange():
    import gevent, zmq
    with zmq.Context() as context, context.socket(zmq.PULL) as a, context.socket(zmq.PUSH) as b:
        a.rcvtimeo = 10_000
        a.bind("inproc://x")
        b.connect("inproc://x")
        def tick_and_send():
            for _ in range(20):
                gevent.sleep(0.001)
            b.send(b"cooperative")
        gevent.spawn(tick_and_send)
        try:
            print(a.recv().decode())
        except zmq.Again:
            print("blocking")
"""
