"""Our client against the others: 2,000 prompts, a server that answers after 50 ms, 64 requests in flight, in turn.

    python bench/run.py client
    LIMBECK_BENCH_ENVS=~/peers LIMBECK_BENCH_ROUNDS=5 python bench/run.py client

Ours is `limbeck run` of a small recipe, all included: the file is read, every answer is durable in the cache before it is used,
rows go to Parquet, the report is written. `aiohttp` is a bare loop that keeps nothing. Each client is a fresh process. The
whole tools are looked for in LIMBECK_BENCH_ENVS, a folder of virtual environments with their names:

    python -m venv ~/peers/curator && ~/peers/curator/bin/pip install bespokelabs-curator
    python -m venv ~/peers/datadesigner && ~/peers/datadesigner/bin/pip install data-designer
    python -m venv ~/peers/distilabel && ~/peers/distilabel/bin/pip install 'distilabel[openai]' requests beautifulsoup4

Requests a second count from the first request to the last answer, at the server. On a shared machine they swing; trust the CPU
seconds, and ratios inside a round. Repeats and losses are what the server saw: requests that came again, and answers that
found nobody. distilabel has batches of 50 instead of 64 in flight.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from client_measure import Mock, Took, measure

HERE = Path(__file__).resolve().parent
PROMPTS = int(os.environ.get("LIMBECK_BENCH_PROMPTS", "2000"))
ROUNDS = int(os.environ.get("LIMBECK_BENCH_ROUNDS", "3"))
FEW, IN_FLIGHT, LATENCY = 100, 64, 0.05
WORDS = "Explain to a careful beginner how much is left when so many of them are taken away"
OTHERS = {
    "aiohttp": "aiohttp",
    "httpx": "httpx",
    "openai": "openai",
    "curator": "bespokelabs.curator",
    "datadesigner": "data_designer",
    "distilabel": "distilabel",
}
"""Client -> the module without which it is not installed."""


def write_prompts(path: Path, count: int) -> None:
    """Write a JSONL file of prompts; their requests are 370 to 490 bytes."""
    words = WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            text = " ".join(words[(i + k * k) % len(words)] for k in range(44 + i % 21))
            file.write(json.dumps({"prompt": f"Question {i}: {text}?"}) + "\n")


def ours(url: str, prompts: Path, folder: Path) -> list[str]:
    """Return the command of our client."""
    words = ["--prompts", str(prompts), "--teacher", f"openai:m@{url}", "--out", str(folder / "run"), "--quiet"]
    return [sys.executable, "-m", "limbeck", "run", str(HERE / "client_recipe.py"), *words]


def interpreter(name: str) -> str | None:
    """Return the Python that has a client: this one, or that of an environment in LIMBECK_BENCH_ENVS."""
    envs = Path(os.environ.get("LIMBECK_BENCH_ENVS") or "/nonexistent").expanduser()
    look = f"import sys, importlib.util as u; sys.exit(u.find_spec({OTHERS[name]!r}) is None)"
    for python in (Path(sys.executable), *(envs / env / "bin" / "python" for env in (name, "plain", "distilabel"))):
        if python.exists() and not subprocess.run([python, "-c", look], capture_output=True).returncode:
            return str(python)
    return None


def one(name: str, python: str, mock: Mock, prompts: Path) -> Took:
    """Run one client once, in a folder of its own."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        theirs = [python, str(HERE / "client_peers.py"), name, mock.url, str(prompts), str(IN_FLIGHT), text]
        command = ours(mock.url, prompts, folder) if name == "limbeck" else theirs
        settings = {"LIMBECK_CACHE": str(folder / "calls.sqlite"), "LIMBECK_CONCURRENCY": str(IN_FLIGHT)}
        took = measure(command, mock, HF_HUB_OFFLINE="1", **settings)
    if took.code:
        raise RuntimeError(f"{name} ended with {took.code}: {took.out[-2000:]}")
    return took


def middle(values: list[float]) -> str:
    """Return the median and, in brackets, the smallest and the largest."""
    low, mid, high = min(values), statistics.median(values), max(values)
    digits = 0 if mid >= 20 else 2
    return f"{mid:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def line(name: str, runs: list[Took], few: list[Took], floor: list[Took]) -> None:
    """Print one client's figures, and its ratios to the floor round by round."""
    cpu = [run.cpu / PROMPTS * 1000 for run in runs]
    marginal = [(a.cpu - b.cpu) / (PROMPTS - FEW) * 1000 for a, b in zip(runs, few, strict=True)]
    repeats, lost = (max(run.stats[key] for run in runs) for key in ("repeats", "lost"))
    columns: list[tuple[str, Callable[[Took], float]]] = [
        ("req/s", lambda run: run.rate),
        ("peak MB", lambda run: run.rss),
        ("first request after s", lambda run: run.first),
        ("wall s", lambda run: run.wall),
    ]
    print(f"{name:13} CPU s/1,000 {middle(cpu)}, marginal {middle(marginal)}", end="")
    for title, value in columns:
        print(f"; {title} {middle([value(run) for run in runs])}", end="")
    print(f"; repeats {repeats}, lost {lost}, peak in flight {max(run.stats['peak_in_flight'] for run in runs)}")
    if name != "aiohttp":
        rates = [a.rate / b.rate for a, b in zip(runs, floor, strict=True)]
        used = [a.cpu / b.cpu for a, b in zip(runs, floor, strict=True)]
        print(f"{'':13} against the bare loop: req/s {middle(rates)}, CPU {middle(used)}", flush=True)


def main() -> None:
    """Run every client that is installed, round by round."""
    found = {name: interpreter(name) for name in OTHERS}
    clients = {"limbeck": sys.executable} | {name: python for name, python in found.items() if python}
    with tempfile.TemporaryDirectory() as text, Mock(latency=LATENCY) as mock:
        many, few = Path(text) / "many.jsonl", Path(text) / "few.jsonl"
        write_prompts(many, PROMPTS), write_prompts(few, FEW)
        runs: dict[str, list[Took]] = {name: [] for name in clients}
        small: dict[str, list[Took]] = {name: [] for name in clients}
        for _ in range(ROUNDS):
            for name, python in clients.items():
                runs[name].append(one(name, python, mock, many))
                small[name].append(one(name, python, mock, few))
    print(f"{PROMPTS:,} prompts, {LATENCY * 1000:g} ms, {IN_FLIGHT} in flight, {ROUNDS} rounds: median (least to most)")
    for name in clients:
        line(name, runs[name], small[name], runs["aiohttp"])
    for name in (name for name, python in found.items() if not python):
        print(f"{name:13} skipped: not installed here, and not in LIMBECK_BENCH_ENVS")


if __name__ == "__main__":
    main()
