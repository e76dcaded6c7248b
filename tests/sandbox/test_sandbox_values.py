"""Plain values survive the way out of a candidate unchanged, and what is not plain, or not made by the encoder, never arrives."""

import collections
import datetime
import decimal
import fractions
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.sandbox.comparing import difference
from limbeck.sandbox.inside import frames
from limbeck.sandbox.inside.values import MAX_DEPTH, Malformed, NotPlain, decode, encode

SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
)
HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    SIMPLE | st.decimals(allow_nan=False) | st.fractions() | st.dates() | st.datetimes() | st.timedeltas(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(collections.deque)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_a_plain_value_arrives_as_it_was_type_for_type(value):
    body = frames.pack(encode(value))[4:]
    assert difference(value, decode(frames.parse(body)), tolerance=0.0) is None


@pytest.mark.parametrize(
    "value",
    [
        -(2**70), 2**53, range(1, 9, 2), bytearray(b"ab"), collections.Counter("aab"), collections.OrderedDict(a=1),
        decimal.Decimal("1.50"), fractions.Fraction(1, 3), datetime.date(2024, 2, 29), int, type(None), "\ud800", float("-inf"),
    ],
)  # fmt: skip
def test_single_values_keep_their_type(value):
    got = decode(json.loads(json.dumps(encode(value))))
    assert type(got) is type(value)
    assert got == value


class Sub(int):
    """An integer that may say anything about itself."""


@pytest.mark.parametrize(
    "value", [Sub(3), object(), len, lambda: 1, (i for i in "ab"), [Sub(1)], {"a": object()}, TypeError]
)
def test_what_is_not_exactly_plain_is_not_sent(value):
    with pytest.raises(NotPlain):
        encode(value)


def test_values_that_are_too_deep_or_too_many_are_not_sent():
    deep: list = []
    for _ in range(MAX_DEPTH + 5):
        deep = [deep]
    cyclic: list = []
    cyclic.append(cyclic)
    for value in (deep, cyclic, [0] * 200_000):
        with pytest.raises(NotPlain, match=r"more than|deeper"):
            encode(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["t", "s", "d", "i", "f", "h", "b", "r", "fr", "m", "dt", "ty", "x"]), inner, max_size=2
        )
    ),
    max_leaves=8,
)


@given(JSON)
def test_a_form_that_nobody_encoded_is_malformed_or_plain_and_never_anything_else(form):
    try:
        value = decode(form)
    except Malformed:
        return
    encode(value)  # whatever came out is made of plain types


def test_keys_made_to_collide_are_noticed_before_they_cost_anything():
    form = {"s": [{"i": hex(n * (2**61 - 1))} for n in range(1, 15_000)]}
    started = time.process_time()
    with pytest.raises(Malformed, match="collide"):
        decode(form)
    assert time.process_time() - started < 1.0


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused(body):
    try:
        message = frames.parse(body)
    except frames.FrameError:
        return
    assert json.loads(body) == message


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[" + b"[]," * 300_000 + b"0]", b"9" * 5000])
def test_json_that_is_there_to_hurt_is_refused(body):
    with pytest.raises(frames.FrameError):
        frames.parse(body)


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (5, 5, True), (5, 5.0, False), (1, True, False), ([1], (1,), False), ({1}, {True}, False), ({1: 2}, {1: 2.0}, False),
        ({1: "a"}, {True: "a"}, False), (0.3, 0.1 + 0.2, True), (1e-9, 2e-9, False), (0.0, 1e-12, True), (0.0, 1e-6, False),
        (float("nan"), float("nan"), True), (1.0, float("nan"), False), (float("inf"), float("inf"), True),
        ((1, [2.0]), (1, [2.0 + 1e-12]), True), ({"a": [1, {2}]}, {"a": [1, {2}]}, True), (None, 0, False), ("1", 1, False),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), False), ({(1, 2)}, {(1, 2.0)}, False),
    ],
)  # fmt: skip
def test_values_are_compared_by_exact_type(expected, got, same):
    assert (difference(expected, got) is None) is same
