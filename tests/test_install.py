"""What an install gives, with a compiler and without, and which transfer is then in use."""

import os
import pathlib
import subprocess
import sys
import tarfile
import zipfile

import pytest

pytestmark = pytest.mark.once

PROJECT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def sources(tmp_path):
    """A copy of what a build needs, so that the checkout stays clean."""
    target = tmp_path / "project"
    for name in (*PROJECT.glob("gzmqsource/**/*"), *PROJECT.glob("*")):
        if name.is_file() and name.suffix not in (".pyc", ".so", ".c"):
            copy = target / name.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(name.read_bytes())
    return target


def setup(project, *command, **environment):
    finished = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *command],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
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
def test_the_source_distribution_has_what_a_build_needs(sources):
    setup(sources, "sdist")
    (archive,) = sources.glob("dist/*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"gzmqsource/transfer/native.pyx", "setup.py", "setup.cfg", "pyproject.toml"} <= names
    assert {"gzmqsource/py.typed", "LICENSE", "README.rst"} <= names


def python(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
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


def test_without_the_extension_pure_serves_and_says_why():
    hide = "import sys; sys.modules['gzmqsource.transfer.native'] = None; "
    finished = python(hide + SHOW, GZMQSOURCE_TRANSFER="")
    assert finished.stdout.startswith("pure | the native transfer cannot be had: ")


def test_forcing_the_missing_extension_is_an_error():
    hide = "import sys; sys.modules['gzmqsource.transfer.native'] = None; "
    finished = python(hide + SHOW, GZMQSOURCE_TRANSFER="native")
    assert "ImportError: GZMQSOURCE_TRANSFER=native cannot be had" in finished.stderr
