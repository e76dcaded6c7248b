"""Reading a formula, as LaTeX or as plain text, into a tree. Nothing is evaluated here and nothing reaches `eval`.

    parse(r"\\frac{1}{2}x")      -> Node("*", (Node("/", (1, 2)), x))
    parse("2sqrt(3)")           -> Node("*", (2, Node("sqrt", (3,))))
    parse("x^2 - 1")            -> Node("+", (Node("^", (x, 2)), Node("neg", (1,))))
    parse("1/2x")               -> Unreadable: it may mean x/2 or 1/(2x)
    parse("the sum of x and y") -> Unreadable

What a careful person would have to guess at is unreadable, not guessed. Length and depth are capped, so that no text
costs more than a millisecond.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from limbeck.score._plain import unwrapped

MAX_LENGTH = 600
MAX_DEPTH = 30
_GREEK = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau
    upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell
"""
GREEK = tuple(_GREEK.split())
TRIGONOMETRY = ("sin", "cos", "tan", "cot", "sec", "csc")
INVERSES = {
    "arcsin": "arcsin",
    "arccos": "arccos",
    "arctan": "arctan",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
}
FUNCTIONS = (*TRIGONOMETRY, *INVERSES, "sinh", "cosh", "tanh", "ln", "log", "exp")
NAMES = sorted((*FUNCTIONS, "sqrt", "pi", *GREEK), key=len, reverse=True)
_WORDS = """
    ad ah al am an as at ax be by cm do ed ex ft gb go ha he hi hr hz id if in is it kb kg km la lb ma mb me mg mi ml mm my nm no
    of oh ok on or ox oz pa pm so to up us we yd all and any arg deg det dim gcd inf ker lcm lim max min mod not odd one red sup
    six ten the two yes
"""
WORDS = frozenset(_WORDS.split())
"""Runs of two or three letters that are words or units and no product of variables."""
CLOSING = frozenset({r"\rvert", r"\rfloor", r"\rceil"})
KNOWN = CLOSING | {f"\\{name}" for name in (*NAMES, "frac", "binom", "ast", "lvert", "lfloor", "lceil")}
"""The commands that are read here, so that a text of these only is readable here or not at all."""
TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?![0-9.])"
    r"|(?P<command>\\[A-Za-z]+)|(?P<letters>[A-Za-z]+)|(?P<sign>[-+*/^_(){}\[\]|!]))"
)
CLOSES = {"(": ")", "[": "]", "{": "}"}


