"""`limbeck` and `python -m limbeck`: the command line as a program of its own.

A program may tune its interpreter where a library must not: the collector's walks over what the imports leave behind cost a
short run a fifth of its time, so here it looks less often; and pydantic does not look through all installed packages for
plugins of itself, unless PYDANTIC_DISABLE_PLUGINS says that it should.
"""

from __future__ import annotations

import gc
import os

gc.set_threshold(50_000, 20, 50)
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def main() -> None:
    """Run the command line."""
    from limbeck.cli import main as run

    run()


if __name__ == "__main__":
    main()
