"""What an install gives, with a compiler and without, in each form, and the transfer in use."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipapp
import zipfile

import pytest

import gzmqsource
from gzmqsource import transfer

pytestmark = pytest.mark.once

PROJECT = pathlib.Path(__file__).parent.parent
SMOKE = PROJECT / "checks" / "smoke.py"


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


def smoke(*command, site):
    """Run a program that uses the package of another folder; a warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, command)],
        # No bytecode: root may write where nobody may.
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=site,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def copy_package(target):
    built = ("*.c", "__pycache__")
    shutil.copytree(PROJECT / "gzmqsource", target, ignore=shutil.ignore_patterns(*built))


@pytest.fixture
def read_only_site(tmp_path):
    """The package in a folder with a space in its path, where nothing may be written."""
    site = tmp_path / "site packages"
    copy_package(site / "gzmqsource")
    everything = [site, *site.rglob("*")]
    modes = {path: path.stat().st_mode for path in everything}
    for path in everything:
        path.chmod(modes[path] & ~0o222)
    yield site
    for path, mode in modes.items():
        path.chmod(mode)
    assert [site, *site.rglob("*")] == everything


@pytest.mark.parametrize("option", [None, "-O", "-OO"])
def test_it_works_read_only_with_spaces_in_its_path_and_optimized(read_only_site, option):
    options = [option] if option else []
    finished = smoke(*options, SMOKE, transfer.backend, site=read_only_site)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_it_works_out_of_a_zip_with_the_transfer_in_python(tmp_path):
    folder = tmp_path / "application"
    copy_package(folder / "gzmqsource")
    shutil.copy(SMOKE, folder / "__main__.py")
    zipapp.create_archive(folder, tmp_path / "application.pyz")
    shutil.rmtree(folder)
    finished = smoke(tmp_path / "application.pyz", "pure", site=tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.fixture
def described(sources):
    """The metadata, as a build writes it."""
    setup(sources, "egg_info")
    (path,) = sources.glob("*.egg-info/PKG-INFO")
    return path.read_text()


def test_the_version_is_the_metadatas(described):
    assert f"\nVersion: {gzmqsource.__version__}\n" in described


def test_the_metadata_names_each_python_from_the_first_that_it_needs(described):
    named = re.findall(r"^Classifier: Programming Language :: Python :: 3\.(\d+)$", described, re.M)
    first = re.search(r"^Requires-Python: >=3\.(\d+)$", described, re.M)
    assert first is not None
    assert [int(minor) for minor in named] == [*range(int(first[1]), int(named[-1]) + 1)]
