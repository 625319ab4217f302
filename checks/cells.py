"""Where the core of the suite runs: for ``checks/support.py`` and ``noxfile.py``.

An interpreter is looked for on ``PATH``, and then in the roots of other systems that
``GZMQSOURCE_ROOTS`` names, separated by colons: what ``debootstrap`` makes, with ``/proc`` and
``/dev`` mounted. A run in one needs the right to ``chroot``.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROJECT = pathlib.Path(__file__).parent.parent

#: The tests of what depends on the interpreter, on pyzmq and libzmq, and on gevent and its loop.
CORE = [
    f"tests/{name}.py"
    for name in (
        *("test_edge", "test_transfer", "test_send", "test_stop", "test_kills", "test_monitor"),
        *("test_fork", "test_proxy", "green/test_contexts", "green/test_devices"),
        *("green/test_monitors", "green/test_poll_plain", "green/test_release"),
        *("green/test_shadows", "green/test_sockets", "green/test_timeouts"),
        "green/test_whole_messages",
    )
]

#: Without the drop-in, which needs pyzmq's backend in Cython.
SOURCES = [name for name in CORE if "green" not in name and name != "tests/test_proxy.py"]

#: The loop and the transfer of a pass.
Pass = tuple[str, str]
BOTH: tuple[Pass, ...] = (("libev-cext", "native"), ("libuv", "pure"))
PURE: tuple[Pass, ...] = (("libev-cext", "pure"), ("libuv", "pure"))
LIBEV: tuple[Pass, ...] = (("libev-cext", "native"), ("libev-cext", "pure"))
PYPY: tuple[Pass, ...] = (("libev-cffi", "pure"), ("libuv", "pure"))
ALL: tuple[Pass, ...] = (*BOTH, ("libuv", "native"), ("libev-cext", "pure"))

CPYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")

#: What a copy of the project does without.
UNUSED = shutil.ignore_patterns(
    *(".git", ".venv", "build", "dist", "*.egg-info"),
    *("*.so", "native.c", "__pycache__", ".*_cache", ".hypothesis"),
)

#: Prints what is in an environment.
FACTS = """
import json, platform, struct, sysconfig
facts = {"Interpreter": f"{platform.python_implementation()} {platform.python_version()}"}
facts["Interpreter"] += "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
facts["bits"] = 8 * struct.calcsize("P")
try:
    system = platform.freedesktop_os_release()
    facts["System"] = system.get("NAME", "").removesuffix(" GNU/Linux")
    facts["System"] += " " + system.get("VERSION_ID", system.get("VERSION_CODENAME", ""))
except OSError:
    facts["System"] = platform.system()
try:
    import gevent
    facts["gevent"] = gevent.__version__
    import zmq
    facts |= {"pyzmq": zmq.__version__, "libzmq": zmq.zmq_version()}
except ImportError:
    pass
