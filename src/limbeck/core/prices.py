"""Prices: what an answer costs, from a dated table in the package and from the user's own file.

    price_of("https://api.openai.com/v1 gpt-4.1-mini")             Price(input=0.4, output=1.6, cached=0.1, batch=0.5, ...)
    price_of("https://api.openai.com/v1 gpt-4.1-mini-2025-04-14")  the same: a dated model costs what its name without the date does
    price_of("http://localhost:8000/v1 qwen")                      None: nobody told what it costs
    price_of("embedded teacher 9f2c...")                           FREE: it has no endpoint, it runs on this machine

`prices.json` holds only what two independent records of a provider's public price page agree on, with the date it was last
seen and the page. A model that is not in it, or is known only under another rule (a price for writing to the prompt cache,
a price that ends on a date), is left out: its price is unknown, which is None and never 0.

LIMBECK_PRICES (or `--prices FILE`) names a file of one's own, JSON or TOML, which goes before the table. Keys are teachers as
they are written everywhere else; `input`, `output` and `cached` are US dollars per million tokens, `batch` is a factor:

    {"openai:m@http://localhost:8000/v1": {"input": 0.15, "output": 0.6, "cached": 0.075, "batch": 0.5}}

An exact name goes before one without its date, and at the same exactness the file before the table.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from limbeck.core.errors import UnknownName, UsageError, nearest

MILLION = 1_000_000
HOMES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com/v1"}
"""Where a teacher without an address after `@` is."""
FIELDS = ("input", "output", "cached", "batch", "long", "as_of", "source")
LONG_FIELDS = ("from", "input", "output", "cached")
DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    """Other rates for a whole request whose prompt is longer than `above` tokens."""

    above: int
    input: float
    output: float
    cached: float | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in US dollars per million tokens.

    `cached` is for prompt tokens that the provider took from its own prompt cache; None: they cost as much as others.
    `batch` is the factor for its batch API; None: unknown, or there is none. `as_of` is the day on which the price was seen
    at `source`.
    """

    input: float
    output: float
    cached: float | None = None
    batch: float | None = None
    as_of: str = ""
    source: str = ""
    long: Long | None = None

    def usd(self, tokens_in: int, tokens_out: int, tokens_cached: int = 0) -> float:
        """Return what one request costs; `tokens_cached` are those of `tokens_in` that came from the provider's cache.

        >>> Price(input=2.0, output=8.0, cached=0.5).usd(1_000_000, 500_000, tokens_cached=400_000)
        5.4
        """
        rates: Price | Long = self if self.long is None or tokens_in <= self.long.above else self.long
        cached = rates.input if rates.cached is None else rates.cached
        fresh = max(0, tokens_in - tokens_cached)
        return (fresh * rates.input + tokens_cached * cached + tokens_out * rates.output) / MILLION

    def batched(self) -> Price | None:
        """Return the price by way of the provider's batch API, or None where that is unknown."""
        if self.batch is None:
            return None
        by, long = self.batch, self.long
        if long is not None:
            cached = None if long.cached is None else long.cached * by
            long = replace(long, input=long.input * by, output=long.output * by, cached=cached)
        cached = None if self.cached is None else self.cached * by
        return replace(self, input=self.input * by, output=self.output * by, cached=cached, batch=1.0, long=long)

    @property
    def free(self) -> bool:
        """Whether nothing is charged."""
        return self.input == 0 and self.output == 0


FREE = Price(0.0, 0.0, source="it runs on this machine")
"""The price of whatever has no endpoint: the embedded teacher, local weights, echo, replay, a student of the run."""


def price_of(identity: str) -> Price | None:
    """Return the price of the teacher with this identity, FREE where it has no endpoint, None where it is unknown.

    Raises UsageError if the file that LIMBECK_PRICES names can not be read as prices.
    """
    if not identity.startswith(("http://", "https://")):
        return FREE
    path = os.environ.get("LIMBECK_PRICES")
    return _price_of(identity, path, _stamp(path)) if path else _price_of(identity, None, None)


def told_unknown(identity: str) -> str:
    """Return the sentence that says that a price is unknown and how to give one."""
    base, _, model = identity.partition(" ")
    kind = next((k for k, home in HOMES.items() if home == base), "")
    name = f"{kind}:{model}" if kind else f"openai:{model}@{base}"
    told = json.dumps({name: {"input": 0.15, "output": 0.6}})
    return (
        f"The price of {name} is unknown. Write what it charges, in US dollars per million tokens, into a file such as "
        f"prices.json: {told}, and give it with --prices prices.json."
    )


def table_version() -> str:
    """Return the date of the price table in the package."""
    return str(_shipped()["version"])


def check_file(path: str | Path) -> int:
    """Read a price file and return how many prices it holds. Raises UsageError or UnknownName for what is wrong in it."""
    return len(_file(str(path), _stamp(path)))


