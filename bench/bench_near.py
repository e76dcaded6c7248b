"""Near-duplicates against rensa and datasketch on 20 000 real texts, on planted ones against all pairs, and growing to a million.

    python bench/bench_near.py              rensa, datasketch, planted near-duplicates, 10 000 and 100 000 made-up texts
    python bench/bench_near.py --million    a million made-up texts as well: half a gigabyte, some minutes

All of it is in CPU seconds, ours with every candidate pair checked exactly. Beside peers everything runs on one core, as they
have one thread and two threads on one physical core would count its time twice. The peers get 5-word shingles of
lower-cased words made in Python, 128 permutations and a threshold of .7; rensa checks candidates by their sketches, as its
documentation does, datasketch does not. Compiling (once a machine) is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "curate")]

from near_corpus import Flat, made_up, real  # noqa: E402, I001
from paired import cpu_seconds, paired  # noqa: E402

from limbeck.curate import _near  # noqa: E402

CORPORA = Path(os.environ.get("LIMBECK_CORPORA", HERE.parent.parent / "shared" / "data"))
SHAPE = _near.Shape(0.7, 0, 32, 4)
WORD = re.compile(r"\w+")


def ours(texts: list[str]) -> int:
    """Return how many texts are left: clusters, every candidate pair checked exactly."""
    found = _near.clusters(_near.Lists(list(zip(texts, strict=True))), SHAPE)
    return int((found.first == range(len(texts))).sum())


def shingles(text: str) -> set[str]:
    """Return the 5-word shingles of a text, as Python programs make them."""
    words = WORD.findall(text.lower())
    return {" ".join(words[n : n + 5]) for n in range(max(1, len(words) - 4))}


def rensa(texts: list[str]) -> int:
    """Return how many texts are left after rensa, candidates checked by their sketches."""
    from rensa import RMinHash, RMinHashLSH

    index, sketches, left = RMinHashLSH(threshold=0.7, num_perm=128, num_bands=16), [], 0
    for place, text in enumerate(texts):
        sketch = RMinHash(num_perm=128, seed=1)
        sketch.update(list(shingles(text)))
        left += not any(sketch.jaccard(sketches[other]) >= 0.7 for other in index.query(sketch))
        index.insert(place, sketch)
        sketches.append(sketch)
    return left


def datasketch(texts: list[str]) -> int:
    """Return how many texts are left after datasketch."""
    from datasketch import MinHash, MinHashLSH

    index, left = MinHashLSH(threshold=0.7, num_perm=128), 0
    for place, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([shingle.encode() for shingle in shingles(text)])
        left += not index.query(sketch)
        index.insert(place, sketch)
    return left


def against_peers() -> None:
    """Print CPU seconds of ours, rensa and datasketch on real texts, and what each leaves."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    texts = real(CORPORA)
    size = sum(len(text.encode()) for text in texts) / 1e6
    ours(texts)
    seconds = min(cpu_seconds(lambda: ours(texts)) for _ in range(3))
    print(f"{len(texts)} real texts, {size:.1f} MB: {seconds:.2f} CPU s, {size / seconds:.0f} MB/s, {ours(texts)} left")
    for name, peer, rounds in (("rensa", rensa, 5), ("datasketch", datasketch, 2)):
        try:
            print(f"{name} leaves {peer(texts)}")
        except ImportError:
            print(f"{name} is not installed")
            continue
        paired(f"near-duplicates: limbeck, {name}", lambda: ours(texts), lambda peer=peer: peer(texts), rounds)
    os.sched_setaffinity(0, cores)


def against_all_pairs() -> None:
    """Print recall and precision on planted near-duplicates, by kind of change."""
    import random

    from near_oracle import all_pairs, closure, edits, real_texts

    draw, texts, kinds, of = random.Random(11), [], [], []
    for original in real_texts(CORPORA, 60):
        if len(original.split()) >= 8:
            of += [len(texts)] * 9
            for kind, text in (("original", original), *edits(original, draw)):
                texts.append(text)
                kinds.append(kind)
    first = _near.clusters(_near.Lists([[text] for text in texts]), SHAPE).first.tolist()
    pairs = list(all_pairs(texts))
    truth = closure(len(texts), [(a, b) for a, b, alike in pairs if alike >= 0.7])
    for least in (0.7, 0.8):
        hits = [first[a] == first[b] for a, b, alike in pairs if alike >= least]
        print(f"planted, J >= {least}: {sum(hits) / len(hits):.4f} of {len(hits)} pairs found")
    declared = [truth[a] == truth[b] for a, b in combinations(range(len(texts)), 2) if first[a] == first[b]]
    print(f"planted, precision: {sum(declared) / len(declared):.4f} of {len(declared)} pairs in one cluster")
    for kind in dict.fromkeys(kinds[1:9]):
        mine = [n for n, k in enumerate(kinds) if k == kind]
        print(
            f"  {kind:16} {sum(first[n] == first[of[n]] for n in mine) / len(mine):.3f} in the cluster of their original"
        )


def grow(count: int) -> None:
    """Print CPU seconds and peak memory for so many made-up texts, in a process of its own."""
    subprocess.run([sys.executable, __file__, "--one", str(count)], check=True)


def one(count: int) -> None:
    """Do one size and print what it took."""
    ours(["a text to load the kernels"] * 2)
    texts: Flat = made_up(count)
    size = texts.data.size / 1e6
    before, begun = time.process_time(), time.monotonic()
    found = _near.clusters(texts, SHAPE)
    seconds, wall = time.process_time() - before, time.monotonic() - begun
    left = int((found.first == range(count)).sum())
    # not ru_maxrss: a child inherits the peak of the process that started it
    peak = int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[0]) * 1024 / 1e6
    print(
        f"{count:>9,} made-up texts {size:7.1f} MB {seconds:7.2f} CPU s ({1e6 * seconds / count:5.1f} us a text, {wall:.1f} s)  "
        f"peak {peak:6.0f} MB = {peak / size:4.1f} x text  {left:,} left, {found.crowded} crowded",
        flush=True,
    )


def main() -> None:
    """Run all parts, or one size of the last."""
    if "--one" in sys.argv:
        one(int(sys.argv[sys.argv.index("--one") + 1]))
        return
    if CORPORA.is_dir():
        against_peers()
        against_all_pairs()
    else:
        print(f"The public corpora are not at {CORPORA}; set LIMBECK_CORPORA to their folder.")
    for count in (10_000, 100_000, *([1_000_000] if "--million" in sys.argv else [])):
        grow(count)


if __name__ == "__main__":
    main()
