"""Measure a model on unseen problems: greedy accuracy, pass@1 and pass@8 at temperature 1, and what kind of errors it makes.

An error at temperature 1 is *systematic* when the model, asked 16 times more, mostly gives one and the same wrong answer, and
*random* otherwise. A filter that keeps verified samples repairs systematic errors in the student; random ones wash out anyway.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from limbeck.sandbox import interpret
from limbeck.seeds.families.problem import Problem

BATCH = 192
MAX_NEW = 220


def final(problem: Problem, response: str) -> str:
    """The answer that a response comes down to, so that two responses can be said to agree."""
    kind = problem.task["kind"]
    if kind == "math":
        found = re.search(r"Answer: (\S+)\s*$", response)
        return found.group(1) if found else ""
    if kind == "tools":
        try:
            return json.dumps(json.loads(response), sort_keys=True)
        except ValueError:
            return ""
    return json.dumps([_ran(response, args) for args, _ in problem.task["cases"]])


def truth(problem: Problem) -> str:
    """The right answer in the same form."""
    return final(problem, problem.response)


def _ran(source: str, args: list[Any]) -> Any:
    """What a program gives for one case."""
    try:
        return interpret.call(source, "f", args)
    except interpret.Rejected:
        return "rejected"


@torch.no_grad()
def responses(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    chats: list[list[dict[str, str]]],
    *,
    temperature: float,
    seed: int = 0,
) -> list[str]:
    """Answer every chat; prompts of like length share a batch."""
    torch.manual_seed(seed)
    rendered = [str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)) for chat in chats]
    order = sorted(range(len(chats)), key=lambda place: len(rendered[place]))
    said = [""] * len(chats)
    how: dict[str, Any] = {"do_sample": False, "max_new_tokens": MAX_NEW}
    if temperature:
        how |= {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    for begin in range(0, len(order), BATCH):
        places = order[begin : begin + BATCH]
        inputs = tokenizer([rendered[place] for place in places], return_tensors="pt", padding=True)
        made = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **how)
        texts = tokenizer.batch_decode(made[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for place, text in zip(places, texts, strict=True):
            said[place] = text
    return said


def asked(problem: Problem, system: str = "") -> list[dict[str, str]]:
    """The chat that puts a problem."""
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": problem.prompt}]


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    z, share = 1.96, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return round(middle - half, 3), round(middle + half, 3)


def greedy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, items: list[Problem], system: str = ""
) -> list[bool]:
    """Which problems are solved without sampling."""
    said = responses(model, tokenizer, [asked(item, system) for item in items], temperature=0)
    return [final(item, text) == truth(item) for item, text in zip(items, said, strict=True)]


def measured(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, items: list[Problem], *, samples: int = 8
) -> dict[str, Any]:
    """Everything the card says about one family."""
    right = greedy(model, tokenizer, items)
    figures: dict[str, Any] = {"problems": len(items), "greedy": round(sum(right) / len(items), 3)}
    figures["greedy_interval"] = wilson(sum(right), len(items))
    chats = [asked(item) for item in items for _ in range(samples)]
    said = responses(model, tokenizer, chats, temperature=1.0, seed=1)
    answers = [[final(item, text) for text in said[at * samples : (at + 1) * samples]] for at, item in enumerate(items)]
    hits = [[answer == truth(item) for answer in row] for item, row in zip(items, answers, strict=True)]
    figures["pass_at_1"] = round(sum(map(sum, hits)) / (len(items) * samples), 3)
    figures[f"pass_at_{samples}"] = round(sum(map(any, hits)) / len(items), 3)
    failed = [item for item, row in zip(items, hits, strict=True) if not row[0]]
    systematic = _systematic(model, tokenizer, failed)
    figures["errors"] = _split(systematic)
    figures["errors_by_skill"] = _split_by(failed, systematic, lambda item: set(item.skills))
    figures["errors_by_difficulty"] = _split_by(failed, systematic, lambda item: {str(item.difficulty)})
    figures["greedy_by_skill"] = _by(items, right, lambda item: set(item.skills))
    figures["greedy_by_difficulty"] = _by(items, right, lambda item: {str(item.difficulty)})
    return figures


def _systematic(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, failed: list[Problem], again: int = 16
) -> list[bool]:
    """Ask again where a sample was wrong: which problems meet one and the same wrong answer most of the time."""
    said = responses(model, tokenizer, [asked(item) for item in failed for _ in range(again)], temperature=1.0, seed=2)
    kinds = []
    for at, item in enumerate(failed):
        answer, count = Counter(final(item, text) for text in said[at * again : (at + 1) * again]).most_common(1)[0]
        kinds.append(answer != truth(item) and count > again // 2)
    return kinds


def _split(systematic: list[bool]) -> dict[str, int]:
    """Count errors by kind."""
    return {"prompts": len(systematic), "systematic": sum(systematic), "random": len(systematic) - sum(systematic)}


def _split_by(failed: list[Problem], systematic: list[bool], keys: Any) -> dict[str, dict[str, int]]:
    """Count errors by kind for each skill, or difficulty."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for item, kind in zip(failed, systematic, strict=True):
        for key in keys(item):
            groups[key].append(kind)
    return {key: _split(group) for key, group in sorted(groups.items())}


def _by(items: list[Problem], right: list[bool], keys: Any) -> dict[str, dict[str, Any]]:
    """Greedy accuracy of the problems that have a skill, or a difficulty."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for item, solved in zip(items, right, strict=True):
        for key in keys(item):
            groups[key].append(solved)
    return {
        key: {
            "problems": len(group),
            "greedy": round(sum(group) / len(group), 3),
            "interval": wilson(sum(group), len(group)),
        }
        for key, group in sorted(groups.items())
    }
