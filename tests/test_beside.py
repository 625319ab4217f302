"""What people have in the same process: coverage, xdist, and uvloop."""

import json
import subprocess
import sys
import textwrap

import pytest
from optional import needs
from patching import run

pytestmark = [pytest.mark.once, pytest.mark.limit(90)]


def python(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SERVED = """
    import gevent, zmq
    from gzmqsource import Source

    handled = []

    def handle(message):
        gevent.sleep(0.001)
        handled.append(message)

    def test_handled():
        with Source.open(zmq.PULL, handle, bind="tcp://127.0.0.1:*", spawn=4) as server:
            server.start()
            with Source.open(zmq.PUSH, connect=server.socket.LAST_ENDPOINT.decode()) as client:
                for number in range(20):
                    client.send(b"%d" % number)
                with gevent.Timeout(20):
                    while len(handled) < 20:
                        gevent.sleep(0.001)

    if __name__ == "__main__":
        test_handled()
    """


@pytest.fixture
def served(tmp_path):
    (tmp_path / "test_served.py").write_text(textwrap.dedent(SERVED))
    return tmp_path


@needs("coverage", extra="servers")
def test_coverage_sees_what_a_handler_runs_in_worker_greenlets(served):
    python("coverage", "run", "--concurrency=gevent", "test_served.py", cwd=served)
    python("coverage", "json", "--include=test_served.py", "--quiet", cwd=served)
    seen = json.loads((served / "coverage.json").read_text())["files"]["test_served.py"]
    handler = seen["functions"]["handle"]
    assert (len(handler["executed_lines"]), handler["missing_lines"]) == (2, [])


@needs("xdist", extra="servers")
def test_tests_with_sources_run_in_the_processes_of_xdist(served):
    for name in ("test_one.py", "test_other.py"):
        (served / name).write_text((served / "test_served.py").read_text())
    command = ("pytest", "-n", "2", "-q", "-p", "no:cacheprovider", "-W", "error", str(served))
    assert "3 passed" in python(*command, cwd=served)


@needs("uvloop", extra="servers")
@pytest.mark.parametrize("patch", ["", "patch_zmq()"], ids=["plain", "patched"])
def test_uvloop_reads_in_a_thread_what_a_source_sends(patch):
    program = f"""
        import asyncio, threading
        import uvloop, zmq, zmq.asyncio
        from gzmqsource import Source
        from gzmqsource.monkey import patch_zmq
        {patch}
        push = Source.open(zmq.PUSH, bind="tcp://127.0.0.1:*")
        endpoint = push.socket.LAST_ENDPOINT.decode()

        async def read():
            with zmq.asyncio.Context() as context, context.socket(zmq.PULL) as pull:
                pull.connect(endpoint)
                for number in range(100):
                    assert await asyncio.wait_for(pull.recv(), 10) == b"%d" % number
            print(type(asyncio.get_running_loop()).__module__)

        thread = threading.Thread(target=lambda: uvloop.run(read()))
        thread.start()
        for number in range(100):
            push.send(b"%d" % number, timeout=10)
        push.stop(timeout=10)
        thread.join(20)
        """
    assert run(program) == ["uvloop"]
