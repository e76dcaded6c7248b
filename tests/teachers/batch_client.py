"""Ask a batch teacher as the engine would, in a process of its own, to be killed: each answer is durable before it counts.

python batch_client.py openai:m@http://127.0.0.1:1/v1 QUESTIONS SAMPLES answers.jsonl
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

from limbeck.core.ask import Ask
from limbeck.core.row import Message
from limbeck.teachers.batch import Batch


async def main(spec: str, questions: int, samples: int, target: Path) -> None:
    teacher = Batch(spec, quiet=0.3)
    known = {json.loads(line)[0] for line in target.read_text().splitlines()} if target.exists() else set()
    with target.open("a") as file:

        async def one(text: str) -> None:
            ask = Ask(messages=[Message(role="user", content=text)], teacher="batch", n=samples)
            reply = await teacher.answer(ask, range(samples))
            file.write(json.dumps([text, [answer.text for answer in reply.answers]]) + "\n")
            file.flush()
            os.fsync(file.fileno())

        try:
            await asyncio.gather(*(one(f"q{i}") for i in range(questions) if f"q{i}" not in known))
        finally:
            await teacher.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
