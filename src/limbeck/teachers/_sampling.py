"""Whether a server samples at all: some answer 200 to a temperature and give every sample of a prompt the same answer.

    watch = Watch()
    watch.same(ask, answers)      False, False, ... True once: six samples of three prompts each equalled the first, none differed

Seen with transformers' server: it reads `temperature`, and decodes greedily all the same unless the model's own
generation_config.json says `"do_sample": true`. Four samples are then one sample four times, and what is built on their
differences (rejection sampling, preference pairs, votes) is empty. Short answers prove nothing: a model may be sure of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from limbeck.core.ask import Answer, Ask

WARM = 0.5
"""Temperatures from here on are expected to give different answers."""
LONG = 40
"""Characters; shorter answers are not compared."""
PROMPTS, PAIRS = 3, 6
REMEMBERED = 64


class Watch:
    """The first answer to each of a few prompts, until one other sample differs or enough are the same."""

    def __init__(self) -> None:
        self.over = False
        """Whether it is known; nothing is compared any more."""
        self._first: dict[int, str] = {}
        self._repeated: set[int] = set()
        self._pairs = 0

    def same(self, ask: Ask, answers: Sequence[Answer]) -> bool:
        """Return whether these answers complete the proof that every sample is the same; True at most once."""
        if self.over or ask.temperature < WARM:
            return False
        # the same ask but for the sample, whose seed is another each time
        prompt = hash((ask.temperature, ask.top_p, ask.max_tokens, ask.seed, *(turn.content for turn in ask.messages)))
        for text in (answer.text for answer in answers if len(answer.text) >= LONG):
            first = self._first.get(prompt)
            if first is None:
                self._remember(prompt, text)
            elif first != text:
                self._end()
                return False
            else:
                self._repeated.add(prompt)
                self._pairs += 1
        if self._pairs < PAIRS or len(self._repeated) < PROMPTS:
            return False
        self._end()
        return True

    def _remember(self, prompt: int, text: str) -> None:
        if len(self._first) < REMEMBERED:
            self._first[prompt] = text

    def _end(self) -> None:
        self.over = True
        self._first.clear()
