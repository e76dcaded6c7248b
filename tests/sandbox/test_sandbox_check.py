"""Verdicts: every way to be right and wrong is told apart, and the expected values never reach the candidate."""

import sys

import pytest

from limbeck import sandbox
from limbeck.sandbox.inside import arrays

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="confinement needs Linux")
ADD = "def add(a, b):\n    return a + b\n"
SIZED = "class S:\n    def __len__(self): return 3\n    def __getitem__(self, k): return k * 2"
RAISES = "try:\n    f(-1)\nexcept ValueError as e:\n    assert str(e) == 'neg'\nelse:\n    assert False"
OWN_MATH = "class math:\n    isclose = staticmethod(lambda *a: True)\ndef f(): return 9.0"
CASES = [((1, 2), 3), ([-1, 1], 0), ({"a": 2, "b": 5}, 7)]


def test_a_right_function_passes_by_position_and_by_name():
    verdict = sandbox.check_function(ADD, "add", CASES)
    assert (verdict.passed, verdict.status, verdict.detail) == (True, "pass", "")
    assert verdict.level in ("strict+ns", "strict")
    assert verdict.seconds > 0


@pytest.mark.parametrize(
    ("source", "status", "detail"),
    [
        ("def add(a, b):\n    return a - b", "wrong", "case 1 of 3: expected 3, got -1"),
        ("def add(a, b):\n    return float(a + b)", "wrong", "case 1 of 3: expected 3 (int), got 3.0 (float)"),
        (
            "def add(a, b):\n    return object()",
            "wrong",
            "case 1 of 3: it returned a value of type object, which is not plain data",
        ),
        ("def add(a, b):\n    return 1 / (b - 1)", "wrong", "case 1 of 3: expected 3 (int), got 1.0 (float)"),
        (
            "def add(a, b):\n    return a + b if b != 1 else 1 / 0",
            "error",
            "case 2 of 3: ZeroDivisionError: division by zero",
        ),
        ("def add(a, b):\n    exit()", "error", "case 1 of 3: SystemExit"),
        ("def add(a, b):\n    raise SystemExit", "error", "case 1 of 3: SystemExit"),
        ("def add(a, b):\n    import os; os._exit(0)", "error", "case 1 of 3: it ended before it answered"),
        ("def plus(a, b): pass", "error", "case 1 of 3: KeyError: 'add'"),
        ("def add(a b): pass", "error", "case 1 of 3: SyntaxError: invalid syntax"),
        ("def add(a, b):\n    while True: pass", "timeout", "case 1 of 3: not done within 0.3 seconds"),
        ("def add(a, b):\n    return 'x' * (1 << 30)", "memory", "case 1 of 3: MemoryError"),
        ("def add(a, b):\n    return 'x' * (2 << 20)", "output-limit", "case 1 of 3: it returned a value of 20971"),
        ("def add(a, b):\n    while True: print('x' * 1000)", "output-limit", "case 1 of 3: more than 1 MiB on stdout"),
        ("def add(a, b):\n    import socket; socket.socket()", "refused", "case 1 of 3: PermissionError"),
        (
            "def add(a, b):\n    if b == 5:\n        import os; os._exit(0)\n    return a + b",
            "error",
            "case 3 of 3: it ended",
        ),
    ],
)
def test_how_a_wrong_function_fails_is_told_apart(source, status, detail):
    verdict = sandbox.check_function(source, "add", CASES, seconds=0.3)
    assert (verdict.status, verdict.passed) == (status, False), verdict
    assert detail in verdict.detail


def test_the_candidate_is_sent_arguments_and_nothing_else():
    search = """
def find(a, b):
    import gc
    wanted = a * 1001
    seen = [x for x in gc.get_objects() if isinstance(x, (list, tuple, dict)) and len(x) < 1000]
    return any(wanted in (x.values() if isinstance(x, dict) else x) for x in seen if type(x) in (list, tuple, dict))
"""
    assert sandbox.check_function(search, "find", [((777, 0), False), ((778, 0), 778778)]).detail.endswith(
        "got False (bool)"
    )
    assert sandbox.check_function(search, "find", [((777, 777777), True)]).passed  # the search does find what is there


def test_a_check_that_could_not_fail_is_an_error():
    with pytest.raises(ValueError, match="no case to check 'add' on"):
        sandbox.check_function(ADD, "add", [])
    with pytest.raises(ValueError, match="no case"):
        sandbox.check_program("print(1)", [])
    with pytest.raises(ValueError, match="assert nothing"):
        sandbox.check_asserts(ADD, ["add(1, 2)"])
    with pytest.raises(ValueError, match="not Python"):
        sandbox.check_asserts(ADD, ["assert add(1, 2) = 3"])
    with pytest.raises(ValueError, match="arguments of a case can not be sent"):
        sandbox.check_function(ADD, "add", [((object(), 1), 2)])
    with pytest.raises(ValueError, match="not a sequence"):
        sandbox.check_function(ADD, "add", [("ab", 2)])


