"""Models are loaded by one thread at a time; without the lock some of these loads end without weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import limbeck.teachers
from limbeck.score._likelihood import Scorer
from limbeck.train.student import load_student

STUDENT = Path(limbeck.teachers.__file__).parent / "weights" / "student"


def test_many_threads_can_load_models_at_the_same_time() -> None:
    pytest.importorskip("transformers")
    with ThreadPoolExecutor(6) as threads:
        scorers = [threads.submit(Scorer, STUDENT, template="chat") for _ in range(9)]
        students = [threads.submit(load_student, STUDENT) for _ in range(9)]
        models = [made.result().model for made in (*scorers, *students)]
    assert len({sum(float(p.detach().double().sum()) for p in model.parameters()) for model in models}) == 1
