"""The documentation is run: what a page prints is what a reader gets.

A line of HTML comment before a fenced block, invisible to the reader, says what the block is:

    <!-- runs -->                   a `console` or `python` block that must end with exit code 0
    <!-- runs: exit 2 -->           … with exit code 2
    <!-- runs: needs corpora -->    … where the public corpora are beside the checkout (or a module is installed)
    <!-- runs: unchecked -->        … but what it prints is not compared, because it holds times or machine-bound numbers
    <!-- file: my_score.py -->      the block is a file; it is written before the next block runs
    <!-- not run: why -->           the block is only shown

Blocks of a page run in order in one empty folder. Every line of output that a `console` block shows must be printed, in
that order; `...` in a shown line stands for anything, a line of only `...` for any lines. Every `console` and `python` block
must say what it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer.main

from limbeck.core.find import recipe_names, step_names, teacher_names

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
RUN = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MARK = re.compile(r"<!--\s*(runs|file|not run)\s*(?::\s*(.*?))?\s*-->")
CORPUS = "gsm8k/example_model_solutions.jsonl"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page, with what its mark says of it."""

    line: int
    language: str
    text: str
    mark: str = ""
    note: str = ""

    @property
    def exit_code(self) -> int:
        found = re.search(r"exit (\d+)", self.note)
        return int(found[1]) if found else 0

    @property
    def needs(self) -> list[str]:
        return re.findall(r"needs (\w+)", self.note)


def blocks(page: Path) -> list[Block]:
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("```"):
            at += 1
            continue
        end = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("```"))
        above = MARK.fullmatch(lines[at - 1].strip()) if at else None
        mark, note = (above[1], above[2] or "") if above else ("", "")
        found.append(Block(at + 1, lines[at][3:].strip(), "\n".join(lines[at + 1 : end]) + "\n", mark, note))
        at = end + 1
    return found


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not leads_somewhere(page, link)]
    assert not broken, f"{name(page)}: these links lead nowhere: {broken}"


def leads_somewhere(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", RUN, ids=name)
def test_every_block_says_what_it_is(page: Path) -> None:
    silent = [b.line for b in blocks(page) if b.language in ("console", "python") and not b.mark]
    assert not silent, f"{name(page)}: blocks at lines {silent} have no mark; see the top of this file."


@pytest.mark.parametrize("page", [p for p in RUN if any(b.mark == "runs" for b in blocks(p))], ids=name)
def test_what_a_page_shows_is_what_it_does(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    left_out = []
    for block in blocks(page):
        if block.mark == "file":
            target = tmp_path / block.note
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif block.mark == "runs":
            missing = [need for need in block.needs if not there(need, tmp_path)]
            if missing:
                left_out.append(f"line {block.line} needs {missing[0]}")
            else:
                run(page, block, tmp_path)
    if left_out:
        pytest.skip(f"SKIPPED, the rest of {name(page)} passed: {'; '.join(left_out)}")


def there(need: str, folder: Path) -> bool:
    if need != "corpora":
        return find_spec(need) is not None
    corpora = Path(os.environ.get("LIMBECK_CORPORA", ROOT.parent / "shared" / "data"))
    target = folder / Path(CORPUS).name
    if not (corpora / CORPUS).is_file():
        return False
    if not target.exists():
        target.symlink_to(corpora / CORPUS)
    return True


def run(page: Path, block: Block, folder: Path) -> None:
    for offset, command, shown in commands(block):
        where = f"{name(page)}:{block.line + offset}"
        shell = [sys.executable] if block.language == "python" else ["bash", "-euo", "pipefail"]
        done = subprocess.run(
            [*shell, "-c", command], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == block.exit_code, f"{where}: exit code {done.returncode}\n{command}\n{done.stdout}"
        if "unchecked" not in block.note:
            missing = first_missing(shown, done.stdout)
            assert missing is None, f"{where}: not printed: {missing!r}\n{command}\nprinted:\n{done.stdout}"


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and k != "LIMBECK_CACHE"}
    return {**kept, "PATH": path, "COLUMNS": "120", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def commands(block: Block) -> Iterator[tuple[int, str, list[str]]]:
    """Yield line, command and shown output: a python block is one command, a console block one per `$ `."""
    if block.language == "python":
        yield 0, block.text, []
        return
    lines = block.text.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("$ ")]
    assert starts and starts[0] == 0, f"line {block.line}: a console block begins with '$ '"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        body = lines[start:end]
        length = next(i for i, line in enumerate(body) if not line.endswith("\\")) + 1
        yield start + 1, "\n".join(body[:length])[2:], body[length:]


def first_missing(shown: list[str], printed: str) -> str | None:
    """Return the first shown line that was not printed after the one before it."""
    rest = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in shown:
        wanted = " ".join(line.split())
        if wanted in ("", "..."):
            continue
        pattern = re.compile(".*".join(map(re.escape, wanted.split("..."))))
        if not any(pattern.fullmatch(candidate) for candidate in rest):
            return line
    return None


def test_every_part_is_in_the_docs() -> None:
    from limbeck.cli import app

    text = "\n".join(page.read_text(encoding="utf-8") for page in RUN)
    verbs = [f"limbeck {verb}" for verb in typer.main.get_command(app).commands]  # type: ignore[attr-defined]
    parts = [*step_names(), *(f"`{recipe}`" for recipe in recipe_names()), *(f"`{t}" for t in teacher_names()), *verbs]
    missing = [part for part in parts if part not in text]
    assert not missing, f"in no page of the docs: {missing}"


def test_the_reference_page_is_current() -> None:
    script = ROOT / "scripts" / "write_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#:]+)[^)]*\)", page.read_text(encoding="utf-8"))
        todo += [(page.parent / link).resolve() for link in links if (page.parent / link).is_file()]
    assert not (lost := sorted(name(p) for p in RUN if p not in reached)), f"no link leads to {lost}"


def test_the_check_can_fail() -> None:
    assert first_missing(["a ... c", "...", "d"], "a b c\nx\nd") is None
    assert first_missing(["d", "a"], "a\nd") == "a"
    assert first_missing(["1,319 kept"], "1,318 kept") == "1,319 kept"
