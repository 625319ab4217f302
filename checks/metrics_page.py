"""Every number that `gzmqsource serve --metrics` has: what docs/metrics.csv holds.

``python checks/metrics_page.py > docs/metrics.csv``
"""

import csv
import sys

from prometheus_client import REGISTRY

from gzmqsource.cli._exposition import Exposition


def main() -> None:
    Exposition(workers=lambda _: {})
    table = csv.writer(sys.stdout, lineterminator="\n")
    for family in sorted(REGISTRY.collect(), key=lambda family: family.name):
        if family.name.startswith("gzmqsource_"):
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            table.writerow([f"``{family.name}{suffix}``", family.type, family.documentation])


if __name__ == "__main__":
    main()
