"""Build the sdist and the wheel, install each into an empty environment, and use it there.

``make packages``. A part of the suite runs in the unpacked sdist, and a user's program is
type-checked against what the wheel has installed.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

PROJECT = pathlib.Path(__file__).parent.parent

#: What runs in the unpacked sdist: the extension as make builds it, a build of its own, and what
#: needs checks/ beside tests/.
TESTS = "tests/test_edge.py tests/test_install.py tests/test_growth.py"

#: What any install can do.
SMOKE = """
import zmq
from gzmqsource import Source, transfer

with Source.open(zmq.PULL, bind="tcp://127.0.0.1:*") as pull:
    with Source.open(zmq.PUSH, connect=pull.socket.LAST_ENDPOINT.decode()) as push:
        push.send([b"smoke", b"test"])
        assert pull.recv(timeout=10) == [b"smoke", b"test"]
assert transfer.backend == "native", transfer.reason
"""


def run(*command, **options):
    options = {"check": True, "cwd": tempfile.gettempdir(), "timeout": 300, **options}
    return subprocess.run([*map(str, command)], **options)


def environment(folder, *requirements):
    """Make an empty environment, and install into it."""
    venv.create(folder, with_pip=True)
    pip = ("pip", "install", "--quiet", "--disable-pip-version-check")
    run(folder / "bin" / "python", "-m", *pip, *requirements)
    return folder / "bin"


def clean_environ():
    """Give an environment in which nothing of the checkout is found, nor of the make that runs."""
    ours = ("PYTHON", "MAKE")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        dist = folder / "dist"
        run(sys.executable, "-m", "build", "--outdir", dist, PROJECT, stdout=subprocess.DEVNULL)
        (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")

        bare = environment(folder / "sdist", sdist)
        run(bare / "python", "-c", SMOKE, env=clean_environ())
        refused = run(bare / "gzmqsource", "doctor", check=False, stderr=subprocess.PIPE, text=True)
        assert refused.returncode == 1, refused
        assert "pip install 'gzmqsource[cli]'" in refused.stderr, refused
        print(f"{sdist.name}: installed, and used")

        shutil.unpack_archive(sdist, folder)
        unpacked = folder / sdist.name.removesuffix(".tar.gz")
        make = ("make", "--silent", f"PYTHON={sys.executable}", "PYTEST_ARGS=-q")
        run(*make, "one", f"TEST={TESTS}", cwd=unpacked, env=clean_environ())
        print(f"{sdist.name}: unpacked, and tested")

        full = environment(folder / "wheel", f"{wheel}[cli,metrics]")
        run(full / "python", "-c", SMOKE, env=clean_environ())
        run(full / "python", PROJECT / "examples" / "demo.py", env=clean_environ())
        run(full / "gzmqsource", "doctor")
        print(f"{wheel.name}: installed with cli and metrics, and used")

        user = environment(folder / "user", f"{wheel}[cli]", "mypy", "types-gevent")
        # Not in the checkout, whose own gzmqsource/ would be taken.
        run(user / "mypy", "--strict", PROJECT / "examples", cwd=folder)
        print("examples/: type-checked against the wheel")


if __name__ == "__main__":
    main()
