"""Peers in other languages, built or installed once."""

import os
import pathlib
import shutil
import sys

import pytest
import zmq.backend.cython._zmq as pyzmq_backend
from gevent import subprocess

HERE = pathlib.Path(__file__).parent / "interop"
BUILD = HERE.parent.parent / "build"


def libzmq():
    """Give the path of the libzmq that pyzmq has loaded."""
    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if "libzmq" in line}
    return paths.pop() if paths else pyzmq_backend.__file__


def command_of(language):
    """Give the command of a peer, up to its role, and the environment that it needs."""
    return {"C": _c, "Node": _node}[language]()


def _c():
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    program = BUILD / "interop-peer"
    source = HERE / "peer.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        made = program.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O1", "-Wall", "-Werror", "-o", str(made), str(source), "-ldl"]
        subprocess.run([*command, "-pthread"], check=True)
        made.replace(program)
    return [program, libzmq()], {}


def _node():
    modules = BUILD / "node"
    if shutil.which("node") is None or not (modules / "node_modules" / "zeromq").exists():
        pytest.skip("needs zeromq.js: make build/node/installed")
    return ["node", HERE / "peer.mjs"], {"NODE_MODULES_OF": str(modules)}
