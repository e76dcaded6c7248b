"""Run every benchmark of this folder: `make bench`, or `python bench/run.py math engine` for some.

Each prints one line per comparison: ours, the other way of doing the same work, and the ratio, in CPU seconds.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALL = sorted(file.stem.removeprefix("bench_") for file in HERE.glob("bench_*.py"))


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    wanted = sys.argv[1:] or ALL
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        sys.exit(f"There is no benchmark '{unknown[0]}'. There are: {', '.join(ALL)}.")
    sys.path.insert(0, str(HERE))
    for name in wanted:
        print(f"-- {name}")
        runpy.run_path(str(HERE / f"bench_{name}.py"), run_name="__main__")


if __name__ == "__main__":
    main()
