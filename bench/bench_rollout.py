"""Rollouts of small models on a CPU: `train._rollout` against transformers' `generate`, 64 rows at a time, one thread.

Both write one sampled text (temperature 1, everything allowed, at most 160 tokens) after each of the same prompts and stop at
the same end token. `generate` gets left-padded batches of 64 and goes on until the last row of a batch has ended; rollouts
refill the rows that end. The texts differ, since the random numbers do; their lengths come out alike.
"""

from __future__ import annotations

import sys

import torch

from limbeck.core.row import Row
from limbeck.seeds.tasks import Tasks
from limbeck.teachers.embedded import Embedded
from limbeck.train._rollout import Sampling, rollouts
from limbeck.train.examples import encode_prompts
from limbeck.train.student import LoadedStudent, load_student
from paired import paired

ROWS, LONGEST = 64, 160
FAMILIES = ("word_problems", "chains")


def ours(student: LoadedStudent, prompts: list[tuple[int, ...]]) -> int:
    """Write a rollout after each prompt; return the number of tokens."""
    made = rollouts(
        student.model,
        prompts,
        sampling=Sampling(max_tokens=LONGEST),
        stops=student.stops,
        seeds=[[0, i] for i in range(len(prompts))],
        rows=ROWS,
    )
    return sum(len(r.tokens) for r in made)


def theirs(student: LoadedStudent, prompts: list[tuple[int, ...]]) -> int:
    """Write as many with `generate`; return the number of tokens."""
    count, end = 0, student.end
    student.model.eval()
    for start in range(0, len(prompts), ROWS):
        batch = [list(p) for p in prompts[start : start + ROWS]]
        padded = student.tokenizer.pad({"input_ids": batch}, padding_side="left", return_tensors="pt")
        with torch.inference_mode():
            out = student.model.generate(
                **padded,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                max_new_tokens=LONGEST,
                eos_token_id=end,
                pad_token_id=student.pad,
            )
        texts = out[:, padded["input_ids"].shape[1] :].tolist()
        count += sum(t.index(end) + 1 if end in t else len(t) for t in texts)
    return count


def main() -> None:
    """Compare on the embedded student (0.18 million weights) and the embedded teacher (1.1 million)."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 256
    rows = [row for row in Tasks(family=FAMILIES, count=count, seed=3).rows() if isinstance(row, Row)]
    for name in ("student", "teacher"):
        student = load_student(Embedded.folder(name))
        prompts = encode_prompts(rows, student.tokenizer)
        tokens = ours(student, prompts), theirs(student, prompts)
        title = f"embedded {name}, {count} prompts, {tokens[0]} / {tokens[1]} tokens"
        paired(title, lambda s=student, p=prompts: ours(s, p), lambda s=student, p=prompts: theirs(s, p))


if __name__ == "__main__":
    main()
