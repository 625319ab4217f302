"""Build the sdist and the wheel, install each into an empty environment, and use it there.

``make packages``. A third environment is that of a user's program, which is type-checked against
what the wheel has installed.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import venv

PROJECT = pathlib.Path(__file__).parent.parent

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
    """Give an environment in which nothing of the checkout is found."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


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
