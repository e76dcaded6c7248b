"""Which tokens are trained on, token by token, and which rows are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_students import TEMPLATE, copying, make_tokenizer, row_of

from limbeck.core.errors import InputError, SealedError, UsageError
from limbeck.core.row import Message
from limbeck.train.examples import check_rows, encode

ROW = row_of(("user", "Say red blue."), ("assistant", "It is blue."))


def shown(example, tokenizer) -> list[tuple[str, bool]]:
    return list(zip(tokenizer.convert_ids_to_tokens(list(example.ids)), example.trained, strict=True))


def test_golden_labels_response_and_end_only(tokenizer):
    (example,), reasons = encode([ROW], tokenizer, {2}, end=2)
    assert reasons == {}
    marked = shown(example, tokenizer)
    first = [token for token, _ in marked].index("<assistant>") + 1
    assert [trained for _, trained in marked] == [False] * first + [True] * (len(marked) - first)
    assert tokenizer.decode(example.ids[first:]) == "It is blue.<eos>"
    assert marked[-1] == ("<eos>", True)
    assert marked[0] == ("<bos>", False)


def test_ids_are_what_inference_sees(tokenizer):
    (example,), _ = encode([ROW], tokenizer, {2}, end=2)
    prompt = [{"role": "user", "content": "Say red blue."}]
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    assert list(example.ids[: len(asked)]) == list(asked)
    assert example.trained[len(asked)] and not example.trained[len(asked) - 1]


def test_a_token_across_the_boundary_is_split_as_at_inference(tokenizer):
    # "Say red" + " blue": without a special token between, BPE would merge the space into the word before it
    own = make_tokenizer()
    own.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
    )
    row = row_of(("user", "Say re"), ("assistant", "d blue"))
    (example,), _ = encode([row], own, {2}, end=2)
    prompt = own("Say re", add_special_tokens=False)["input_ids"]
    whole = own("Say red blue<eos>", add_special_tokens=False)["input_ids"]
    assert whole[: len(prompt)] != prompt, "the case must be a straddling one"
    assert list(example.ids[: len(prompt)]) == prompt
    assert example.trained == (False,) * len(prompt) + (True,) * (len(example.ids) - len(prompt))
    assert own.decode(example.ids) == "Say red blue<eos>"


def test_what_follows_the_end_is_cut_and_a_missing_end_is_added():
    own = make_tokenizer()
    own.chat_template = TEMPLATE.replace("<eos>{% endif %}", "<eos>\n{% endif %}")
    (example,), _ = encode([ROW], own, {2}, end=2)
    assert own.convert_ids_to_tokens(example.ids[-1]) == "<eos>"
    own.chat_template = TEMPLATE.replace("<eos>{% endif %}", "{% endif %}")
    (bare,), _ = encode([ROW], own, {2}, end=2)
    assert bare == example


def test_padding_equal_to_the_end_token_changes_nothing(tokenizer):
    own = make_tokenizer()
    own.pad_token = "<eos>"
    assert encode([ROW], own, {2}, end=2) == encode([ROW], tokenizer, {2}, end=2)


def test_turns(tokenizer):
    row = row_of(("user", "Say red."), ("assistant", "It is red."), ("tool", "Say blue."), ("assistant", "It is blue."))
    (last,), _ = encode([row], tokenizer, {2}, end=2)
    (both,), _ = encode([row], tokenizer, {2}, end=2, turns="all")
    assert last.ids == both.ids
    trained = [i for i, t in zip(both.ids, both.trained, strict=True) if t]
    assert tokenizer.decode(trained) == "It is red.<eos>It is blue.<eos>"
    assert tokenizer.decode([i for i, t in zip(last.ids, last.trained, strict=True) if t]) == "It is blue.<eos>"


def test_tool_calls_reach_the_template():
    own = make_tokenizer()
    call = "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif %}"
    own.chat_template = TEMPLATE.replace("<assistant>{{ m['content'] }}", "<assistant>" + call + "{{ m['content'] }}")
    calls = '[{"function": {"name": "grey", "arguments": "{}"}}]'
    row = row_of(("user", "Say red."))
    row = replace(row, messages=(*row.messages, Message(role="assistant", content="", tool_calls=calls)))
    check_rows([row])
    (example,), _ = encode([row], own, {2}, end=2)
    assert own.decode([i for i, t in zip(example.ids, example.trained, strict=True) if t]) == "grey<eos>"


def test_long_rows_and_rows_with_the_end_token_inside_are_left_out(tokenizer):
    forged = row_of(("user", "Say red."), ("assistant", "It is <eos><user>red."))
    examples, reasons = encode([ROW, forged], tokenizer, {2}, end=2)
    assert [e.row for e in examples] == [ROW.id]
    assert "end-of-turn" in reasons[forged.id]
    examples, reasons = encode([ROW], tokenizer, {2}, end=2, max_length=5)
    assert examples == [] and reasons[ROW.id].endswith("tokens are over max_length 5")


def test_a_template_that_rewrites_the_past_is_refused():
    own = make_tokenizer()
    own.chat_template = "{{ messages | length }}" + TEMPLATE
    with pytest.raises(UsageError, match=r"turn after turn.*chat_template"):
        encode([ROW], own, {2}, end=2)


@pytest.mark.parametrize(
    ("row", "error", "says"),
    [
        (row_of(("user", "Say red."), ("assistant", "red"), sealed=True), SealedError, "sealed"),
        (row_of(("user", "Say red.")), InputError, "no response"),
        (row_of(("user", "Say red."), ("assistant", " \n")), InputError, "no response"),
        (
            row_of(
                ("user", "Hint: red. Say red."),
                ("assistant", "red"),
                extra={"attached": [{"by": "prompts.hint", "text": "Hint: red. "}]},
            ),
            UsageError,
            "prompts.hint.*prompts.erase",
        ),
    ],
)
def test_rows_that_must_not_be_trained_on_are_named(row, error, says):
    with pytest.raises(error, match=says) as caught:
        check_rows([*copying(3), row])
    assert row.id in str(caught.value)


def test_nothing_to_train_on():
    with pytest.raises(UsageError, match="nothing to train on"):
        check_rows([])
