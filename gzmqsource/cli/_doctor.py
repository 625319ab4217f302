"""``doctor``: versions and problems, of this machine, of another process or of a server."""

from __future__ import annotations

import platform
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import click
import gevent
import gevent.monkey
import zmq

from gzmqsource import __version__, transfer
from gzmqsource.cli._numbers import Whole
from gzmqsource.cli._reading import ServerAddress
from gzmqsource.cli._report import Fact, Finding, Report
from gzmqsource.monkey._status import packages_of, patches_of

#: Descriptors that a busy server may need, three for each socket and one for each peer.
_ENOUGH_DESCRIPTORS = 4096

#: The oldest gevent and libzmq that the suite runs with.
_OLDEST_GEVENT, _OLDEST_LIBZMQ = (24, 2, 1), (4, 3, 4)


@click.command()
@click.argument("url", metavar="[PORT|URL]", required=False, type=ServerAddress())
@click.option("--pid", type=Whole(1), help="Report on a running process (Linux).")
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object, with stable keys.")
@click.pass_context
def doctor(context: click.Context, url: str | None, pid: int | None, as_json: bool) -> None:
    """Report what is installed, what is in use, and known problems.

    Each problem comes with its fix. The exit status is 1 if there is a problem or no report.

    With a PORT of this machine or a URL, report on the server that has its --metrics there.

    With --pid, report whether a running process is patched, and what the patch did not reach. The
    process is not disturbed, and may be blocked.

    \b
    Example:
      gzmqsource doctor
      gzmqsource doctor 9100 --json
      gzmqsource doctor --pid 4242
    """
    if url is not None and pid is not None:
        raise click.UsageError("--pid is for a process of this machine: without a URL")
    if url is not None:
        report = _report_on_server(url)
    elif pid is not None:
        report = _report_on_process(pid)
    else:
        report = Report(_facts(), _findings())
    if as_json:
        report.write_json()
    else:
        report.write()
    context.exit(report.status)


def _report_on_server(url: str) -> Report:
    from gzmqsource.cli._checkup import Checkup

    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            "doctor URL needs a package: pip install 'gzmqsource[metrics]'"
        ) from error
    gevent.monkey.patch_socket()  # or no time limit of gevent's ends a wait
    checkup = Checkup(url)
    return Report(checkup.facts(), checkup.findings())


def _report_on_process(pid: int) -> Report:
    try:
        packages, patches = packages_of(pid), patches_of(pid)
    except (FileNotFoundError, ProcessLookupError) as error:  # it may end meanwhile
        raise click.ClickException(f"there is no process {pid}, or no /proc") from error
    except PermissionError as error:
        why = "it is another user's, or tracing is restricted"
        raise click.ClickException(f"process {pid} cannot be read: {why}") from error
    return Report(_facts_of(pid, packages, patches), _findings_of(packages, patches))


def _facts() -> Iterator[Fact]:
    # Of the package that runs: another copy may be installed, or none.
    path = str(Path(transfer.__file__).parents[1])
    about = {"gzmqsource": __version__, "path": path}
    yield Fact("gzmqsource", f"{__version__}, in {path}", about)
    python = {"python": platform.python_version(), "python_kind": platform.python_implementation()}
    yield Fact("Python", f"{python['python_kind']} {python['python']}", python)
    yield Fact("gevent", gevent.__version__, {"gevent": gevent.__version__})
    backend = zmq.backend.Socket.__module__
    version = zmq.pyzmq_version()
    yield Fact(
        "pyzmq", f"{version}, backend {backend}", {"pyzmq": version, "pyzmq_backend": backend}
    )
    possible = ("curve", "gssapi", "ipc", "norm", "pgm", "draft")
    features = [each for each in possible if zmq.has(each)]
    libzmq = {"libzmq": zmq.zmq_version(), "libzmq_features": features}
    yield Fact("libzmq", f"{zmq.zmq_version()}, with {', '.join(features)}", libzmq)
    loop = gevent.get_hub().loop
    name = f"{type(loop).__module__}.{type(loop).__name__}"
    yield Fact(
        "event loop",
        f"{name}, {loop.backend}",
        {"event_loop": name, "event_loop_backend": loop.backend},
    )
    moving = {"transfer": transfer.backend, "transfer_reason": transfer.reason}
    yield Fact("transfer", f"{transfer.backend}: {transfer.reason}", moving)
    patched = [
        each for each in ("socket", "thread", "ssl") if gevent.monkey.is_module_patched(each)
    ]
    yield Fact("patched", ", ".join(patched) or "nothing", {"patched": patched})
    soft, hard = (_limit(each) for each in resource.getrlimit(resource.RLIMIT_NOFILE))
    yield Fact(
        "file descriptors",
        f"{soft or 'any number'}, may be raised to {hard or 'any number'}",
        {"file_descriptors": soft, "file_descriptors_most": hard},
    )


def _limit(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def _findings() -> Iterator[Finding]:
    if transfer.backend == "pure":
        was_asked_for = transfer.reason.startswith("GZMQSOURCE_TRANSFER")
        yield Finding(
            "pure-transfer",
            f"the transfer in Python is slower: {transfer.reason}",
            "unset GZMQSOURCE_TRANSFER" if was_asked_for else "build the extension, as said above",
            is_wrong=not was_asked_for,
        )
    if zmq.zmq_version_info() < _OLDEST_LIBZMQ:
        yield Finding(
            "old-libzmq", "libzmq before 4.3.4 is not tested", "pip install --upgrade pyzmq"
        )
    # Its `version_info` is that of another release.
    if tuple(int(part) for part in re.findall(r"\d+", gevent.__version__)[:3]) < _OLDEST_GEVENT:
        yield Finding(
            "old-gevent", "gevent before 24.2.1 is not tested", "pip install --upgrade gevent"
        )
    soft = _limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    if soft is not None and soft < _ENOUGH_DESCRIPTORS:
        yield Finding(
            "few-descriptors",
            f"{soft} file descriptors are few for a server",
            f"ulimit -n {_ENOUGH_DESCRIPTORS}, or LimitNOFILE={_ENOUGH_DESCRIPTORS} for systemd",
            is_wrong=False,
        )
    if "libuv" in type(gevent.get_hub().loop).__module__:
        yield Finding(
            "libuv",
            "over libuv, ref=False of a source has no effect",
            "use libev, gevent's default on POSIX: unset GEVENT_LOOP",
            is_wrong=False,
        )


def _facts_of(pid: int, packages: list[str], patches: dict[str, list[str]]) -> Iterator[Fact]:
    about = {"pid": pid, "loaded": packages}
    yield Fact("loaded", ", ".join(packages) or "neither gevent nor pyzmq", about)
    has_zmq, has_green = "zmq" in patches, bool(patches)
    yield Fact("zmq", "patched" if has_zmq else "not patched", {"zmq_patched": has_zmq})
    text = "the drop-in" if has_green else "not patched"
    yield Fact("zmq.green", text, {"zmq_green_patched": has_green})


def _findings_of(packages: list[str], patches: dict[str, list[str]]) -> Iterator[Finding]:
    if "zmq" not in patches and packages == ["gevent", "pyzmq"]:
        yield Finding(
            "not-patched",
            "a call that waits on a socket of zmq blocks the whole hub",
            "start it by python -m gzmqsource.monkey, or call gzmqsource.monkey.patch_zmq() first",
        )
    for left in patches.values():
        for text in left:
            yield Finding(
                "not-reached", text, "apply the patch before any import that makes or copies these"
            )
