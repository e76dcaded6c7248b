"""What `bench/bench_client.py` runs as ours: prompts out of a file, one answer each, everything kept."""

from __future__ import annotations

from limbeck import Recipe
from limbeck.generate.sample import Sample
from limbeck.seeds.files import Files


def client_recipe(prompts: str, teacher: str) -> Recipe:
    """Read the prompts and sample one answer to each."""
    return Recipe(steps=[Files(path=prompts, as_prompts=True), Sample(teacher=teacher)])
