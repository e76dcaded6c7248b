"""The interpreter runs the small subset rightly and refuses everything else, however it is attacked."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.sandbox.interpret import MAX_BITS, Rejected, call

RUNS = [
    ("def f(xs):\n    xs = xs[1:]\n    xs = [x * 2 for x in xs]\n    return max(xs)", [[9, 2, 3]], 6),
    ("def f(xs):\n    return [x for x in xs if x % 2 == 0 and x > 2]", [[1, 2, 4, 6]], [4, 6]),
    ("def f(xs):\n    xs = sorted(xs, reverse=True)\n    return xs[::2]", [[1, 3, 2, 4]], [4, 2]),
    ("def f(s):\n    s = s.strip()\n    return '-'.join(s.split())", [" a b  c "], "a-b-c"),
    ("def f(s):\n    return s.replace('a', 'o').upper()[::-1]", ["banana"], "ONONOB"),
    ("def f(a, b):\n    return a if a > b else b", [3, 5], 5),
    ("def f(x):\n    return 1 < x <= 3 or x == 10", [10], True),
    ("def f(x):\n    return not (x in [1, 2])", [3], True),
    ("def f(x):\n    'a docstring is not in the subset'\n    return x", [3], Rejected),
    ("def f(x):\n    return -x // 2 + 2 ** 3", [5], 5),
    ("def f(x):\n    return", [5], None),
    ("def f(xs):\n    return sum(x for x in xs)", [[1, 2]], 3),
    ("def f(xs):\n    return list(reversed(xs))", [[1, 2]], [2, 1]),
]


@pytest.mark.parametrize(("source", "args", "expected"), RUNS)
def test_the_subset_means_what_python_means(source, args, expected):
    if expected is Rejected:
        with pytest.raises(Rejected):
            call(source, "f", args)
    else:
        assert call(source, "f", args) == expected


ATTACKS = {
    "huge power": "return 9 ** 9 ** 9 ** 9",
    "power in steps": "x = 2 ** 200\n    x = x * x\n    return x",
    "huge power of a float": "return 1e300 ** 200",
    "negative power": "return 2 ** -1",
    "huge text": "return 'a' * 10 ** 9",
    "huge text from the left": "return 10 ** 9 * 'a'",
    "huge list": "return [0] * 10 ** 9",
    "growing text": "s = 'a' * 1900\n    s = s.replace('a', s)\n    return s",
    "growing join": "s = 'a' * 1900\n    return s.join([s, s, s])",
    "empty replace": "s = 'a' * 1900\n    return s.replace('', s)",
    "doubling list": "x = [0] * 1900\n    x = x + x\n    return x",
    "nested list": "x = [1]\n" + "    x = [x, x]\n" * 60 + "    return x",
    "shared list returned": "x = [1]\n" + "    x = [x, x]\n" * 30 + "    return x",
    "shared list written": "x = [1]\n" + "    x = [x, x]\n" * 30 + "    return str(x)",
    "shared lists compared": "x = [1]\n    y = [1]\n" + "    x = [x, x]\n    y = [y, y]\n" * 30 + "    return x == y",
    "list as text": "return str([1])",
    "shift": "return 1 << 10 ** 9",
    "dunder": "return x.__class__.__bases__",
    "dunder method": "return ''.__class__()",
    "format": "return '{0.__class__}'.format(x)",
    "percent format": "return '%1000000000d' % 5",
    "f-string": "return f'{x:1000000000d}'",
    "centre": "return 'a'.center(10 ** 9)",
    "import by name": "return __import__('os')",
    "import": "import os\n    return os",
    "open": "return open('/etc/passwd')",
    "eval": "return eval('1')",
    "getattr": "return getattr(x, 'y')",
    "loop": "while True:\n        x = 1\n    return x",
    "for": "for y in [1]:\n        x = y\n    return x",
    "recursion": "return f(x)",
    "lambda": "return (lambda y: y)(x)",
    "walrus": "return (y := 1)",
    "global": "global x\n    return x",
    "range": "return range(10 ** 12)",
    "dictionary": "return {'a': 1}",
    "attribute assigned": "x.y = 1\n    return x",
    "item assigned": "x[0] = 1\n    return x",
    "unpacking": "a, b = [1, 2]\n    return a",
    "augmented": "x += 1\n    return x",
    "star": "return max(*x)",
    "unknown name": "return nothing",
    "division by zero": "return 1 // 0",
    "out of range": "return [1][5]",
    "wrong types": "return 1 + 'a'",
    "wrong method": "return (5).upper()",
    "sort key": "return sorted([1], key=abs)",
    "endless list": "x = [1]\n    return [x for y in x if x.append(1) or True]",
    "bytes": "return b'a' * 10",
    "ellipsis": "return ...",
    "complex": "return 1j",
    "many digits": "return int('9' * 1900)",
    "no return": "x = 1",
    "await": "return await x",
    "yield": "yield 1",
    "nested comprehension": "return [[a for b in [1] * 1500] for c in [1] * 1500]",
    "two loops": "return [a for a in [1] for b in [2]]",
    "set comprehension": "return {a for a in [1]}",
    "class": "class A:\n        pass\n    return A",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_rejected_at_once(name):
    begun = time.process_time()
    with pytest.raises(Rejected):
        call(f"def f(x):\n    {ATTACKS[name]}", "f", [1])
    assert time.process_time() - begun < 0.5


WHOLE_SOURCES = [
    "",
    "x = 1",
    "def g(x):\n    return x",
    "def f(x):\n    return x\ndef f(x):\n    return 2",
    "def f(x:\n",
    "def f(x):\n    return \0",
    "@staticmethod\ndef f(x):\n    return x",
    "def f(*x):\n    return x",
    "def f(x=[]):\n    return x",
    "async def f(x):\n    return x",
    "def f(x):\n    return " + "(" * 900 + "x" + ")" * 900,
    "def f(x):\n    return " + "-" * 1900 + "x",
    "def f(x):\n    return " + "[" * 150 + "]" * 150,
    "def f(x):\n    return " + "+".join("x" * 900),
    "#" * 5000,
    "def f():\n    return 1",
    "def f(x, y):\n    return 1",
    "lambda x: x",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", WHOLE_SOURCES)
def test_a_source_that_is_not_one_plain_function_is_rejected(source):
    with pytest.raises(Rejected):
        call(source, "f", [1])


def test_arguments_are_checked_too():
    for value in (10**100, "a" * 5000, {"a": 1}, object(), [[[]] * 3000]):
        with pytest.raises(Rejected):
            call("def f(x):\n    return x", "f", [value])


def test_the_caller_s_list_is_left_as_it_was():
    given = [3, 1, 2]
    assert call("def f(xs):\n    xs = sorted(xs)\n    return xs", "f", [given]) == [1, 2, 3]
    assert given == [3, 1, 2]


def test_a_comprehension_does_not_leak_its_name():
    with pytest.raises(Rejected):
        call("def f(xs):\n    ys = [y for y in xs]\n    return y", "f", [[1, 2]])


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_ends_in_a_value_or_a_rejection(body):
    with contextlib.suppress(Rejected):
        call(f"def f(x):\n    return {body}", "f", [5])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**MAX_BITS) + 1, 2**MAX_BITS - 1), max_size=8), st.integers(-9, 9))
def test_arithmetic_agrees_with_python(numbers, amount):
    source = f"def f(xs):\n    xs = [x + {amount} for x in xs]\n    return len(xs[1:])"
    try:
        assert call(source, "f", [numbers]) == len(numbers[1:])
    except Rejected as refusal:
        assert "bits" in str(refusal)