def test_floats_have_a_tolerance_that_can_be_set():
    third = "def third(x): return x / 3 + 1e-7"
    assert not sandbox.check_function(third, "third", [((1,), 1 / 3)]).passed
    assert sandbox.check_function(third, "third", [((1,), 1 / 3)], tolerance=1e-6).passed


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("print(int(input()) * 2)", "pass"),
        ("print(str(int(input()) * 2) + '   ');print();print()", "pass"),
        ("print(int(input()) * 2, end='')", "pass"),
        ("print(' ', int(input()) * 2)", "wrong"),
        ("print();print(int(input()) * 2)", "wrong"),
        ("print(int(input()) * 2);print('more')", "wrong"),
        ("print(int(input()) * 2);raise SystemExit(1)", "error"),
        ("import sys;sys.stdout.write(str(int(input()) * 2));1/0", "error"),
        ("print(int(input()) * 2, flush=True)\nwhile True: pass", "timeout"),
    ],
)
def test_a_program_is_judged_on_its_whole_output_and_its_exit_code(source, status):
    assert sandbox.check_program(source, [("4\n", "8\n"), ("5\n", "10\n")], seconds=0.3).status == status


def test_bytes_that_are_no_text_do_not_equal_the_way_they_are_shown():
    assert not sandbox.check_program("import os; os.write(1, b'\\xff')", [("", "\\xff")]).passed
    assert sandbox.check_program("print('\\\\xff')", [("", "\\xff")]).passed


@pytest.mark.parametrize(
    ("source", "tests", "entry", "status"),
    [
        (ADD, "def check(candidate):\n    assert candidate(1, 2) == 3", "add", "pass"),
        (ADD, "def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)", "add", "pass"),
        (ADD, "def check(candidate):\n    assert candidate(1, 2) == 4", "add", "wrong"),
        (ADD, ["assert add(1, 2) == 3", "assert add(1, 2) == 4"], None, "wrong"),
        (ADD, ["assert add(1, 2) == 3.0"], None, "pass"),
        ("def f(x): x.sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]", None, "pass"),
        ("def f(x, y): x[0] = y; x[1].append(3)", "x = {0: 1, 1: []}\nf(x, y=5)\nassert x == {0: 5, 1: [3]}", None, "pass"),
        ("class P:\n    def __init__(self, x): self.x = x", "p = P(3)\np.x += 1\nassert p.x == 4", None, "pass"),
        ("class P:\n    def __init__(self, x): self.x = x\ndef f(p): return p.x", "assert f(P(3)) == 3", None, "pass"),
        ("def f():\n    yield 1\n    yield 2", "assert list(f()) == [1, 2]", None, "pass"),
        ("def f(x): return iter(x)", "assert sum(f([1, 2])) == 3 and next(f([7])) == 7", None, "pass"),
        (SIZED, "assert len(S()) == 3 and S()[4] == 8", None, "pass"),
        ("LIMIT = 5\ndef f(): return LIMIT", "assert f() == LIMIT", None, "pass"),
        ("def f(x):\n    if x < 0: raise ValueError('neg')", RAISES, None, "pass"),
        ("class Odd(Exception): pass\ndef f(): raise Odd('x')", "assert f()", None, "error"),
        ("def f(): raise AssertionError", "assert f()", None, "wrong"),
        ("def f(): return object()", "assert f() == 1", None, "wrong"),
        ("def f(): return object()", "assert f() != 1\nassert not f()", None, "wrong"),
        ("def f(x): return x", "assert f(lambda: 1)", None, "refused"),
        ("def f(x): return isinstance(3, x)", "assert f(int) and not f(str)", None, "pass"),
        ("import math\ndef f(): return 1.0", "assert math.isclose(f(), 1)", None, "pass"),
        (OWN_MATH, "assert math.isclose(f(), 1)", None, "wrong"),
        ("def abs(x): return 0\ndef f(): return 9.0", "assert abs(f() - 1) < 1e-6", None, "wrong"),
        ("def sum(a, b): return a + b", "assert sum(1, 2) == 3", None, "pass"),
        ("def g(): pass", "assert f() == 1", None, "error"),
        ("def f():\n    while True: pass", "assert f() == 1", None, "timeout"),
        ("def f(): return 'x' * (1 << 30)", "assert f() == 1", None, "memory"),
        ("def f(): return [0] * 500000", "assert f() == 1", None, "output-limit"),
        ("def f():\n    import socket; socket.socket()", "assert f() == 1", None, "refused"),
        ("def f():\n    import os; os._exit(0)", "assert f() == 1", None, "error"),
        ("import os; os._exit(0)", "assert f() == 1", None, "error"),
        ("def f(): return 1", "while True:\n    assert f() == 1", None, "timeout"),
    ],
)  # fmt: skip
def test_asserts_meet_the_candidate_only_over_the_line(source, tests, entry, status):
    verdict = sandbox.check_asserts(source, tests, entry_point=entry, seconds=0.5)
    assert verdict.status == status, verdict