class Unreadable(ValueError):
    """The text is no formula, or one that can be read in two ways."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operation and its arguments; `value` holds a number's value, `name` a variable's or a constant's name."""

    kind: str
    arguments: tuple[Node, ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""

    def names(self) -> frozenset[str]:
        """Return the names of the variables in the formula."""
        own = frozenset((self.name,)) if self.kind == "variable" else frozenset()
        return own.union(*(a.names() for a in self.arguments))

    def kinds(self) -> frozenset[str]:
        """Return the operations in the formula."""
        return frozenset((self.kind,)).union(*(a.kinds() for a in self.arguments))


def parse(text: str) -> Node:
    """Return the tree of a formula. Raises Unreadable."""
    if len(text) > MAX_LENGTH:
        raise Unreadable("too long")
    text = re.sub(r"\\left\s*\||\\lvert(?![A-Za-z])", r"\\lvert ", text)
    text = re.sub(r"\\right\s*\||\\rvert(?![A-Za-z])", r"\\rvert ", text)
    text = unwrapped(text).strip().removesuffix(".")
    if re.fullmatch(r"[^0-9+*/^=\\-]*[A-Za-z]{3}[^0-9+*/^=\\-]*", text):
        raise Unreadable("letters without any sign are a word: cat is not act")
    reader = _Reader(_tokens(text))
    node = reader.sum()
    if reader.now:
        raise Unreadable(f"'{reader.now}' does not belong there")
    return node


def number(value: int | Fraction) -> Node:
    """Return a number's node."""
    return Node("number", value=Fraction(value))


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            if text[at:].strip():
                raise Unreadable(f"'{text[at:].strip()[0]}' is no part of a formula")
            break
        at = match.end()
        if match["letters"]:
            found += _letters(match["letters"])
        else:
            found.append((match["number"] or match["command"] or match["sign"]).strip())
    return found


def _letters(run: str) -> list[str]:
    """Part a run of letters: a function, a Greek letter or a few variables; a word is no formula."""
    if run in ("degree", "degrees"):
        return ["degrees"]
    for name in NAMES:
        if run == name or (run.startswith(name) and len(run) == len(name) + 1 and name in FUNCTIONS):
            return [f"\\{name}", *run[len(name) :]]
    if is_word(run) or re.fullmatch("d[xyztu]", run):
        raise Unreadable(f"'{run}' is no product of variables")
    return list(run)


def is_word(run: str) -> bool:
    """Say whether a run of letters is a word and no product of variables."""
    return len(run) > 3 or run.lower() in WORDS


class _Reader:
    """Recursive descent over the tokens; one method for each level of binding."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.bars = 0

    @property
    def now(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.now
        if not token or (wanted and token != wanted):
            raise Unreadable(f"'{wanted or 'something'}' is missing")
        self.at += 1
        return token

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too deep")
        terms = [self.signed()]
        while self.now in ("+", "-"):
            minus = self.take() == "-"
            term = self.product()
            terms.append(Node("neg", (term,)) if minus else term)
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Node("+", tuple(terms))

    def signed(self) -> Node:
        if self.now in ("-", "+"):
            minus = self.take() == "-"
            return Node("neg", (self.product(),)) if minus else self.product()
        return self.product()

    def product(self) -> Node:
        factors, slash = [self.factor()], False
        while True:
            if self.now in ("*", r"\ast"):
                self.take()
                factors.append(self.signed_factor())
                slash = False
            elif self.now == "/":
                self.take()
                below = self.signed_factor()
                over = factors[0] if len(factors) == 1 else Node("*", tuple(factors))
                factors, slash = [Node("/", (over, below))], True
            elif self.starts():
                if slash:
                    raise Unreadable("a product behind a slash can be read in two ways")
                if self.now[0] in "0123456789.":
                    raise Unreadable("two numbers side by side")
                factors.append(self.factor())
            else:
                return factors[0] if len(factors) == 1 else Node("*", tuple(factors))

    def signed_factor(self) -> Node:
        if self.now == "-":
            self.take()
            return Node("neg", (self.factor(),))
        return self.factor()

    def starts(self) -> bool:
        """Whether the next token begins a factor of an implicit product."""
        token = self.now
        if token == "|" or token in CLOSING:
            return False
        return bool(token) and (token[0].isalnum() or token[0] in "\\.([{") and token not in (r"\ast", "degrees")

    def factor(self) -> Node:
        token = self.now
        mixed = token.isdigit() and self.tokens[self.at + 1 : self.at + 2] == [r"\frac"]
        base = self.atom()
        while self.now in ("!", "degrees"):
            mark = self.take()
            base = (
                Node("factorial", (base,)) if mark == "!" else Node("*", (base, Node("/", (Node("pi"), number(180)))))
            )
        if mixed:
            return self.mixed(base)
        if self.now != "^":
            return base
        self.take()
        return Node("^", (base, self.exponent()))

    def mixed(self, whole: Node) -> Node:
        """Read `1\\frac{1}{2}` as 1 + 1/2, and `2\\frac{x}{3}` as a product."""
        part = self.factor()
        values = [a.value for a in part.arguments if a.kind == "number" and a.value.denominator == 1]
        if part.kind != "/" or len(values) != 2:
            return Node("*", (whole, part))
        if values[0] >= values[1]:
            raise Unreadable("a whole number before an improper fraction can be read in two ways")
        return Node("+", (whole, part))

    def exponent(self) -> Node:
        if self.now in ("-", "+"):
            minus = self.take() == "-"
            raised = self.exponent()
            return Node("neg", (raised,)) if minus else raised
        base = self.atom()
        if self.now == "!":
            raise Unreadable("a factorial in an exponent can be read in two ways")
        if self.now == "^":
            self.take()
            return Node("^", (base, self.exponent()))
        return base

    def atom(self) -> Node:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return number(Fraction(token.replace(",", "")))
        if token in CLOSES:
            inner = self.sum()
            self.take(CLOSES[token])
            return inner
        if token in ("|", r"\lvert"):
            return self.absolute("|" if token == "|" else r"\rvert")
        if token[0] == "\\":
            return self.command(token[1:])
        if token.isalpha() and len(token) == 1:
            name = token + self.subscript()
            return Node(name) if name in ("e", "i") else Node("variable", name=name)
        raise Unreadable(f"'{token}' does not belong there")

    def absolute(self, closing: str) -> Node:
        if closing == "|" and self.bars:
            raise Unreadable("bars within bars can be read in two ways")
        self.bars += closing == "|"
        inner = self.sum()
        self.take(closing)
        self.bars -= closing == "|"
        return Node("abs", (inner,))

    def subscript(self) -> str:
        if self.now != "_":
            return ""
        self.take()
        if self.now != "{":
            return "_" + self.take()
        self.take()
        inner = ""
        while self.now and self.now != "}":
            inner += self.take()
        self.take("}")
        return "_" + inner

    def command(self, name: str) -> Node:
        if name in ("frac", "binom"):
            return Node("/" if name == "frac" else "binom", (self.group(), self.group()))
        if name == "sqrt":
            return self.root()
        if name == "pi":
            return Node("pi")
        if name in GREEK:
            return Node("variable", name=name + self.subscript())
        if name in FUNCTIONS:
            return self.function(INVERSES.get(name, name))
        if name in ("lfloor", "lceil"):
            inner = self.sum()
            self.take(rf"\r{name[1:]}")
            return Node(name[1:], (inner,))
        raise Unreadable(f"'\\{name}' is not known")

    def group(self) -> Node:
        if len(self.now) > 1 and self.now[0] != "\\":
            raise Unreadable("a group is missing")
        return self.atom()

    def root(self) -> Node:
        degree = None
        if self.now == "[":
            self.take()
            degree = self.sum()
            self.take("]")
        inner = self.atom()
        return Node("sqrt", (inner,)) if degree is None else Node("root", (inner, degree))

    def function(self, name: str) -> Node:
        base, power = None, None
        for _ in range(2):
            if self.now == "_" and name == "log":
                self.take()
                base = self.group()
            elif self.now == "^":
                self.take()
                power = self.exponent()
        made = Node(name, (self.argument(),) if base is None else (self.argument(), base))
        if self.now == "^" and power is None:
            self.take()
            power = self.exponent()
        if power is None:
            return made
        if power == Node("neg", (number(1),)):
            if name not in ("sin", "cos", "tan"):
                raise Unreadable(f"'{name}^-1' can be read in two ways")
            return Node("arc" + name, made.arguments)
        return Node("^", (made, power))

    def argument(self) -> Node:
        """Read what a function applies to: a bracket, or a product of numbers, variables and fractions."""
        if self.now in CLOSES and self.now != "[":
            return self.postfixed(self.atom())
        minus = self.now == "-" and bool(self.take())
        factors = [self.factor()]
        while self.starts() and self.now not in ("(", "[") and self.now[1:] not in FUNCTIONS:
            factors.append(self.factor())
        found = factors[0] if len(factors) == 1 else Node("*", tuple(factors))
        if self.now == "/":  # sin π/6 is the sine of π/6; of others one can not tell
            if "pi" not in found.kinds() or found.names():
                raise Unreadable("a slash behind a function can be read in two ways")
            self.take()
            found = Node("/", (found, self.atom()))
        return Node("neg", (found,)) if minus else found

    def postfixed(self, inner: Node) -> Node:
        if self.now == "degrees":
            self.take()
            return Node("*", (inner, Node("/", (Node("pi"), number(180)))))
        return inner
