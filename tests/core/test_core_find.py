"""Finding parts by name: what ships, what a user wrote, and the sentence for everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.core import find
from limbeck.core.errors import UnknownName, UsageError
from limbeck.core.step import Step

OWN = """
from limbeck import Each, Recipe, Source
class Units(Each):
    def each(self, row): return row
class Numbers(Source):
    def rows(self): return iter(())
class Own:
    def __init__(self, rest): self.identity = "own"
def own(): return Recipe(steps=[Numbers()])
def recipe(): return own()
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("name", find.step_names())
def test_every_step_is_found_by_its_name(name: str) -> None:
    kind = find.find_step(name)
    assert issubclass(kind, Step) and kind.called() == name == kind.shown()


def test_listing_the_steps_imports_none_of_them() -> None:
    code = "import sys; from limbeck.core.find import *; print(len(step_names())); "
    code += "print([m for m in sys.modules if 'limbeck.score' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, loaded = done.stdout.split("\n")[:2]
    assert int(count) > 10 and loaded == "[]"


def test_an_unknown_name_names_the_nearest() -> None:
    for name in ("score.mth", "scores.math"):
        with pytest.raises(UnknownName, match=r"There is no step '.*'\. Did you mean 'score\.math'\?"):
            find.find_step(name)
    with pytest.raises(UnknownName, match=r"no teacher 'embeded'\. Did you mean 'embedded'\?"):
        find.find_teacher("embeded")
    with pytest.raises(UnknownName, match=r"no recipe 'strar'\. Did you mean 'star'\?"):
        find.find_recipe("strar")


@pytest.mark.parametrize(
    "name",
    ["", ".", "score", "score.", ".math", "score.math.Math", "core.row", "os.path", "score._answers", "SCORE.MATH"],
)
def test_what_is_no_step_is_never_imported(name: str) -> None:
    with pytest.raises(UnknownName, match="There is no step"):
        find.find_step(name)


def test_a_users_own_parts_are_found_by_path(own: Path) -> None:
    assert find.find_step(f"{own}:Units").__name__ == "Units"
    assert find.find_step(f"{own}:Units") is find.find_step(f"{own}:Units"), "a file is imported once"
    assert find.find_teacher(f"{own}:Own")("").identity == find.find_teacher(str(own))("").identity == "own"
    assert find.find_recipe(str(own)).__name__ == "own" and find.find_recipe(f"{own}:recipe").__name__ == "recipe"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("mine.py", ("mine.py", "")),
        ("/a.pyproj/b.py:Class", ("/a.pyproj/b.py", "Class")),
        ("score.python", None),
        ("openai:m@http://me.pythonanywhere.com/v1", None),
        ("replay:answers.py.jsonl", None),
        ("mine.py:a:b", None),
    ],
)
def test_what_is_a_file_of_the_users_own(name: str, parts: tuple[str, str] | None) -> None:
    assert find.own_file(name) == parts


def test_a_file_with_several_steps_asks_which(own: Path) -> None:
    with pytest.raises(UnknownName, match=r"write path\.py:Class\. Step classes in that file: Units, Numbers\."):
        find.find_step(str(own))
    with pytest.raises(UnknownName, match="Step classes in that file"):
        find.find_step(f"{own}:Nothing")
    with pytest.raises(UnknownName, match=r"own\.py:nothing has no function named 'nothing'\."):
        find.find_recipe(f"{own}:nothing")


def test_a_file_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"There is no file .*gone\.py \(looked for /"):
        find.find_step(f"{tmp_path}/gone.py:X")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("import limbeck\nx = = 1\n", 2, "this is not valid Python: invalid syntax"),
        ("x = 1\n\ny = 1 / 0\n", 3, "importing this file failed with ZeroDivisionError: division by zero"),
        ("def f():\n    return nothing\nf()\n", 2, "importing this file failed with NameError"),
        ("import no_such_thing\n", 1, "importing this file failed with ModuleNotFoundError"),
        ("from limbeck import Each\nclass A(Each):\n    x: int\nA(y=1)\n", 4, "has no option 'y'"),
    ],
)
def test_a_file_that_can_not_be_imported_names_its_line(tmp_path: Path, text: str, line: int, told: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        find.find_step(f"{path}:A")
    assert f"broken.py:{line}: " in str(caught.value) and told in str(caught.value)


def test_a_corrected_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "later.py"
    path.write_text("raise ValueError('not yet')")
    with pytest.raises(UsageError, match="not yet"):
        find.find_step(f"{path}:Units")
    path.write_text(OWN + "# longer, so that no cached bytecode fits")
    assert find.find_step(f"{path}:Units").__name__ == "Units"
