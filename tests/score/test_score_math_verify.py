"""math-verify behind its worker: verdicts, deadlines, threads, a killed worker, and a machine without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from math_pairs import CONTESTED

from driving import drive
from limbeck import api
from limbeck.core.row import Message, Row, new_row
from limbeck.engine.rundir import read_rows
from limbeck.score import _math_verify
from limbeck.score._math_verify import asked
from limbeck.score.math import Math, compare, equivalent

EASY = (r"\int_0^1 x\,dx", r"\frac{1}{2}")
HANG = r"\sum_{n=1}^{10^{10}} n^{n}"
HANG_TOO = r"\prod_{k=1}^{10^{9}} k^{k}"


@pytest.fixture(autouse=True, scope="module")
def worker() -> Iterator[None]:
    if not _math_verify.installed():
        pytest.skip("SKIPPED: math-verify is not installed.")
    _math_verify.warm()
    yield
    _math_verify._stop()


def judge(answer: str, reference: str) -> Row:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=f"\\boxed{{{answer}}}"))
    row = new_row(messages=turns, task={"kind": "math", "reference": reference}, made_by={"step": "test"})
    return drive(Math(), row)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (r"\int_0^1 x\,dx", r"\frac{1}{2}", True),
        (r"\int_0^1 x\,dx", r"\frac{1}{3}", False),
        (r"\int_0^1 x\,dx", "0.5000001", False),
        (r"10^{-20}\int_0^1 x\,dx", r"10^{-20}", False),
        (r"10^{-325}\int_0^1 2x\,dx", r"10^{-324}", False),
        (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}", True),
        (r"\sum_{k=1}^{n} k", r"\frac{n(n-1)}{2}", False),
        (r"\lim_{x\to 0}\frac{\sin x}{x}", "1", True),
        (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2", True),
        (r"\frac{d}{dx} x^2", "2x", True),
        (r"\frac{d}{dx} x^2", "x", False),
        *[p[:3] for p in CONTESTED if "takes math-verify" in p[3]],
    ],
)
def test_what_takes_algebra_is_asked_in_both_directions(left: str, right: str, same: bool) -> None:
    # patiently: on a busy machine half a second of work may take more than three
    for one, other in ((left, right), (right, left)):
        assert compare(one, other) == "unread"
        assert asked(one, other, patient=True) == ("same" if same else "different")


def test_words_and_broken_formulas_never_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: str) -> str:
        raise AssertionError("math-verify was asked")

    monkeypatch.setattr("limbeck.score.math.asked", reached)
    for left, right in [
        ("no", "on"),
        ("Paris", "London"),
        (r"\frac{1}{2", "1/2"),
        ("x^", "x"),
        ("1/2x", "x/2"),
        (r"\text{east}", "E"),
    ]:
        assert not equivalent(left, right)


def test_a_formula_that_never_ends_is_cut_off_and_gets_no_score() -> None:
    begun = time.monotonic()
    assert not equivalent(HANG, "1")
    assert time.monotonic() - begun < 3.0
    assert asked(*EASY, patient=True) == "same", "the next comparison is served as if nothing had happened"


def test_eight_threads_may_hang_at_once() -> None:
    pairs = [(HANG, str(n)) for n in range(3)] + [
        EASY,
        (r"\int_0^1 x\,dx", "1/3"),
        (HANG_TOO, "2"),
        ("1", "1"),
        ("1", "2"),
    ]
    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda pair: equivalent(*pair), pairs))
        assert time.monotonic() - begun < 3.0
        assert told[:3] == [False] * 3 and told[4:] == [False, False, True, False]
        told = list(pool.map(lambda pair: asked(*pair, patient=True), pairs[2:5]))
    assert told == ["undecided", "same", "different"]


def test_a_killed_worker_is_replaced() -> None:
    assert asked(*EASY, patient=True) == "same"
    server = _math_verify._server
    assert server is not None
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    told = [asked(*EASY, patient=True) for _ in range(2)]  # the first may meet the pipe of the dead one
    assert told[0] in ("same", "undecided") and told[1] == "same"
    assert _math_verify._server is not server


def test_the_verdict_says_who_gave_it() -> None:
    assert judge(r"\int_0^1 x\,dx", r"\frac{1}{2}").labels["detail"] == "compared by math-verify"
    assert judge(r"\int_0^1 x\,dx", r"\frac{1}{2}").scores["verified"] == 1.0
    assert judge(r"\int_0^1 x\,dx", r"\frac{1}{3}").labels["verdict"] == "wrong"
    assert "detail" not in judge("17", "17").labels


def test_the_step_asks_it_in_a_run(tmp_path: Path) -> None:
    answers = [r"\int_0^1 x\,dx", r"\int_0^1 x^2\,dx", "0.5", HANG]
    rows = [
        new_row(
            messages=(Message(role="user", content=f"{n}?"), Message(role="assistant", content=f"\\boxed{{{answer}}}")),
            task={"kind": "math", "reference": r"\frac{1}{2}"},
            made_by={"step": "test"},
        )
        for n, answer in enumerate(answers)
    ]
    api.apply(Math(), rows, out=tmp_path / "out")
    kept = list(read_rows(next((tmp_path / "out").glob("*-math")) / "kept.parquet"))
    assert [r.labels["verdict"] for r in kept] == ["pass", "wrong", "pass", "harness-failure"]
    assert kept[3].scores == {} and kept[3].labels["detail"] == "math-verify found no verdict in its time"


def test_without_math_verify_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("math", "_math_verify"):
        monkeypatch.setattr(f"limbeck.score.{module}.installed", lambda: False)
    judged = judge(r"\int_0^1 x\,dx", r"\frac{1}{2}")
    assert judged.labels["verdict"] == "harness-failure" and judged.scores == {}
    assert "pip install 'limbeck[math]'" in judged.labels["detail"]
    assert not equivalent(r"\int_0^1 x\,dx", r"\frac{1}{2}")
    assert judge(r"\sqrt{8}", r"2\sqrt{2}").scores["verified"] == 1.0, "what is read here needs no help"


def test_no_algebra_system_is_loaded_here_and_nothing_stays_behind() -> None:
    program = (
        "import sys\n"
        "from limbeck.score.math import equivalent\n"
        "from limbeck.score import _math_verify as v\n"
        "assert equivalent(r'\\sqrt{8}', r'2\\sqrt{2}') and v._server is None\n"
        "assert v.asked(r'\\int_0^1 x\\,dx', '1/2', patient=True) == 'same'\n"
        "assert not {'sympy', 'math_verify', 'antlr4'} & set(sys.modules)\n"
        "print(v._server.process.pid)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_a_forked_process_starts_its_own_worker() -> None:
    assert asked(*EASY, patient=True) == "same"
    child = os.fork()
    if child == 0:
        fresh = _math_verify._server is None
        right = asked(*EASY, patient=True) == "same"
        _math_verify._stop()
        os._exit(0 if fresh and right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert asked(*EASY, patient=True) == "same"
