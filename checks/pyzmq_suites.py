"""pyzmq's own tests, over the drop-in and over the patch: ``make pyzmq``.

They are those of the installed pyzmq's sdist. Each file runs in a process of its own: what a test
leaves behind fails no other file. The exit status is 1 if a test fails that is not in `EXPECTED`,
or if one passes that is.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections import ChainMap, Counter
from concurrent.futures import ThreadPoolExecutor

PROJECT = pathlib.Path(__file__).parent.parent

#: Seconds for one file. The longest takes 25.
LIMIT = 120

#: What the plugin puts under the tests: two forms of ours, and what they are compared with.
OURS = ("drop-in", "patched")
FORMS = (*OURS, "plain", "zmq.green", "gevent")

GROUNDS = (("libev-cext", "native"), ("libuv", "pure"))

_REPR = "wants another class's repr"
_WARNING = "wants the warning that timeouts do not work"

#: What fails in both of our forms, and why.
EXPECTED = {
    "test_context.py::TestContext::test_repr": _REPR,
    "test_socket.py::TestSocket::test_repr": _REPR,
    "test_socket.py::TestSocketGreen::test_repr": _REPR,
    "test_socket.py::TestSocketGreen::test_warn_set_timeo": _WARNING,
    "test_socket.py::TestSocketGreen::test_warn_get_timeo": _WARNING,
}

#: What does not run, and why.
LEFT_OUT = {
    "test_cython.py": "compiles a module of its own, whatever the sockets are",
    "test_mypy.py": "checks the types of pyzmq's sources, in their place in the sdist",
    "test_log.py::TestPubLog::test_blank_root_topic": (
        "subscribes over TCP, and publishes in the next line: fails with pyzmq alone"
    ),
    "test_zmqstream.py::test_shadow_socket": (
        "wants a stream to have a zmq.Socket: it keeps the plain class, and zmq.Socket is green; "
        "what it then leaves open ends the process, as in the next one"
    ),
    "test_zmqstream.py::test_shadow_socket_close": (
        "closes a descriptor that asyncio watches: libev ends a process patched by gevent alone"
    ),
}


def run(*command, **options):
    return subprocess.run([*map(str, command)], check=True, **options)


def fetch(folder):
    """Get pyzmq's tests, and the one plugin that they need; return the folder of the sdist."""
    version = importlib.metadata.version("pyzmq")
    sdist = folder / f"pyzmq-{version}"
    if not sdist.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "download", "--no-deps", "--no-binary=pyzmq", "-d", folder, f"pyzmq=={version}")
        run(*pip, "install", "--no-deps", "--target", folder / "plugins", "pytest-asyncio")
        shutil.unpack_archive(f"{sdist}.tar.gz", folder)
        # Where pytest runs, it would be found in the place of the installed one.
        shutil.rmtree(sdist / "zmq")
    return sdist


def outcomes_of(sdist, name, form, ground):
    """Run a file of tests; return what became of each."""
    loop, transfer = ground
    place = sdist.parent / f"{form}-{loop}" / name
    place.parent.mkdir(exist_ok=True)
    outcomes = place.with_suffix(".jsonl")
    outcomes.write_text("")
    environment = {
        **os.environ,
        "FORM": form,
        "OUTCOMES": str(outcomes),
        "GEVENT_LOOP": loop,
        "GZMQSOURCE_TRANSFER": transfer,
        "PYTHONPATH": f"{PROJECT / 'checks'}:{sdist.parent / 'plugins'}",
    }
    left_out = [f"--deselect=tests/{test}" for test in LEFT_OUT]
    command = [sys.executable, "-m", "pytest", "-p", "pyzmq_form", "-p", "no:cacheprovider"]
    with place.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [*command, *left_out, "--tb=short", f"tests/{name}"],
            cwd=sdist,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LIMIT)
        with contextlib.suppress(ProcessLookupError):  # and what it has forked, if that still runs
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    found: dict[str, str] = {}
    for line in outcomes.read_text().splitlines():
        test, outcome = json.loads(line)
        if found.get(test) != "failed":  # a test may also fail when it is torn down
            found[test.removeprefix("tests/")] = outcome
    if process.returncode not in (0, 1, 5) and "hung" not in found.values():
        found[name] = f"ended with {process.returncode}"
    return found


def wrong(form, outcomes):
    """Yield what is to be reported of a form."""
    for test, outcome in outcomes.items():
        reason = EXPECTED.get(test) if form in OURS else None
        if reason and outcome != "failed":
            yield f"{test}: {outcome}, and is expected to fail: {reason}"
        elif not reason and outcome not in ("passed", "skipped"):
            yield f"{test}: {outcome}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", action="append", choices=FORMS, help="default: both of ours")
    parser.add_argument(
        "--short", action="store_true", help="over libev and the native transfer only"
    )
    parser.add_argument("--file", action="append", help="a file of tests; default: all")
    arguments = parser.parse_args()
    sdist = fetch(PROJECT / "build" / "pyzmq")
    names = arguments.file or sorted(path.name for path in (sdist / "tests").glob("test_*.py"))
    names = [name for name in names if name not in LEFT_OUT]
    failed = False
    for ground in GROUNDS[: 1 if arguments.short else None]:
        for form in arguments.form or OURS:
            run_file = functools.partial(outcomes_of, sdist, form=form, ground=ground)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                outcomes = dict(ChainMap(*pool.map(run_file, names)))
            print(f"{form}, {ground[0]}, {ground[1]}: {dict(Counter(outcomes.values()))}")
            for line in wrong(form, outcomes):
                failed = True
                print(f"    {line}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
