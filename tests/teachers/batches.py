"""Answer 300 prompts, four samples each, in batches of a given size and make-up; print a line for each answer.

    OPENBLAS_NUM_THREADS=1 python batches.py ROWS SEED

SEED 0 hands everything over at once; any other splits the samples of each prompt, shuffles, and lets the parts dribble in. It is
a program of its own because numpy reads its number of threads when it is first imported.
"""

from __future__ import annotations

import json
import random
import sys

from limbeck.core.ask import Ask
from limbeck.core.row import Message
from limbeck.seeds.families import families, problems
from limbeck.teachers._decode import Decoder, Job
from limbeck.teachers._llama import Llama
from limbeck.teachers._words import Words
from limbeck.teachers.embedded import Embedded


def main(rows: int, seed: int) -> None:
    folder, order = Embedded.folder(""), random.Random(seed)
    texts = [p.prompt for family in families() for p in problems(family, count=60, seed=3)]
    jobs = []
    for number, text in enumerate(texts[:300]):
        payload = Ask(messages=[Message(role="user", content=text)], teacher="t", max_tokens=24).payload()
        jobs += [Job(number, payload, samples) for samples in ([[3, 1], [0], [2]] if seed else [[0, 1, 2, 3]])]
    if seed:
        order.shuffle(jobs)
    decoder, found = Decoder(Llama(folder, rows=rows), Words(folder), rows=rows), []
    while decoder.busy or jobs:
        for _ in range(min(len(jobs), order.randint(0, rows // 2) if seed else len(jobs))):
            decoder.add(jobs.pop())
        found += decoder.step()
    for outcome in sorted(found, key=lambda outcome: (outcome.job, outcome.sample)):
        print(json.dumps([outcome.job, outcome.sample, outcome.text, outcome.finish, outcome.tokens_out]))
    print(json.dumps(decoder.close_calls))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
