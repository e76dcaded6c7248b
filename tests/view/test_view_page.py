"""The compiled template: kept like a module's, used again, and never in the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader

from limbeck.view._page import PageCache


def page(folder: Path) -> str:
    """Fill in the template of a folder, with an environment of its own."""
    world = Environment(loader=FileSystemLoader(folder), autoescape=True, bytecode_cache=PageCache(folder))
    return world.get_template("page.html").render(name="<b>")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (tmp_path / "page.html").write_text("Hello {{ name }}")
    return tmp_path


def test_it_is_compiled_once_and_again_when_the_text_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page(folder) == "Hello &lt;b&gt;"
    [kept] = (folder / "__pycache__").iterdir()
    first = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Environment, "compile", None)  # it would be called to compile
        assert page(folder) == "Hello &lt;b&gt;"
    (folder / "page.html").write_text("Goodbye {{ name }}")
    assert page(folder) == "Goodbye &lt;b&gt;"
    assert kept.read_bytes() != first


def test_nothing_is_written_where_python_may_write_no_bytecode(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert page(folder) == "Hello &lt;b&gt;"
    assert not (folder / "__pycache__").exists()


def test_a_folder_that_can_not_be_written_to_is_no_matter(folder: Path) -> None:
    (folder / "__pycache__").write_text("a file where the folder should be")
    assert page(folder) == "Hello &lt;b&gt;"


def test_a_damaged_one_is_compiled_again(folder: Path) -> None:
    page(folder)
    [kept] = (folder / "__pycache__").iterdir()
    kept.write_bytes(b"not bytecode")
    assert page(folder) == "Hello &lt;b&gt;"
