"""Write docs/reference.md: every recipe, step and teacher with its options, from the code itself.

python scripts/write_reference.py            # writes docs/reference.md
python scripts/write_reference.py --check    # exit code 1 if it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from limbeck import api
from limbeck.core.find import recipe_names, step_names, teacher_names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
HEAD = """# Reference

Every recipe, step and teacher with its options. Written by `python scripts/write_reference.py`; the command line shows the
same: `limbeck list`, `limbeck list score.math`. Every step also has `name` and `after` ([concepts](concepts.md#branches)).
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## Recipes\n", *(_part(n) for n in recipe_names())]
    parts += ["## Steps\n", *(_part(n) for n in step_names())]
    headlines = api.catalogue("teachers")["teachers"]
    parts += ["## Teachers\n", _table("teacher", "what it is", {f"`{n}`": headlines[n] for n in teacher_names()})]
    return "\n".join(parts)


def _part(name: str) -> str:
    title, options = next(iter(api.catalogue(name).items()))
    sentence = title.partition(": ")[2]
    shown = {f"`{option}`": text for option, text in options.items()}
    return f"### {name}\n\n{sentence}\n\n" + (
        _table("option", "type, default, meaning", shown) if shown else "No options.\n"
    )


def _table(left: str, right: str, entries: dict[str, str]) -> str:
    escaped = {key: text.strip().replace("|", "\\|").replace("<", "&lt;") for key, text in entries.items()}
    return "\n".join([f"| {left} | {right} |", "|---|---|", *(f"| {k} | {v} |" for k, v in escaped.items())]) + "\n"


def main() -> None:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit("docs/reference.md is out of date; run python scripts/write_reference.py")
        return
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