def _stamp(path: str | Path) -> tuple[int, int] | None:
    """Return what changes when a file is written again, so that a notebook sees the new prices."""
    try:
        facts = Path(path).stat()
    except OSError:
        return None  # whoever reads it says what is wrong
    return facts.st_mtime_ns, facts.st_size


@cache
def _price_of(identity: str, path: str | None, stamp: tuple[int, int] | None) -> Price | None:
    own = _file(path, stamp) if path else {}
    shorter = DATED.sub("", identity)
    for name in dict.fromkeys((identity, shorter)):
        for prices in (own, _table()):
            if name in prices:
                return prices[name]
    return None


@cache
def _shipped() -> dict[str, Any]:
    text = Path(__file__).with_name("prices.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


@cache
def _table() -> Mapping[str, Price]:
    prices: dict[str, Price] = {}
    for endpoint in _shipped()["endpoints"]:
        for model, entry in endpoint["models"].items():
            price = _price({"source": endpoint["source"], **entry}, f"prices.json: {model}")
            prices |= {f"{base} {model}": price for base in endpoint["at"]}
    return prices


@cache
def _file(path: str, stamp: tuple[int, int] | None) -> Mapping[str, Price]:
    prices: dict[str, Price] = {}
    for spec, entry in _read(Path(path)).items():
        identity = _identity(spec, path)
        if identity in prices:
            raise UsageError(f"{path} gives the price of {spec} twice, under two names; leave one of them.")
        if not isinstance(entry, dict):
            raise UsageError(
                f'{path}: {spec} must have prices such as {{"input": 0.15, "output": 0.6}}, not {entry!r}.'
            )
        prices[identity] = _price(entry, f"{path}: {spec}")
    return prices


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise UsageError(f"The price file {path} can not be read: {error.strerror or error}.") from None
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise UsageError(f"The price file {path} is not {kind}: {str(error).rstrip('.')}.") from None
    if not isinstance(found, dict):
        raise UsageError(f"The price file {path} must hold teachers and their prices: {{TEACHER: {{INPUT, OUTPUT}}}}.")
    return found


def _identity(spec: str, path: str) -> str:
    """Return the identity of the teacher that `spec` names: `openai:m@http://host/v1/` -> `http://host/v1 m`.

    The teachers decide what their identities are; that this is the same is tested.
    """
    if spec.startswith(("http://", "https://")) and " " in spec:
        base, _, model = spec.partition(" ")
        return f"{_base(base)} {model}"
    kind, _, rest = spec.partition(":")
    if kind == "batch":  # the same models at the same endpoint: `batch` says at what part of the price
        kind, _, rest = rest.partition(":")
    model, at, address = rest.partition("@http")
    if not model or not (at or kind in HOMES):
        raise UsageError(
            f"{path}: '{spec}' is no teacher that charges; write it as in a recipe: openai:MODEL, "
            "openai:MODEL@http://host:port/v1 or anthropic:MODEL."
        )
    base = _base("http" + address).removesuffix("/chat/completions") if at else HOMES[kind]
    return f"{base}{'/v1' if kind == 'anthropic' and not base.endswith('/v1') else ''} {model}"


def _base(address: str) -> str:
    """Return an address without credentials, query and the last slash, as identities hold it."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2].lower(), parts.path.rstrip("/"), "", ""))


def _price(entry: Mapping[str, Any], where: str) -> Price:
    _check_names(entry, FIELDS, where)
    long = entry.get("long")
    if long is not None and not isinstance(long, dict):
        raise UsageError(f'{where}: long must be such as {{"from": 200000, "input": 2.5, "output": 15}}, not {long!r}.')
    return Price(
        **dict(_numbers(entry, where)),
        as_of=str(entry.get("as_of", "")),
        source=str(entry.get("source", "")),
        long=_long(long, f"{where}: long") if long else None,
    )


def _long(entry: Mapping[str, Any], where: str) -> Long:
    _check_names(entry, LONG_FIELDS, where)
    above = entry.get("from")
    if not isinstance(above, int) or isinstance(above, bool) or above <= 0:
        raise UsageError(f"{where}: from is {above!r}; it must be a number of tokens.")
    return Long(above=above, **dict(_numbers(entry, where)))


def _check_names(entry: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in entry:
        if name not in known:
            raise UnknownName(f"{where}: there is no '{name}' in a price.{nearest(name, known)}")
    for name in ("input", "output"):
        if name not in entry:
            raise UsageError(f"{where}: '{name}' is missing; it is in US dollars per million tokens (0 if it is free).")


def _numbers(entry: Mapping[str, Any], where: str) -> Iterator[tuple[str, float]]:
    for name in ("input", "output", "cached", "batch"):
        if name not in entry:
            continue
        value = entry[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            unit = "a factor" if name == "batch" else "US dollars per million tokens"
            raise UsageError(f"{where}: {name} is {value!r}; it must be a number, {unit}, and not below 0.")
        yield name, float(value)