print(json.dumps(facts))
"""


def floors() -> tuple[str, ...]:
    """Return the oldest pyzmq and gevent that the metadata admits, as requirements."""
    declared = (PROJECT / "setup.cfg").read_text()
    oldest = dict(re.findall(r"^    (pyzmq|gevent) >= (\S+)$", declared, re.MULTILINE))
    return tuple(f"{name}=={oldest[name]}" for name in ("pyzmq", "gevent"))


@dataclass(frozen=True)
class Place:
    """This system, or the root of another one."""

    root: pathlib.Path | None = None

    def __str__(self) -> str:
        return f"in {self.root}" if self.root else "on PATH"

    @property
    def folder(self) -> pathlib.Path:
        """The folder for what is made here, as it is called inside."""
        return pathlib.Path("/var/tmp/gzmqsource") if self.root else PROJECT / "build" / "support"

    def outside(self, path: pathlib.Path) -> pathlib.Path:
        """Return how a file of the place is called outside."""
        return self.root / path.relative_to("/") if self.root else path

    def which(self, program: str) -> str | None:
        """Return the path of a program, as it is called inside."""
        if self.root is None:
            return shutil.which(program)
        folders = [str(self.root / folder) for folder in ("usr/local/bin", "usr/bin")]
        found = shutil.which(program, path=os.pathsep.join(folders))
        return found and f"/{pathlib.Path(found).relative_to(self.root)}"

    def command(self, *command: str, folder: pathlib.Path = pathlib.Path("/")) -> list[str]:
        """Return what runs a command in a folder of the place."""
        if self.root is None:
            return ["env", "-C", str(folder), *command]
        bits = () if (self.root / "lib64").exists() else ("linux32",)
        return [*bits, "chroot", str(self.root), "env", "-C", str(folder), *command]

    def facts(self, python: str) -> dict[str, Any]:
        """Return what an interpreter of the place says about itself, nothing if it does not run."""
        done = subprocess.run(
            self.command(python, "-c", FACTS), capture_output=True, text=True, check=False
        )
        return json.loads(done.stdout) if done.returncode == 0 else {}


def places() -> Iterator[Place]:
    """Yield this system, and the others that are at hand."""
    yield Place()
    for root in filter(None, os.environ.get("GZMQSOURCE_ROOTS", "").split(os.pathsep)):
        yield Place(pathlib.Path(root))


@dataclass(frozen=True)
class Cell:
    """An interpreter, a pyzmq and a gevent."""

    name: str
    #: The interpreter, as a command.
    python: str
    #: What is installed; other than that, the newest of all that the tests need.
    pins: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = BOTH
    #: Whether no test may fail.
    claimed: bool = True
    #: Whether all but *pins* is in the system's own packages.
    system: bool = False
    bits: int = 64
    #: A program without which it cannot be made, with its arguments.
    needs: tuple[str, ...] = ()
    #: Variables for the build and the run.
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    tests: Sequence[str] = field(default_factory=lambda: CORE, hash=False)

    @property
    def wants(self) -> str:
        """What has to be at hand."""
        packages = ", gevent" if self.pins else ", pyzmq and gevent"
        return "".join(
            [
                self.python,
                " of 32 bits" if self.bits == 32 else "",
                f"{packages} in the system's packages" if self.system else "",
                f", {self.needs[-1]}" if self.needs else "",
            ]
        )

    def found(self) -> Iterator[tuple[Place, str]]:
        """Yield the places where it can be made, with the interpreter."""
        for place in places():
            python = place.which(self.python)
            facts = place.facts(python) if python else {}
            if not facts or facts["bits"] != self.bits:
                continue
            if facts["Interpreter"].endswith("t") != self.python.endswith("t"):
                continue
            if self.system and ("gevent" if self.pins else "pyzmq") not in facts:
                continue
            if self.needs and subprocess.run(place.command(*self.needs), check=False).returncode:
                continue
            assert python is not None  # as there are facts
            yield place, python
            if not self.system:
                return

    def folder(self, place: Place) -> pathlib.Path:
        """Return the folder of its copy of the project and its environment, as called inside."""
        return place.folder / self.name

    def make(self, place: Place, python: str) -> str:
        """Make the environment, with the extension built in place; return its interpreter."""
        project, environment = self.folder(place) / "project", self.folder(place) / "env"
        shutil.rmtree(place.outside(self.folder(place)), ignore_errors=True)
        shutil.copytree(PROJECT, place.outside(project), ignore=UNUSED)
        interpreter = str(environment / "bin" / "python")
        options = ["--system-site-packages"] if self.system else []
        install = self._installer(place, interpreter)
        for command in (
            [python, "-m", "venv", *options, str(environment)],
            *([*install, *requirements] for requirements in self._requirements()),
        ):
            subprocess.run(
                place.command(*command, folder=project),
                env=os.environ | self.environment,
                check=True,
                timeout=1200,
            )
        return interpreter

    def _installer(self, place: Place, interpreter: str) -> list[str]:
        beside = shutil.which("uv", path=str(pathlib.Path(sys.executable).parent))
        uv = (beside if place.root is None else None) or place.which("uv")
        if uv and not self.system:  # uv does not see what the system has
            return [uv, "pip", "install", "--quiet", "--python", interpreter]
        return [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]

    def _requirements(self) -> list[list[str]]:
        """Return what is installed, one after another."""
        if not self.system:
            return [[*self.pins, "--editable", ".[test]"]]
        with_systems = ["--no-deps", "--no-build-isolation", "--editable", "."]
        return [list(self.pins), with_systems] if self.pins else [with_systems]


# Another cell has built another one of the same version.
SOURCE = ("--no-cache-dir", "--no-binary", "pyzmq", "pyzmq")
CFFI = {"PYZMQ_BACKEND": "cffi"}
I386 = ("pyzmq", "setuptools>=70.1", "wheel", "Cython>=3", "pytest>=8", "hypothesis<6.145")
LIBZMQ = ("pkg-config", "--exists", "libzmq")

# A forked child that drops a source gets pyzmq's ResourceWarning of its socket.
UNCLAIMED = {"3.15"}

CELLS = (
    *(
        Cell(f"cpython-{version}", f"python{version}", claimed=version not in UNCLAIMED)
        for version in CPYTHONS
    ),
    Cell("floor", "python3.11", floors(), ALL),
    Cell("pyzmq-25.1", "python3.11", ("pyzmq==25.1.*",)),
    Cell("pyzmq-26.0", "python3.11", ("pyzmq==26.0.*", floors()[1])),
    Cell("pyzmq-26.2", "python3.11", ("pyzmq==26.2.*",)),
    Cell("pyzmq-26.4", "python3.11", ("pyzmq==26.4.*", floors()[1])),
    Cell("gevent-24.2", "python3.11", floors()[1:]),
    # Debian's gevent has no libuv.
    Cell("debian", "python3", passes=LIBEV, system=True),
    # pyzmq's own build over a libzmq that pkg-config finds: Debian 12 has 4.3.4.
    Cell("libzmq", "python3.11", SOURCE, needs=LIBZMQ),
    Cell("cffi", "python3.11", SOURCE, PURE, needs=LIBZMQ, environment=CFFI, tests=SOURCES),
    # Newer ones of hypothesis are not made for PyPy.
    Cell("pypy", "pypy3", ("hypothesis<6.145",), PYPY, tests=SOURCES),
    # gevent turns the GIL on, which is a warning unless it was asked for.
    Cell("free-threaded", "python3.14t", claimed=False, environment={"PYTHON_GIL": "1"}),
    # With Debian's gevent, for there are no wheels, and what Debian 12 has too old for a build.
    Cell("i386", "python3", I386, LIBEV, claimed=False, system=True, bits=32),
)
