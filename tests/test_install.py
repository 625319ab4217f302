"""What an install gives, with a compiler and without, and which transfer is then in use."""

import modulefinder
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

from gzmqsource import __version__

pytestmark = pytest.mark.once

PROJECT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def translated(tmp_path_factory):
    """A copy of what a build needs, and what Cython has made of it, which takes seconds."""
    target = tmp_path_factory.mktemp("translated") / "project"
    for name in (*PROJECT.glob("gzmqsource/**/*"), *PROJECT.glob("*")):
        if name.is_file() and name.suffix not in (".pyc", ".so", ".c"):
            copy = target / name.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(name.read_bytes())
    run_setup(target, "build_ext", CC="/nowhere/cc")
    shutil.rmtree(target / "build")
    assert [*target.glob("gzmqsource/*/native.c")]
    return target


@pytest.fixture
def sources(translated, tmp_path):
    """A copy of that, so that the checkout stays clean."""
    return shutil.copytree(translated, tmp_path / "project")


def run_setup(project, *command, **environment):
    return subprocess.run(
        [sys.executable, "setup.py", "--quiet", *command],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def setup(project, *command, **environment):
    finished = run_setup(project, *command, **environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def names_in_wheel(project):
    (wheel,) = project.glob("dist/*.whl")
    return zipfile.ZipFile(wheel).namelist()


@pytest.mark.limit(90)
def test_an_install_without_a_compiler_has_the_transfer_in_python(sources):
    setup(sources, "bdist_wheel", CC="/nowhere/cc")
    names = names_in_wheel(sources)
    assert "gzmqsource/transfer/pure.py" in names
    assert not [name for name in names if name.endswith(".so")]


@pytest.mark.limit(90)
def test_a_build_that_requires_the_extension_fails_without_a_compiler_and_says_what_it_needs(
    sources,
):
    built = run_setup(sources, "bdist_wheel", CC="/nowhere/cc", GZMQSOURCE_REQUIRE_NATIVE="1")
    assert built.returncode != 0
    assert "GZMQSOURCE_REQUIRE_NATIVE=1, and the native transfer cannot be built" in built.stderr
    assert "It needs a C compiler, Python's headers" in built.stderr
    assert not [*sources.glob("dist/*.whl")]


@pytest.mark.limit(90)
@pytest.mark.parametrize("build", ["bdist_wheel", "build_ext --inplace"])
def test_a_build_that_fails_leaves_no_extension_of_an_earlier_one(sources, build):
    folder = "gzmqsource/transfer"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    earlier = sources / folder / f"native{suffix}"
    if build == "bdist_wheel":
        library = f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        earlier = sources / "build" / library / folder / earlier.name
    earlier.parent.mkdir(parents=True, exist_ok=True)
    earlier.write_bytes(b"of the release before")
    os.utime(earlier, (0, 0))
    setup(sources, *build.split(), CC="/nowhere/cc")
    assert not earlier.exists()


@pytest.mark.limit(90)
def test_the_source_distribution_has_what_a_build_needs(sources):
    setup(sources, "sdist")
    (archive,) = sources.glob("dist/*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"gzmqsource/transfer/native.pyx", "gzmqsource/workers/native.pyx"} <= names
    assert {"setup.py", "setup.cfg", "pyproject.toml"} <= names
    assert {"gzmqsource/py.typed", "LICENSE", "README.rst"} <= names


def python(program, folder=PROJECT, **environment):
    """Run a program whose packages are those in a folder first."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


SHOW = "from gzmqsource import transfer; print(transfer.backend, '|', transfer.reason)"


def test_the_environment_forces_a_transfer():
    assert python(SHOW, GZMQSOURCE_TRANSFER="pure").stdout == "pure | GZMQSOURCE_TRANSFER=pure\n"


def test_an_unknown_transfer_is_an_error_that_names_the_two():
    finished = python(SHOW, GZMQSOURCE_TRANSFER="turbo")
    assert "GZMQSOURCE_TRANSFER='turbo': use native or pure" in finished.stderr


HOW = "install a C compiler and Python's headers, then pip install --no-cache-dir"


@pytest.fixture(scope="module")
def not_built(tmp_path_factory):
    """Runs a program where the package has no extension."""
    folder = tmp_path_factory.mktemp("not_built")
    shutil.copytree(
        PROJECT / "gzmqsource", folder / "gzmqsource", ignore=shutil.ignore_patterns("*.so", "*.c")
    )
    return lambda program, wanted="": python(program, folder, GZMQSOURCE_TRANSFER=wanted)


def test_without_the_extension_pure_serves_and_says_in_one_line_how_to_get_it(not_built):
    finished = not_built(SHOW)
    assert finished.stdout.startswith(
        "pure | the native transfer is not available: it was not built"
    )
    assert HOW in finished.stdout
    assert finished.stdout.count("\n") == 1


#: What lies in the place of the package, by what the reason then says.
ELSEWHERE = {
    "it was built for another Python, as native.cpython-36m-darwin.so: pip install": "other",
    "Python loads no extension out of a zip: install gzmqsource, or unpack it": "zip",
}


@pytest.mark.parametrize("reason", list(ELSEWHERE))
def test_an_extension_that_is_there_and_cannot_be_loaded_is_not_said_to_be_unbuilt(
    reason, tmp_path
):
    ignored = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    shutil.copytree(PROJECT / "gzmqsource", tmp_path / "gzmqsource", ignore=ignored)
    transfer = tmp_path / "gzmqsource" / "transfer"
    if ELSEWHERE[reason] == "other":
        (transfer / "native.cpython-36m-darwin.so").touch()
        finished = python(SHOW, tmp_path, GZMQSOURCE_TRANSFER="")
    else:
        archive = shutil.make_archive(str(tmp_path / "app"), "zip", tmp_path, "gzmqsource")
        load = f"import sys; sys.path.insert(0, {archive!r}); "
        finished = python(load + SHOW, tmp_path.parent, GZMQSOURCE_TRANSFER="")
    assert f"pure | the native transfer is not available: {reason}" in finished.stdout


#: Opens two sources, and prints what is logged.
USE = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
import zmq
from gevent import monkey
monkey.patch_all()
import gzmqsource.monkey
print("imported")
from gzmqsource import Source
for _ in range(2):
    Source.open(zmq.PULL).close()
"""


def test_a_slow_transfer_that_no_one_asked_for_is_logged_once_and_at_its_first_use(not_built):
    lines = not_built(USE).stdout.splitlines()
    assert lines[0] == "imported"
    assert len(lines) == 2
    assert lines[1].startswith("WARNING gzmqsource.transfer: the transfer in Python is slower: ")
    assert HOW in lines[1]


def test_one_that_was_asked_for_is_not_logged(not_built):
    assert not_built(USE, "pure").stdout == "imported\n"


def test_forcing_the_missing_extension_is_an_error(not_built):
    finished = not_built(SHOW, "native")
    assert "ImportError: GZMQSOURCE_TRANSFER=native is not available: it was not" in finished.stderr


@pytest.fixture
def of_the_release_before(tmp_path):
    """Runs a program where the package is newer than its extension."""
    pytest.importorskip("gzmqsource.transfer.native")
    shutil.copytree(PROJECT / "gzmqsource", tmp_path / "gzmqsource")
    root = tmp_path / "gzmqsource" / "__init__.py"
    root.write_text(root.read_text().replace(f'"{__version__}"', '"999.0"'))
    return lambda program, wanted="": python(program, tmp_path, GZMQSOURCE_TRANSFER=wanted)


STALE = f"it is of version {__version__}, and this is 999.0: pip install --no-cache-dir"


def test_an_extension_of_another_version_is_not_used(of_the_release_before):
    shown = of_the_release_before(SHOW).stdout
    assert shown.startswith(f"pure | the native transfer is not available: {STALE}")


def test_forcing_an_extension_of_another_version_is_an_error(of_the_release_before):
    finished = of_the_release_before(SHOW, "native")
    assert f"ImportError: GZMQSOURCE_TRANSFER=native is not available: {STALE}" in finished.stderr


def test_what_the_import_of_the_extension_says_is_put_into_one_line():
    raising = """
import sys
class Finder:
    def find_spec(name, path, target=None):
        if name == "gzmqsource.transfer.native":
            raise ImportError("a symbol is missing\\n  in line 2\\n\\n")
sys.meta_path.insert(0, Finder)
"""
    finished = python(raising + SHOW, GZMQSOURCE_TRANSFER="")
    assert finished.stdout == (
        "pure | the native transfer is not available: a symbol is missing in line 2\n"
    )


#: What a program imports by itself; all else has to be found from there.
PUBLIC = """
import gzmqsource.__main__, gzmqsource.auth, gzmqsource.cli.__main__, gzmqsource.green
import gzmqsource.gunicorn, gzmqsource.metrics, gzmqsource.monitor, gzmqsource.monkey.__main__
import gzmqsource.proxy, gzmqsource.testing, gzmqsource.workers.logs, gzmqsource.workers.tracing
"""


def test_what_freezes_a_program_finds_every_module_and_the_extension(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PUBLIC)
    finder = modulefinder.ModuleFinder(path=[str(PROJECT)])
    finder.run_script(str(program))
    modules = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        for path in PROJECT.glob("gzmqsource/**/*.py")
    }
    # Where it was not built, it is among those that are looked for in vain.
    assert {*modules, "gzmqsource.transfer.native"} <= {*finder.modules, *finder.badmodules}
    assert not [name for name in finder.badmodules if name in modules]
