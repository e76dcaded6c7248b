"""Steps: what a slip of the pen costs (one sentence with the nearest name and the place), and what a fingerprint covers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import field_validator, model_validator

from limbeck import Drop, Each, Make, Message, Row, Source, Whole
from limbeck.core.ask import Answer, Ask, Reply
from limbeck.core.errors import UnknownName, UsageError
from limbeck.core.row import from_table, new_row, to_table
from limbeck.core.step import Prompt


class Sieve(Each):
    """A step with options of several kinds."""

    least: float
    mode: Literal["strict", "lenient"] = "strict"
    teacher: str = ""
    others: tuple[str, ...] = ()

    @field_validator("least")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value < 0:
            raise ValueError("it must not be negative")
        return value

    def each(self, row: Row) -> Row | Drop:
        return row


class Pair(Each):
    """Two options that must agree."""

    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> Pair:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


def refusal(**fields: Any) -> str:
    with pytest.raises(UsageError) as caught:
        Sieve(**fields)
    return str(caught.value)


def test_a_misspelt_option_names_the_nearest_and_the_line() -> None:
    with pytest.raises(UnknownName) as caught:
        Sieve(least=1.0, mod="strict")
    line = caught.traceback[0].lineno + 1
    told = str(caught.value)
    assert told.startswith(f"test_core_step.py:{line}: ") and told.endswith("has no option 'mod'. Did you mean 'mode'?")
    assert isinstance(caught.value, LookupError) and caught.value.exit_code == 2


def test_an_option_that_resembles_nothing_lists_what_there_is() -> None:
    assert "There are: after, least, mode, name, others, teacher." in refusal(least=1, zzz=1)


def test_a_wrong_type_a_wrong_word_and_a_missing_option_are_each_one_sentence() -> None:
    assert "option 'least' can not be 'much': Input should be a valid number" in refusal(least="much")
    assert "option 'mode' can not be 'stict': Input should be 'strict' or 'lenient'" in refusal(least=1, mode="stict")
    assert "needs the option 'least'; give it a value." in refusal()
    assert "option 'least' can not be -1: it must not be negative." in refusal(least=-1)


def test_options_that_disagree_are_one_sentence_without_an_empty_name() -> None:
    with pytest.raises(UsageError, match=r"Pair: low must not be above high\.$"):
        Pair(low=3)


def test_steps_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Sieve(least=1).least = 2  # type: ignore[misc]


def test_a_step_knows_what_it_refers_to() -> None:
    step = Sieve(least=1, teacher="step:student", others=("step:a", "b", "step:student"))
    assert step.needs() == ("student", "a")


def test_the_name_of_a_users_own_step_is_its_path_and_is_shown_without_its_folder() -> None:
    assert Sieve.called() == f"{Path(__file__).resolve()}:Sieve" and Sieve.shown() == "test_core_step.py:Sieve"


def test_fingerprints_cover_fields_and_files_but_not_wiring(tmp_path: Path) -> None:
    class Reads(Each):
        path: str

        def watch(self) -> tuple[Path, ...]:
            return (Path(self.path),)

    file = tmp_path / "names.txt"
    file.write_text("a")
    first = Reads(path=str(file)).fingerprint()
    assert Reads(path=str(file), name="other", after="x").fingerprint() == first
    file.write_text("b")
    second = Reads(path=str(file)).fingerprint()
    file.unlink()
    assert len({first, second, Reads(path=str(file)).fingerprint(), Reads(path=str(tmp_path)).fingerprint()}) == 4
    assert Sieve(least=1).fingerprint() != Sieve(least=2).fingerprint()
    assert Sieve(least=1).fingerprint() == Sieve(least=1.0).fingerprint()


STEP_FILE = """
from limbeck import Each
from base import Base
class Mine(Base):
    size: int = 1
    def each(self, row): return row{change}
"""
BASE_FILE = "from limbeck import Each\nclass Base(Each):\n    pass{change}\n"


def print_in_new_process(folder: Path, seed: str, step: str = "", base: str = "", options: str = "size=1") -> str:
    (folder / "mine.py").write_text(STEP_FILE.format(change=step))
    (folder / "base.py").write_text(BASE_FILE.format(change=base))
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import mine; print(mine.Mine({options}).fingerprint())"
    environment = {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_fingerprints_are_the_same_in_every_process_and_follow_the_code(tmp_path: Path) -> None:
    first = print_in_new_process(tmp_path, "1")
    assert len(first) == 32 and print_in_new_process(tmp_path, "2", options="size=1, name='x'") == first
    changed = {
        print_in_new_process(tmp_path, "1", step="  # changed"),
        print_in_new_process(tmp_path, "1", base="  # changed"),
        print_in_new_process(tmp_path, "1", options="size=2"),
    }
    assert len(changed) == 3 and first not in changed


def test_made_by_names_the_step_its_print_and_how() -> None:
    made = Sieve(least=1).made(sample=3)
    assert made["step"] == "test_core_step.py:Sieve" and made["sample"] == 3
    assert made["fingerprint"] == Sieve(least=1, name="x").made()["fingerprint"] != Sieve(least=2).made()["fingerprint"]


def test_a_prompt_step_is_two_pure_functions_driven_by_hand() -> None:
    class Twice(Prompt):
        def ask(self, row: Row) -> Ask:
            return Ask(messages=row.prompt, teacher=self.teacher)

        def read(self, row: Row, reply: Reply) -> Row:
            return row.with_labels(said=reply.text)

    row = new_row(messages=[Message(role="user", content="q")], made_by={})
    asking = Twice(teacher="echo").each(row)
    assert next(asking).messages == row.messages
    with pytest.raises(StopIteration) as end:
        asking.send(Reply(answers=(Answer(text="a"),)))
    assert end.value.value.labels == {"said": "a"}


def test_a_whole_step_may_be_written_over_rows() -> None:
    class Even(Whole):
        def whole(self, rows: list[Row]) -> list[Row]:
            return [row.drop("even: odd") if index % 2 else row for index, row in enumerate(rows)]

    rows = [new_row(messages=[], made_by={"i": i}) for i in range(4)]
    assert [r.dropped for r in from_table(Even().table(to_table(rows)))] == [None, "even: odd"] * 2


@pytest.mark.parametrize("kind", [Source, Each, Prompt, Whole, Make])
def test_a_step_that_defines_nothing_says_what_it_lacks(kind: type) -> None:
    step = kind(teacher="x") if kind is Prompt else kind()
    row = new_row(messages=[], made_by={})
    with pytest.raises(TypeError, match="defines n"):
        if kind is Source:
            step.rows()
        elif kind is Whole:
            step.whole([])
        elif kind is Make:
            step.make([], None)
        else:
            next(step.each(row))
