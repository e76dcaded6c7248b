"""Distillation losses: CPU seconds and peak memory of one step against TRL's GKD, TRL's chunked loss and Liger; one thread.

Each step runs in a fresh process, ways in turn, round by round; see `losses_work.py`. Memory is the peak over the models. A
peer that is not installed is left out, and said so. LIMBECK_ROUNDS sets the number of rounds (default 3).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

WORK = Path(__file__).resolve().parent / "losses_work.py"
ROUNDS = int(os.environ.get("LIMBECK_ROUNDS", "3"))
PEERS = {"trl_gkd": "trl", "trl_chunked": "trl", "liger_128": "liger_kernel"}
Took = dict[str, float]


def step(way: str, vocabulary: int, batch: int) -> Took:
    """Return what one step takes in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(WORK), way, str(vocabulary), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{way} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def compare(vocabulary: int, batch: int, peers: list[str]) -> None:
    """Print limbeck's step, and each peer's with the ratios limbeck/peer: medians of the rounds' own ratios."""
    ways = ["bodies", "limbeck", *peers]
    rounds = [{way: step(way, vocabulary, batch) for way in ways} for _ in range(ROUNDS)]
    print(f"V = {vocabulary:,}, {batch} x 512 tokens, half masked, {ROUNDS} rounds")
    for way in ways:
        cpu, megabytes = (statistics.median(r[way][key] for r in rounds) for key in ("cpu", "megabytes"))
        text = f"  {way:12} {cpu:8.2f} CPU s {megabytes:8.0f} MB"
        if way in peers:
            ratios = [
                statistics.median(r["limbeck"][key] / r[way][key] for r in rounds) for key in ("cpu", "megabytes")
            ]
            apart = max(abs(r["limbeck"]["loss"] / r[way]["loss"] - 1) for r in rounds)
            text += (
                f"   limbeck/{way}: {ratios[0]:.3f} of the time, {ratios[1]:.3f} of the memory, loss {apart:.0e} apart"
            )
        print(text, flush=True)


def independent_of_batch(vocabulary: int) -> None:
    """Print the memory of the loss alone for growing batches."""
    took = {batch: step("loss", vocabulary, batch) for batch in (1, 4, 16)}
    sizes = ", ".join(f"{batch} x 512 tokens {t['megabytes']:.0f} MB" for batch, t in took.items())
    print(f"V = {vocabulary:,}, the loss alone: {sizes}")


def main() -> None:
    """Compare with the peers that are installed."""
    peers = [way for way, module in PEERS.items() if find_spec(module)]
    for way in PEERS.keys() - set(peers):
        print(f"LEFT OUT: {way}, because {PEERS[way]} is not installed.")
    compare(32_000, 4, peers)
    compare(128_000, 1, [p for p in peers if p != "trl_gkd"])
    independent_of_batch(128_000)


if __name__ == "__main__":
    main()
