"""Quality: precision and recall of every rule and score on planted faults, and what a row costs in CPU seconds.

The planted sets are those of the tests: real answers with refusals, boilerplate, cuts, loops and other languages put in, and worked
problems whose responses were shuffled.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from limbeck.core.row import Row
from limbeck.score.heuristics import Heuristics
from limbeck.score.ifd import Ifd
from limbeck.score.quality import Quality as Score
from limbeck.seeds.tasks import Tasks
from limbeck.select.diverse import Diverse
from limbeck.train.quality import Quality
from paired import cpu_seconds

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "score"))
from planted_quality import RULES, plant, real_answers, row_of, shuffled

HERE = Path(__file__).resolve().parent
CORPORA = Path(os.environ.get("LIMBECK_CORPORA", HERE.parent.parent / "shared" / "data"))


def rules(answers: list[tuple[str, str]]) -> None:
    """Print each rule's recall on 100 planted rows, and its precision beside 600 untouched ones."""
    rng, step = random.Random(0), Heuristics(language="en")
    sample = rng.sample(answers, 1100)
    clean = [step.each(row_of(prompt, answer)) for prompt, answer in sample[:600]]
    for place, (fault, rule) in enumerate(RULES.items()):
        rows = [row_of(p, plant(fault, a, rng)) for p, a in sample[600 + 100 * place : 700 + 100 * place]]
        found = sum(_broken(step.each(row), rule) for row in rows)
        wrong = sum(_broken(row, rule) for row in clean)
        print(
            f"  {fault:12} rule_{rule:12} recall {found / 100:.3f}  precision {found / (found + wrong):.3f}  ({wrong} of 600 clean)"
        )


def _broken(row: object, rule: str) -> bool:
    assert isinstance(row, Row)
    return row.scores[f"rule_{rule}"] == 0.0


def shuffled_responses() -> None:
    """Print how well IFD finds responses that belong to other prompts, for both embedded models."""
    rows, wrong = shuffled(list(Tasks(count=400, solved=True, seed=7).rows()), 0.2)
    for scorer in ("embedded", "embedded:student"):
        values = [row.scores["ifd"] for row in Ifd(scorer=scorer).whole(rows)]
        bad, good = [values[i] for i in wrong], [v for i, v in enumerate(values) if i not in wrong]
        area = sum((b > g) + (b == g) / 2 for b in bad for g in good) / len(bad) / len(good)
        for least in (0.5, 1.0):
            found = {i for i, value in enumerate(values) if value >= least}
            told = (
                f"recall {len(found & wrong) / len(wrong):.3f}  precision {len(found & wrong) / max(1, len(found)):.3f}"
            )
            print(f"  shuffled     IFD >= {least} by {scorer:17} {told}  AUC {area:.3f}")


def classifier(answers: list[tuple[str, str]]) -> None:
    """Train on answers of which half were spoilt, one fault or another, and print what the card says."""
    rng, rows = random.Random(1), []
    for prompt, answer in rng.sample(answers, 1600):
        good = rng.random() < 0.5
        text = answer if good else plant(rng.choice(("boilerplate", "repeated", "truncated")), answer, rng)
        rows.append(row_of(prompt, text).with_scores(grade=float(good)))
    with tempfile.TemporaryDirectory() as folder:
        context = SimpleNamespace(folder=Path(folder))
        spent = cpu_seconds(lambda: list(Quality(score="grade").make(rows, context)))  # type: ignore[arg-type]
        print(f"  train.quality, 1,600 rows: {spent:.2f} CPU s")
        print(
            "\n".join("  " + line for line in (Path(folder) / "card.md").read_text(encoding="utf-8").splitlines()[5:15])
        )
        step = Score(classifier=folder)
        print(
            f"  score.quality: {1600 / cpu_seconds(lambda: [step.each(row) for row in rows]):,.0f} rows per CPU second"
        )


def speed(answers: list[tuple[str, str]]) -> None:
    """Print rows per CPU second of what needs no model."""
    rows = [row_of(prompt, answer) for prompt, answer in answers]
    step = Heuristics()
    print(
        f"  score.heuristics: {len(rows) / cpu_seconds(lambda: [step.each(row) for row in rows]):,.0f} rows per CPU second"
    )
    for method in ("facility_location", "k_center"):
        spent = cpu_seconds(lambda method=method: Diverse(n=200, method=method).whole(rows))  # type: ignore[misc]
        print(f"  select.diverse, {method}: 200 of {len(rows):,} rows in {spent:.2f} CPU s")


if __name__ == "__main__":
    if not (CORPORA / "ifeval").is_dir():
        sys.exit(f"The public corpora are not at {CORPORA}; set LIMBECK_CORPORA to their folder.")
    found = real_answers(CORPORA)
    rules(found)
    shuffled_responses()
    classifier(found)
    speed(found)