def test_a_prompt_among_the_tests_lends_its_own_helpers_to_them():
    prompt = "import math\n\ndef poly(x):\n    return x * x - 4\n\ndef root():\n    '''Return a root of poly.'''\n"
    test = "def check(candidate):\n    assert math.fabs(poly(candidate())) < 1e-6\n"
    forged = "def poly(x): return 0\ndef root(): return 99"
    assert sandbox.check_asserts("def root(): return 2.0", [prompt, test], entry_point="root").passed
    assert sandbox.check_asserts(forged, [prompt, test], entry_point="root").status == "wrong"
    assert sandbox.check_asserts(forged, [test], entry_point="root").passed  # which is why the prompt belongs there


def test_the_place_of_a_failing_assert_is_named():
    verdict = sandbox.check_asserts(ADD, ["assert add(1, 1) == 2", "x = 1\nassert add(1, 2) == 4, 'three is not four'"])
    assert verdict.detail == "an assertion fails in test 2, line 2: three is not four"


DOUBLE = "import numpy as np\ndef double(xs):\n    return np.array(xs) * 2\ndef largest(xs):\n    return np.max(xs)"
ARRAYS = [
    ("assert (double([1, 2]) == np.array([2, 4])).all()", "pass"),
    ("assert double(np.array([[1.5], [2.0]])).tolist() == [[3.0], [4.0]]", "pass"),
    ("assert double([1, 2]).dtype == np.int64 and double([[1]]).shape == (1, 1)", "pass"),
    ("assert largest([3, 1]) == 3 and type(largest([3, 1])) is np.int64", "pass"),
    ("assert np.allclose(double([0.1]), [0.2])", "pass"),
    ("assert np.allclose(double([0.1]), [0.3])", "wrong"),
    ("assert double(['a']).all()", "error"),
]


@pytest.mark.parametrize(("test", "status"), ARRAYS)
def test_arrays_reach_the_tests_where_numpy_is_let_in(test, status):
    pytest.importorskip("numpy")
    verdict = sandbox.check_asserts(
        DOUBLE, [f"import numpy as np\n{test}"], allow=("numpy",), seconds=20.0, memory_mb=2048
    )
    assert verdict.status == status, verdict


FORGED = {
    "subclass": """
class Equal(np.ndarray):
    def __eq__(self, other): return np.array([True, True])
def double(xs): return np.array([7, 7]).view(Equal)
""",
    "array on demand": """
class Equal:
    __array__ = lambda self, *a, **k: np.array([7, 7])
    __array_priority__ = 1e9
    def __eq__(self, other): return np.array([True])
def double(xs): return Equal()
""",
    "spoilt encoder": "np.set_printoptions = np.frombuffer = None\ndef double(xs): return np.array([7, 7])",
    "spoilt comparison": "np.array_equal = np.allclose = lambda *a: True\ndef double(xs): return np.array([7, 7])",
}


@pytest.mark.parametrize("source", FORGED.values(), ids=FORGED)
def test_an_array_that_claims_to_be_equal_is_not(source):
    pytest.importorskip("numpy")
    tests = [
        "import numpy as np\nassert (double([1, 2]) == np.array([2, 4])).all() and np.array_equal(double([1, 2]), [2, 4])"
    ]
    verdict = sandbox.check_asserts(
        f"import numpy as np\n{source}", tests, allow=("numpy",), seconds=20.0, memory_mb=2048
    )
    assert verdict.status in ("wrong", "error"), verdict


MALFORMED = [
    ["numpy", "|O8", [1], "00" * 8],
    ["numpy", "<i8", [3], "00" * 8],
    ["numpy", "<i8", None, ""],
    ["numpy", "<i8", [1]],
    ["other", "<i8", [1], "00" * 8],
]


@pytest.mark.parametrize("body", MALFORMED)
def test_what_is_not_an_array_is_not_made_one(body):
    pytest.importorskip("numpy")
    with pytest.raises((ValueError, TypeError, LookupError)):
        arrays.value(body)
