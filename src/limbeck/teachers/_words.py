"""From a conversation to token numbers and back, without transformers: a tokenizer file and a chat template.

    words = Words(folder)
    words.encode([{"role": "user", "content": "Start with 3. Add 4."}])    # [1, 87, 12, …]
    words.decode([87, 12])                                                 # "Start with"

Importing transformers and rendering through it costs a second of every worker's start and a millisecond a prompt; the
template is compiled once here, in the same jinja sandbox with the same settings and functions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from limbeck.core.errors import EndpointError, RefusedError
from limbeck.core.loading import LOADING


class Words:
    """The tokenizer of a model folder in the Hugging Face layout."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder)
        settings = _json(folder / "tokenizer_config.json")
        names = {**_json(folder / "special_tokens_map.json"), **settings}
        self._special = {key: _text(names[key]) for key in names if key.endswith("_token") and names[key]}
        self.ends = self._end_tokens(folder)
        self._template = template(folder)
        self._render = lru_cache(maxsize=4)(_compiled)

    def _end_tokens(self, folder: Path) -> frozenset[int]:
        named = self._special.get("eos_token")
        found = {self._tokenizer.token_to_id(named)} if named else set()
        for file in ("config.json", "generation_config.json"):
            value = _json(folder / file).get("eos_token_id")
            found |= set(value) if isinstance(value, list) else {value}
        ends = frozenset(number for number in found if number is not None)
        if not ends:
            raise EndpointError(
                f"The tokenizer in {folder} has no end-of-sequence token, so no answer would ever end: "
                "name one as eos_token in its tokenizer_config.json."
            )
        return ends

    def encode(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> list[int]:
        """Return the tokens of the conversation up to where the answer begins, or goes on where the last turn is the assistant's.

        Raises RefusedError where the template does not accept the conversation.
        """
        from jinja2 import TemplateError

        turns = [_turn(message) for message in messages]
        begun = str(turns[-1].get("content") or "").strip() if turns and turns[-1]["role"] == "assistant" else ""
        values = {"messages": turns, "tools": list(tools) or None, "add_generation_prompt": not begun, **self._special}
        try:
            text = self._render(self._template).render(**values)
        except (TemplateError, TypeError) as error:
            raise RefusedError(f"The model's chat template does not accept this conversation: {error}.") from None
        if begun:  # whatever the template puts behind a finished turn would end the answer before it goes on
            if begun not in text:
                raise RefusedError("The model's chat template does not show the turn that was to be gone on with.")
            text = text[: text.rindex(begun) + len(begun)]
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of `tokens`, without special tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def name(self, token: int) -> str:
        """Return a token's own text; pieces of a character, which have none, by their name in the vocabulary."""
        text = str(self._tokenizer.decode([token], skip_special_tokens=False))
        return str(self._tokenizer.id_to_token(token)) if "�" in text or not text else text


def template(folder: Path) -> str:
    """Return the chat template of a model folder. Raises EndpointError if there is none."""
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text("utf-8")
    found = _json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(found, list):  # several named ones
        found = next((entry["template"] for entry in found if entry["name"] == "default"), None)
    if not found:
        raise EndpointError(
            f"The tokenizer in {folder} has no chat template, so a conversation can not be turned into a prompt: "
            "put one beside it as chat_template.jinja."
        )
    return str(found)


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if file.is_file():
        loaded = Tokenizer.from_file(str(file))
        loaded.no_padding()
        loaded.no_truncation()
        return loaded
    with LOADING:
        from transformers import AutoTokenizer

        slow = AutoTokenizer.from_pretrained(str(folder))
    if getattr(slow, "backend_tokenizer", None) is None:
        raise EndpointError(f"The tokenizer in {folder} has no tokenizer.json and can not be turned into one.")
    return slow.backend_tokenizer


def _compiled(source: str) -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    world = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    world.filters["tojson"] = _to_json
    world.globals["raise_exception"] = _raise
    return world.from_string(source)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    return {**message, "tool_calls": json.loads(calls)} if isinstance(calls, str) else dict(message)


def _text(value: Any) -> str:
    return str(value["content"]) if isinstance(value, dict) else str(value)


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}
