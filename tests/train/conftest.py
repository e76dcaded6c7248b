"""A real, tiny, random Llama with a real tokenizer, and an honest context."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_students import Here, make_model, make_tokenizer


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Llama of two layers with a tokenizer of 400 tokens."""
    folder = tmp_path_factory.mktemp("student")
    make_model().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(student: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(student)


@pytest.fixture
def here(tmp_path: Path, student: Path) -> Callable[[str], Here]:
    """Make a context with a folder of its own."""

    def make(name: str) -> Here:
        (tmp_path / name).mkdir(exist_ok=True)
        return Here(tmp_path / name, student)

    return make
