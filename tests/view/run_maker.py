"""Writes a run folder like the quickstart's: three arms, three seeds, branches, drops, odd text, a hostile answer.

Everything is drawn from an explicit seed. `make(folder)` writes a finished run; `make(folder, unfinished=True)` one
that was killed during a training; `make(folder, teacher="openai:big")` one whose price nobody told.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from pathlib import Path

from limbeck.core.row import Message, Row, Usage, new_row, to_table

HOSTILE = (
    "<script>document.title='owned';window.owned=1</script></script><img src=x onerror=\"window.owned=2\">"
    "</pre></textarea><svg onload=window.owned=3> {{7*7}} {% raw %} &lt;b&gt; ${1+1}\nAnswer: 1"
)
ODD = (
    "في البداية ١٢ تفاحة ثم ٥ أخرى، المجموع ١٧.\nAnswer: 17",
    "שלום: 12 + 5 = 17 ✅👩‍👩‍👧‍👦🏳️‍🌈\nAnswer: 17",
    "先有 12 个，再加 5 个，共 17 个。\nAnswer: 17",
    "W" + "o" * 400 + "rd\nAnswer: 17",
    "right‮to left override, a nul \x00 and a bell \x07 in one answer\nAnswer: 17",
    "x" * 5000 + "\nAnswer: 17",
)
NAMES = ("Aïsha", "Bo", "Chidi", "Dara", "Eun-ji", "Fen", "Gül", "Hana")
THINGS = ("apples", "marbles", "stamps", "shells", "coins")
ARMS = {"answers only": "answers", "raw traces": "raw", "verified traces": "verified"}
LEVELS = {"base": 0.06, "answers only": 0.34, "raw traces": 0.41, "verified traces": 0.5, "teacher": 0.73}
STUDENTS = 3
CAUTION = "One run only: base, teacher."


class Maker:
    def __init__(self, folder: Path, seed: int, teacher: str, problems: int, tests: int) -> None:
        self.folder, self.draw, self.teacher = folder, random.Random(seed), teacher
        self.problems, self.tests = problems, tests
        self.steps: list[dict] = []
        self.spread = math.sqrt(0.25 / tests)

    def stage(
        self, name, use, *, after=(), rows_in=0, rows=(), fields=None, files=None, usage=None, done=True, seconds=1.0
    ):
        path = self.folder / f"{len(self.steps) + 1:02d}-{name}"
        fields = fields or {}
        self.steps.append({"use": use, "name": name, "after": list(after), "fields": fields})
        path.mkdir(parents=True)
        for file, value in (files or {}).items():
            lines = value if isinstance(value, str) else json.dumps(value)
            (path / file).write_text(lines, encoding="utf-8")
        if not done:
            (path / "begun").write_text("0")
            return []
        kept, gone = [r for r in rows if r.dropped is None], [r for r in rows if r.dropped is not None]
        write(path / "kept.parquet", kept)
        write(path / "dropped.parquet", gone)
        reasons = Counter(re.sub(r"\b[0-9a-f]{8,}\b|\b\d[\d.,]*", "…", r.dropped) for r in gone)
        told = {
            "step": use,
            "name": name,
            "after": list(after),
            "needs": [],
            "fields": fields,
            "fingerprint": "ab" * 16,
        }
        told |= {
            "rows": {"in": rows_in or len(rows), "kept": len(kept), "dropped": len(gone)},
            "reasons": dict(reasons),
        }
        told |= {"usage": usage or {}, "seconds": seconds, "cpu_seconds": round(seconds * 1.4, 2)}
        (path / "step.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
        (path / "done").write_text("ab" * 16)
        return kept

    def problem(self, index: int, sealed: bool) -> Row:
        first, second, family = (
            self.draw.randint(2, 60),
            self.draw.randint(2, 60),
            self.draw.choice(["chains", "word_problems"]),
        )
        who, what = self.draw.choice(NAMES), self.draw.choice(THINGS)
        asked = (
            f"Start with {first}. Add {second}."
            if family == "chains"
            else f"{who} has {first} {what} and finds {second} more. How many {what} are there?"
        )
        return new_row(
            messages=[Message(role="user", content=asked)],
            made_by={"step": "seeds.tasks", "index": index, "sealed": sealed},
            task={"kind": "math", "reference": str(first + second), "family": family},
            labels={"family": family},
            sealed=sealed,
        )

    def sample(self, prompt: Row, index: int, skill: float, teacher: str) -> Row:
        total = int(prompt.reference or 0)
        right = self.draw.random() < skill
        answer = total if right else total + self.draw.choice([-10, -1, 1, 2, 9])
        text = self.draw.choice(
            ["{a} is the sum, step by step:\n{q}\n", "We add the numbers.\n{q}\n", "Let us see. {q}\n"]
        )
        text = (
            text.format(a=answer, q=f"{prompt.question[:40]} → {answer}") * self.draw.randint(1, 3)
            + f"Answer: {answer}"
        )
        finish = "stop"
        if not right and self.draw.random() < 0.1:
            text, finish, answer = text.replace("Answer:", "So we go on and"), "length", None
        row = prompt.child(
            [*prompt.messages, Message(role="assistant", content=text)],
            made_by={"step": "generate.sample", "teacher": teacher, "sample": index},
            usage=Usage(tokens_in=21, tokens_out=len(text) // 4),
        ).with_labels(finish=finish)
        return judged(row, answer, right)

    def evaluated(
        self, name: str, label: str, model: str, skill: float, tests: list[Row], needs_done: bool = True
    ) -> dict | None:
        rows = [self.sample(t, 0, skill, model).with_labels(model=label) for t in tests] if needs_done else []
        results = summary(rows, label, model) if needs_done else {}
        files = {"results.json": results} if needs_done else {}
        usage = {
            "calls": len(rows),
            "answers": len(rows),
            "cached": 0,
            "tokens_in": 21 * len(rows),
            "tokens_out": 30 * len(rows),
            "usd": 0.0,
        }
        fields = {"model": model, "label": label, "temperature": 0.0, "max_tokens": 192}
        if needs_done:
            self.stage(
                name,
                "evaluate.run",
                after=["test"],
                rows_in=len(tests),
                rows=rows,
                fields=fields,
                files=files,
                usage=usage,
                seconds=4.2,
            )
        else:
            self.steps.append({"use": "evaluate.run", "name": name, "after": ["test"], "fields": fields})
        return results or None

    def train(self, name: str, arm: str, rows: list[Row], seed: int, done: bool) -> None:
        level = {"answers only": 0.9, "raw traces": 0.55, "verified traces": 0.4}[arm]
        curve = [
            {
                "update": u,
                "loss": level + 8 * math.exp(-u / 25) + self.draw.random() * 0.05,
                "lr": 1e-3,
                "tokens": u * 400,
                "seconds": u / 9,
            }
            for u in range(1, 301 if done else 120, 3)
        ]
        text = "".join(json.dumps(line) + "\n" for line in curve) + ("" if done else '{"update": 120, "lo')
        files = {"curve.jsonl": text}
        if done:
            files["train.json"] = {
                "updates": 300,
                "tokens": 120000,
                "parameters": 1_240_000,
                "seconds": 33.0,
                "cpu_seconds": 33.0,
                "seed": seed,
            }
        fields = {"student": "embedded:student", "updates": 300, "seed": seed}
        after = [ARMS[arm]]
        self.stage(
            name, "train.sft", after=after, rows_in=len(rows), fields=fields, files=files, done=done, seconds=33.0
        )


def judged(row: Row, answer: int | None, right: bool) -> Row:
    verdict = "pass" if right else "no-answer" if answer is None else "wrong"
    row = row.with_scores(math=float(right), verified=float(right)).with_labels(verdict=verdict)
    return row if answer is None else row.with_labels(answer=str(answer))


def write(path: Path, rows: list[Row]) -> None:
    import pyarrow.parquet as pq

    pq.write_table(to_table(rows), path, compression="zstd")


def share(values: list[float], spread: float = 0.0) -> dict:
    mean = sum(values) / len(values)
    half = 1.96 * math.sqrt(max(mean * (1 - mean), 1e-9) / len(values)) + spread
    return {"mean": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half), "n": len(values)}


def summary(rows: list[Row], label: str, model: str) -> dict:
    families = {
        f: share([r.scores["verified"] for r in rows if r.labels["family"] == f]) for f in ("chains", "word_problems")
    }
    scores = [r.scores["verified"] for r in rows]
    return {
        "model": model,
        "label": label,
        "prompts": len(rows),
        "samples": 1,
        "temperature": 0.0,
        "accuracy": share(scores),
        "by_family": families,
        "tokens_out_mean": 31.4,
    }


def odd(row: Row, text: str) -> Row:
    made = row.child(
        [*row.messages[:-1], Message(role="assistant", content=text)],
        made_by={"step": "generate.sample", "odd": text[:9]},
    )
    return judged(made, 1, False)


def make(
    folder: Path,
    *,
    seed: int = 0,
    teacher: str = "embedded",
    unfinished: bool = False,
    problems: int = 300,
    tests: int = 120,
) -> Path:
    """Write the run and return its folder."""
    it = Maker(folder, seed, teacher, problems, tests)
    test = it.stage(
        "test",
        "seeds.tasks",
        rows=[it.problem(i, True) for i in range(tests)],
        fields={"count": tests, "sealed": True, "split": "test"},
    )
    asked = it.stage(
        "problems", "seeds.tasks", rows=[it.problem(i, False) for i in range(problems)], fields={"count": problems}
    )
    usage = {
        "calls": problems * 4,
        "answers": problems * 4,
        "cached": 37,
        "tokens_in": problems * 84,
        "tokens_out": problems * 120,
        "usd": 0.0,
        "seconds": 80.0,
    }
    drawn = [it.sample(p, i, 0.62, teacher) for p in asked for i in range(4)]
    for index in range(2, len(drawn), 12):
        drawn[index] = odd(drawn[index], ODD[index // 24 % len(ODD)] if index // 12 % 2 else HOSTILE)
    fields = {"teacher": teacher, "n": 4, "temperature": 1.0, "max_tokens": 192}
    samples = it.stage(
        "samples",
        "generate.sample",
        after=["problems"],
        rows_in=problems,
        rows=drawn,
        fields=fields,
        usage=usage,
        seconds=88.1,
    )
    verdicts = it.stage("verdicts", "score.math", after=["samples"], rows=samples, seconds=88.1)
    seen: Counter[str] = Counter()
    first = []
    for row in verdicts:
        seen[row.group] += 1
        first.append(row if seen[row.group] == 1 else row.drop("select.first: not among the first 1 of its prompt"))
    raw = it.stage("raw", "select.first", after=["verdicts"], rows=first)
    passed = it.stage("passed", "select.until_pass", after=["verdicts"], rows=until_pass(verdicts))
    once: set[str] = set()
    unique = []
    for row in passed:
        again = row.question + row.response in once or it.draw.random() < 0.06
        once.add(row.question + row.response)
        unique.append(row.drop("curate.exact: duplicate of 93ab01cd77ef0011") if again else row)
    verified = it.stage("verified", "curate.exact", after=["passed"], rows=unique)
    short = [
        r.child(
            [*r.prompt, Message(role="assistant", content=f"Answer: {r.labels['answer']}")],
            made_by={"step": "generate.answer_only"},
        )
        for r in verified
    ]
    answers = it.stage("answers", "generate.answer_only", after=["verified"], rows=short)
    runs = train_and_test(it, {"answers": answers, "raw": raw, "verified": verified}, test, unfinished)
    finish(it, runs, unfinished)
    return folder


def until_pass(rows: list[Row]) -> list[Row]:
    taken: set[str] = set()
    out = []
    for row in rows:
        if row.scores["verified"] < 1:
            out.append(row.drop("select.until_pass: verified is 0, under 1"))
        elif row.group in taken:
            out.append(row.drop("select.until_pass: an earlier sample of the prompt passed"))
        else:
            taken.add(row.group)
            out.append(row)
    return out


def train_and_test(it: Maker, sets: dict, test: list[Row], unfinished: bool) -> dict[str, list[dict]]:
    stop = "verified-student-2" if unfinished else None
    trained = {}
    stopped = False
    for arm, rows in ARMS.items():
        for s in range(STUDENTS):
            name = f"{rows}-student-{s + 1}"
            if stopped:
                it.steps.append(
                    {
                        "use": "train.sft",
                        "name": name,
                        "after": [rows],
                        "fields": {"student": "embedded:student", "updates": 300, "seed": s},
                    }
                )
            else:
                it.train(name, arm, sets[rows], s, done=name != stop)
            stopped = stopped or name == stop
            trained.setdefault(arm, []).append((f"step:{name}", not stopped))
    models = {"base": [("embedded:student", True)], **trained, "teacher": [(it.teacher, True)]}
    runs: dict[str, list[dict]] = {}
    for arm, found in models.items():
        for index, (model, ready) in enumerate(found):
            skill = LEVELS[arm] + it.draw.uniform(-0.02, 0.02)
            told = it.evaluated(f"eval-{arm.replace(' ', '-')}-{index + 1}", arm, model, skill, test, ready)
            runs.setdefault(arm, []).extend([told] if told else [])
    return runs


def finish(it: Maker, runs: dict[str, list[dict]], unfinished: bool) -> None:
    names = {
        arm: [f"step:eval-{arm.replace(' ', '-')}-{i + 1}" for i in range(len(found))] for arm, found in runs.items()
    }
    arms = []
    for arm, found in runs.items():
        means = [r["accuracy"]["mean"] for r in found]
        mean = sum(means) / len(means)
        half = 1.96 * it.spread / math.sqrt(len(means)) * 2 * math.sqrt(max(mean * (1 - mean), 0.02))
        arms.append(
            {
                "name": arm,
                "accuracy": {"mean": mean, "low": max(0, mean - half), "high": mean + half},
                "runs": means,
                "prompts": it.tests,
            }
        )
    pairs, sentences, story = [], [], arms[0]["name"]
    for i, left in enumerate(arms):
        for right in arms[i + 1 :]:
            gap = right["accuracy"]["mean"] - left["accuracy"]["mean"]
            low, high = gap - it.spread * 1.2, gap + it.spread * 1.2
            sentences.append(f"{right['name']} against {left['name']}: {gap * 100:.1f} points")
            pairs.append(
                {
                    "left": left["name"],
                    "right": right["name"],
                    "difference": {"mean": gap, "low": low, "high": high},
                    "resolved": low * high > 0,
                    "p_holm": 0.06 if 0 < low < 0.01 else 0.001,
                    "sentence": sentences[-1],
                }
            )
            if right is arms[i + 1]:
                story += (" < " if low > 0 else " ? ") + right["name"]
    fields = {"arms": names, "confidence": 0.95}
    files = {"compare.json": {"arms": arms, "pairs": pairs, "story": story, "sentences": [*sentences, CAUTION]}}
    if unfinished:
        it.steps.append({"use": "evaluate.compare", "name": "compare", "after": ["test"], "fields": fields})
    else:
        it.stage("compare", "evaluate.compare", after=["test"], rows_in=it.tests, fields=fields, files=files)
    params = {
        "teacher": it.teacher,
        "student": "embedded:student",
        "problems": it.problems,
        "samples": 4,
        "updates": 300,
        "students": 3,
        "seed": 0,
    }
    (it.folder / "recipe.json").write_text(json.dumps({"name": "quickstart", "params": params, "steps": it.steps}))
    env = {
        "started": "2026-05-04T10:00:00Z",
        "python": "3.11.9",
        "system": "Linux",
        "cpus": 2,
        "packages": {"limbeck": "0.1.0", "torch": "2.13.0"},
    }
    (it.folder / "env.json").write_text(json.dumps(env))


if __name__ == "__main__":
    import shutil
    import sys

    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    print(
        make(
            target,
            unfinished="unfinished" in sys.argv,
            teacher="openai:big-model" if "priced" in sys.argv else "embedded",
        )
    )
