"""A conversation that ends with the assistant's turn is gone on with, and not answered anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from limbeck.core.errors import RefusedError
from limbeck.teachers._words import Words
from limbeck.teachers.embedded import Embedded

pytest.importorskip("tokenizers", reason="SKIPPED: the embedded teacher needs the train extra.")
FOLDER = Embedded.folder("")
BEGUN = ["1. Start with 12: 12.", "Grüße,\n世界!", " two  blanks"]


def test_a_template_that_hides_the_turn_is_refused(tmp_path: Path) -> None:
    for file in FOLDER.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] }}{% endfor %}")
    with pytest.raises(RefusedError, match="does not show the turn"):
        Words(tmp_path).encode([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])


@pytest.mark.parametrize("begun", BEGUN)
def test_the_prompt_ends_where_the_turn_does(begun: str) -> None:
    transformers = pytest.importorskip("transformers")
    words, tokenizer = Words(FOLDER), transformers.AutoTokenizer.from_pretrained(FOLDER)
    turns = [{"role": "user", "content": "Start with 12."}, {"role": "assistant", "content": begun}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True)
    assert words.encode(turns) == tokenizer(rendered, add_special_tokens=False)["input_ids"]
    answered = [*turns, {"role": "user", "content": "And?"}]
    assert words.encode(answered)[: len(words.encode(turns))] == words.encode(turns)
