"""The forms of an install that need no network, and what the metadata says of it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipapp

import pytest

import gzmqsource
from gzmqsource import transfer

pytestmark = pytest.mark.once

PROJECT = pathlib.Path(__file__).parent.parent
SMOKE = PROJECT / "checks" / "smoke.py"


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
    assert finished.returncode == 0, finished.stderr


def test_it_works_out_of_a_zip_with_the_transfer_in_python(tmp_path):
    folder = tmp_path / "application"
    copy_package(folder / "gzmqsource")
    shutil.copy(SMOKE, folder / "__main__.py")
    zipapp.create_archive(folder, tmp_path / "application.pyz")
    shutil.rmtree(folder)
    finished = smoke(tmp_path / "application.pyz", "pure", site=tmp_path)
    assert finished.returncode == 0, finished.stderr


@pytest.fixture
def described(tmp_path):
    """The metadata, as a build writes it."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(PROJECT / name, tmp_path)
    copy_package(tmp_path / "gzmqsource")
    command = [sys.executable, "setup.py", "--quiet", "egg_info"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    return (tmp_path / "gzmqsource.egg-info" / "PKG-INFO").read_text()


def test_the_version_is_the_metadatas(described):
    assert f"\nVersion: {gzmqsource.__version__}\n" in described


def test_the_metadata_names_each_python_from_the_first_that_it_needs(described):
    named = re.findall(r"^Classifier: Programming Language :: Python :: 3\.(\d+)$", described, re.M)
    first = re.search(r"^Requires-Python: >=3\.(\d+)$", described, re.M)
    assert first is not None
    assert [int(minor) for minor in named] == [*range(int(first[1]), int(named[-1]) + 1)]
