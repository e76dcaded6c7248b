"""The cards beside the weights: what a model was trained on, what it can do, and how to make it again.

card.json   for programs; `families.chains.greedy`, `training.seed`, ...
card.md     the same for people
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from embedded import pool
from embedded.export import write
from embedded.finetune import arms
from embedded.measure import greedy, measured, wilson
from limbeck.prompts.bank import BANK
from limbeck.seeds.families import families, problems

GATED = ("word_problems", "chains")
"""The families that must reach 80 % for the weights to ship; they get all of the problems, the others half as many."""
TERSE = next(message for message in BANK if message.style == "answer")

TEACHER_TEXT = """# The embedded teacher

A plain Llama of {parameters:,} parameters, trained from scratch on one CPU core on the procedural task families of this package, so
that everything runs offline. It really learns and it really errs: at temperature 1 there is something for a verifier to remove.

It knows nothing but these families. `exchanges` (two people, two totals) is its labelled weakness. A system message of
`limbeck.prompts.bank` of the style "answer" makes it give the answer only; every other message of the bank, or none, the working.

{families}
Greedy with its 95 % Wilson interval, on problems of the split "test", which no model here was trained on; pass@1 and pass@8 at
temperature 1. A wrong sample at temperature 1 counts as systematic if, of 16 new samples, more than half give one and the same
wrong answer, and as random otherwise. "Answer only" is greedy under a system message that asks for no working.

## By skill and by difficulty
{skills}
## Training
{training}
"""
STUDENT_TEXT = """# The embedded base student

A plain Llama of {parameters:,} parameters with the teacher's tokenizer. It was pre-trained on the *parts* of the tasks - copying,
sums, single steps, running totals without language - and its way with a plain problem is to quote the clauses and stop. A fifth
of its documents were problems *with the hint* of `limbeck.prompts.bank` and their working, so it can explain an answer that it is
given (the start of STaR). It never saw a problem without the hint followed by its solution.

Without fine-tuning it solves {right} of {problems} unseen word problems and chains. Fine-tuning therefore *elicits* more than it
teaches: what a recipe gains here in seconds says nothing about how much it gains elsewhere.

## What fine-tuning on 1,500 prompts gives
{arms}
`answers`: the right answer alone; `raw`: one sample of the teacher at temperature 1; `verified`: the first right one of four.
{how}

## Training
{training}
"""


def training_of(
    work: Path, name: str, seed: int, shape: dict[str, int], notes: tuple[str, ...], minutes: float
) -> dict[str, Any]:
    """Collect what is known about how a model was trained."""
    state = torch.load(work / name / "checkpoint.pt", weights_only=True)
    pools = {path.stem: pool.load(path) for path in (work / name / "pools").glob("*.npz")}
    done = state["progress"]
    return {
        "seed": seed,
        "data_hash": pool.digest(pools),
        "documents": {kind: len(documents) for kind, documents in sorted(pools.items())},
        "tokens": done["tokens"],
        "steps": done["steps"],
        "cpu_seconds": round(done["cpu"]),
        "seconds": round(done["seconds"]),
        "parameters": sum(weight.numel() for weight in state["model"].values()),
        "shape": shape,
        "command": f"python scripts/train_embedded.py {name} --minutes {minutes:g} --seed {seed}",
        "notes": list(notes),
    }


def write_teacher(folder: Path, training: dict[str, Any], count: int) -> None:
    """Measure the teacher and write its card."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    figures = {}
    for family in families():
        many = count if family in GATED else count // 2
        items = list(problems(family, count=many, seed=90210, split="test"))
        figures[family] = measured(model, tokenizer, items)
        if items[0].task["kind"] == "math":
            terse = greedy(model, tokenizer, items, TERSE.text)
            figures[family]["greedy_answer_only"] = round(sum(terse) / many, 3)
        print(family, {key: figures[family][key] for key in ("greedy", "pass_at_1", "pass_at_8", "errors")}, flush=True)
    card = {"model": "teacher", "training": training, "families": figures}
    _write(folder, card, teacher_text(card))


