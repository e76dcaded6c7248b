"""The backend `bubblewrap`: the hostile corpus holds there too, with Landlock or without; where it can not be had nothing runs."""

import os
import re
import subprocess
import sys

import pytest
from other_users import ordinary, without
from sandbox_corpus import everything

from limbeck import sandbox
from limbeck.sandbox import bubblewrap

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement needs Linux")


@pytest.fixture
def bubblewrap_there():
    if why := sandbox.reason("bubblewrap"):
        pytest.skip(f"SKIPPED: bubblewrap can not be had here: {why}")


@pytest.mark.slow
def test_no_hostile_program_succeeds_and_every_honest_one_does(bubblewrap_there):
    outcomes = everything("bubblewrap")
    assert [one for one in outcomes if one.wrong] == []
    assert len(outcomes) >= 400


SOME = """
from hostile_world import World
from hostile_programs import HONEST
from limbeck import sandbox
from sandbox_corpus import attack, attacks, honest
assert "no Landlock" in sandbox.reason("strict")
with World() as world:
    kinds = ("network", "reading", "writing", "devices", "kernel")
    outcomes = [attack(world, one, "bubblewrap") for one in attacks() if one.kind in kinds]
outcomes += [honest(one, "bubblewrap") for one in HONEST if not one.allow]
print([one for one in outcomes if one.wrong], len(outcomes))
"""


def test_the_tree_of_its_own_is_enough_where_there_is_no_landlock(bubblewrap_there):
    if not (python := ordinary()):
        pytest.skip("SKIPPED: no setpriv, or no Python that every user may run.")
    script = [*python, "-c", without("landlock") + SOME]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    found, _, count = done.stdout.strip().rpartition(" ")
    assert found == "[]", done.stdout + done.stderr
    assert int(count) >= 150


@pytest.mark.skipif(os.geteuid() != 0, reason="only the kernel does not count root's threads")
def test_root_needs_landlock_for_then_there_is_a_proc_to_hide(bubblewrap_there):
    code = "from limbeck import sandbox\nprint(sandbox.reason('bubblewrap'))"
    done = subprocess.run(
        [sys.executable, "-c", without("landlock") + code], capture_output=True, text=True, check=True
    )
    assert "no Landlock" in done.stdout


def test_programs_and_verdicts_are_as_in_the_embedded_sandbox(bubblewrap_there):
    add = "def add(a, b): return a + b"
    assert sandbox.run("print(input())", stdin="x", level="bubblewrap").stdout == "x\n"
    for program, status in (("while True: pass", "timeout"), ("x = bytearray(1 << 30)", "memory"), ("1 / 0", "error"),
                            ("print('x' * (2 << 20))", "output-limit"), ("open('x', 'w')", "refused")):  # fmt: skip
        done = sandbox.run(program, seconds=0.5, level="bubblewrap")
        assert (done.status, done.level) == (status, "bubblewrap")
    for verdict in (
        sandbox.check_function(add, "add", [((2, 3), 5)], level="bubblewrap"),
        sandbox.check_asserts(add, ["assert add(2, 3) == 5"], level="bubblewrap"),
        sandbox.check_program("print(5)", [("", "5")], level="bubblewrap"),
    ):
        assert (verdict.status, verdict.level) == ("pass", "bubblewrap")
    filled = "for n in range(99): open(str(n), 'wb').write(bytes(1 << 20))"
    full = sandbox.run(filled, writable=True, disk_mb=16, level="bubblewrap")
    assert "No space left" in full.detail


def test_where_bubblewrap_is_missing_or_can_not_make_its_namespaces_nothing_is_run(tmp_path):
    code = """
from limbeck import sandbox
try:
    print(sandbox.run("print(1)", level="bubblewrap"))
except sandbox.SandboxUnavailable as fault:
    print(fault)
"""
    for start, path, why in (
        ("", str(tmp_path), "no bwrap in PATH"),
        (without("mount"), os.environ["PATH"], "bwrap: .+"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", start + code], env={"PATH": path}, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("This system can not confine programs with bubblewrap, so nothing was run")
        assert re.search(why, done.stdout), done.stdout


def test_what_is_shown_is_shown_once(tmp_path):
    for name in ("a", "ab", "a/inner"):
        (tmp_path / name).mkdir()
    paths = [str(tmp_path / name) for name in ("a/inner", "ab", "a", "a", "gone")]
    assert sorted(bubblewrap.outermost(paths)) == [str(tmp_path / "a"), str(tmp_path / "ab")]
