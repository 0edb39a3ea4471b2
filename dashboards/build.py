"""Builds dashboards/*.json with Grafana's foundation SDK: python -m dashboards.build [--check]."""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.overview import overview

FILE = Path(__file__).with_name("overview.json")


def main() -> int:
    """Write the file; with --check only say whether it is current."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a file is not current")
    check = parser.parse_args().check
    content = JSONEncoder(sort_keys=True, indent=2).encode(overview().build()) + "\n"
    if FILE.exists() and FILE.read_text(encoding="utf-8") == content:
        return 0
    if not check:
        FILE.write_text(content, encoding="utf-8")
    sys.stdout.write(f"{FILE.name} {'is not what dashboards/ makes' if check else 'written'}\n")
    return int(check)


if __name__ == "__main__":
    sys.exit(main())
