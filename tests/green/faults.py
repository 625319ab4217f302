"""Run the tests of the faults over both libraries; write the table in docs: ``make faults``."""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = ROOT / "build" / "faults"
NAMES = ("zmq.green", "gzmqsource.green")

HEAD = """\
Faults of zmq.green
===================

The behaviour of ``zmq.green``, which comes with pyzmq, and of ``gzmqsource.green``. Each line is a
claim, with one or more tests in ``tests/green``. ``make faults`` runs them over both libraries and
writes this table; *yes* means that all tests of the line passed. A fault that depends on timing may
pass by luck.

.. list-table::
   :header-rows: 1
   :widths: 60 20 20

   * -
     - ``zmq.green``
     - ``gzmqsource.green``
"""


def run(name):
    """Run the tests over one drop-in; which faults it does not show."""
    environment = {**os.environ, "GZMQSOURCE_TEST_GREEN": name, "GZMQSOURCE_FAULTS": str(RESULTS)}
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-m", "fault", str(HERE)]
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    return json.loads((RESULTS / f"{name}.json").read_text())


def main():
    results = [run(name) for name in NAMES]
    rows = [
        f"   * - {fault}\n"
        + "".join(f"     - {'yes' if one[fault] else 'no'}\n" for one in results)
        for fault in results[-1]
    ]
    (ROOT / "docs" / "faults.rst").write_text(HEAD + "".join(rows))
    return not all(results[-1].values())


if __name__ == "__main__":
    sys.exit(main())
