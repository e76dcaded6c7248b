"""The law of docs: every command of the command line and every recipe is in the documentation, with an example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from limbeck.cli import app
from limbeck.core.find import recipe_names

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.is_file())
VERBS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_shown_at_work(verb: str) -> None:
    assert re.search(rf"^\s*(\$ )?limbeck {verb}\b", TEXT, re.MULTILINE), f"`limbeck {verb}` is shown on no page"


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_is_named(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    options = [o for p in command.params for o in p.opts if o.startswith("--") and o != "--help"]
    assert [o for o in options if not re.search(rf"{re.escape(o)}\b", TEXT)] == []


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_is_in_the_docs(recipe: str) -> None:
    assert re.search(rf"\b{recipe}\b", TEXT)