def teacher_text(card: dict[str, Any]) -> str:
    """The teacher's card for people, from the one for programs."""
    training, figures = card["training"], card["families"]
    return TEACHER_TEXT.format(
        parameters=training["parameters"], families=_family_table(figures), skills=_skill_table(figures),
        training=_listed(training),
    )  # fmt: skip


def write_student(folder: Path, training: dict[str, Any], teacher: Path, seeds: int) -> None:
    """Measure the base student before and after fine-tuning, and write its card."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    items = [
        *problems("word_problems", count=150, seed=4, split="test"),
        *problems("chains", count=150, seed=4, split="test"),
    ]
    right = sum(greedy(AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer, items))
    base = {"problems": len(items), "right": right, "interval": wilson(right, len(items))}
    results, how = arms(folder, teacher, tokenizer, items, seeds)
    card = {"model": "student", "training": training, "base": base, "fine_tuning": {"how": how, "arms": results}}
    _write(folder, card, student_text(card))


def student_text(card: dict[str, Any]) -> str:
    """The student's card for people, from the one for programs."""
    base, training, tuned = card["base"], card["training"], card["fine_tuning"]
    rows = [
        f"| {arm} | {', '.join(f'{value:.3f}' for value in row['greedy'])} | {row['documents']} | {row['cpu_seconds']:.1f} |"
        for arm, row in tuned["arms"].items()
    ]
    table = "\n".join(["| arm | greedy, one figure a seed | documents | CPU seconds |", "|---|---|---|---|", *rows, ""])
    return STUDENT_TEXT.format(
        parameters=training["parameters"], right=base["right"], problems=base["problems"], arms=table, how=tuned["how"],
        training=_listed(training),
    )  # fmt: skip


def _write(folder: Path, card: dict[str, Any], text: str) -> None:
    """Write both forms."""
    write(folder / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    write(folder / "card.md", text.encode())


def _family_table(figures: dict[str, Any]) -> str:
    """One line a family."""
    lines = [
        "| family | greedy | 95 % interval | pass@1 | pass@8 | errors: systematic, random | answer only |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, row in figures.items():
        low, high = row["greedy_interval"]
        errors = row["errors"]
        lines.append(
            f"| {family} ({row['problems']}) | {row['greedy']:.3f} | {low:.3f} to {high:.3f} | {row['pass_at_1']:.3f} "
            f"| {row['pass_at_8']:.3f} | {errors['systematic']}, {errors['random']} "
            f"| {row.get('greedy_answer_only', '')} |"
        )
    return "\n".join([*lines, ""])


def _skill_table(figures: dict[str, Any]) -> str:
    """One line a family and skill, or difficulty."""
    lines = [
        "| family | skill or difficulty | problems | greedy | 95 % interval | errors at temperature 1: systematic, random |",
        "|---|---|---|---|---|---|",
    ]
    for family, row in figures.items():
        errors = {**row["errors_by_difficulty"], **row["errors_by_skill"]}
        for key, part in {**row["greedy_by_difficulty"], **row["greedy_by_skill"]}.items():
            low, high = part["interval"]
            split = errors.get(key, {"systematic": 0, "random": 0})
            share = f"{part['greedy']:.3f} | {low:.3f} to {high:.3f} | {split['systematic']}, {split['random']}"
            lines.append(f"| {family} | {key} | {part['problems']} | {share} |")
    return "\n".join([*lines, ""])


def _listed(training: dict[str, Any]) -> str:
    """The facts of the training as a list."""
    lines = [
        f"- {key.replace('_', ' ')}: {value}" for key, value in training.items() if key not in ("notes", "command")
    ]
    return "\n".join([*lines, *(f"- {note}" for note in training["notes"]), "", f"    {training['command']}"])
