"""A plain fine-tuning of the base student on worked responses, to see what it can gain in seconds.

AdamW on every weight, loss on the responses, a linear cool-down, one thread.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from embedded.corpus import render
from embedded.measure import asked, final, greedy, responses, truth
from embedded.model import Llama
from embedded.pool import Pool, padded, tokenised
from limbeck.seeds.families import Problem, problems


def finetune(
    model: Llama,
    documents: Pool,
    *,
    epochs: float,
    tokens: int = 2000,
    rate: float = 3e-3,
    seed: int = 0,
    muon: float = 0.0,
) -> float:
    """Train in place and return the CPU seconds taken."""
    rng = random.Random(seed)
    named = dict(model.named_parameters())
    matrices = [weight for name, weight in named.items() if muon and weight.dim() == 2 and "embed" not in name]
    others = [weight for name, weight in named.items() if not (muon and weight.dim() == 2 and "embed" not in name)]
    makers: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True), rate)
    ]
    if muon:
        makers.append((torch.optim.Muon(matrices, lr=muon, weight_decay=0.0), muon))
    batches = _batches(documents, epochs, tokens, rng)
    begun = time.process_time()
    for step, group in enumerate(batches):
        ids, labels = padded([documents.document(place) for place in group])
        model.loss(ids, labels).backward()  # type: ignore[no-untyped-call]
        factor = min(1.0, (step + 1) / 10) * (1 - step / len(batches))
        for optimiser, base in makers:
            optimiser.param_groups[0]["lr"] = base * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    return time.process_time() - begun


def _batches(documents: Pool, epochs: float, tokens: int, rng: random.Random) -> list[list[int]]:
    """Documents of like length together, shuffled, as often as there are epochs."""
    batches: list[list[int]] = []
    while epochs > 0:
        places = rng.sample(range(len(documents)), round(len(documents) * min(1.0, epochs)))
        places.sort(key=lambda place: len(documents.document(place)[0]) + 8 * rng.random())
        groups: list[list[int]] = [[]]
        for place in places:
            if groups[-1] and (len(groups[-1]) + 1) * len(documents.document(place)[0]) > tokens:
                groups.append([])
            groups[-1].append(place)
        rng.shuffle(groups)
        batches += groups
        epochs -= 1
    return batches


EPOCHS, RATE, TOKENS = 3.0, 3e-3, 2000


def arms(
    folder: Path, teacher: Path, tokenizer: PreTrainedTokenizerFast, items: list[Problem], seeds: int
) -> tuple[dict[str, dict[str, Any]], str]:
    """Fine-tune on gold answers, raw teacher traces and verified ones; return the accuracies and how it was done."""
    prompts = [*problems("word_problems", count=750, seed=11), *problems("chains", count=750, seed=11)]
    model = AutoModelForCausalLM.from_pretrained(teacher).eval()
    said = responses(model, tokenizer, [asked(item) for item in prompts for _ in range(4)], temperature=1.0, seed=3)
    samples = [said[4 * at : 4 * at + 4] for at in range(len(prompts))]
    verified = [
        (item, next(text for text in row if final(item, text) == truth(item)))
        for item, row in zip(prompts, samples, strict=True)
        if any(final(item, text) == truth(item) for text in row)
    ]
    data = {
        "answers": [(item, f"Answer: {item.answer}") for item in prompts],
        "raw": [(item, row[0]) for item, row in zip(prompts, samples, strict=True)],
        "verified": verified,
    }
    how = f"AdamW, learning rate {RATE}, {EPOCHS:g} epochs, {TOKENS} tokens a step, linear cool-down, one thread."
    return {arm: _trained(folder, tokenizer, rows, items, seeds) for arm, rows in data.items()}, how


def _trained(
    folder: Path, tokenizer: PreTrainedTokenizerFast, rows: list[tuple[Problem, str]], items: list[Problem], seeds: int
) -> dict[str, Any]:
    """Fine-tune the base student once a seed."""
    documents = tokenised([render(item.prompt, text) for item, text in rows], tokenizer)
    scores, seconds = [], 0.0
    for seed in range(seeds):
        student = AutoModelForCausalLM.from_pretrained(folder)
        plain = Llama(student.config)
        plain.load_state_dict(student.state_dict(), strict=False)
        seconds += finetune(plain, documents, epochs=EPOCHS, tokens=TOKENS, rate=RATE, seed=seed)
        student.load_state_dict(plain.state_dict(), strict=False)
        right = greedy(student.eval(), tokenizer, items)
        scores.append(round(sum(right) / len(items), 3))
        print(scores, flush=True)
    return {"greedy": scores, "documents": len(rows), "cpu_seconds": round(seconds / seeds, 1)}
