"""The candidate as its tests see it: a line to its process, and `Remote` objects that stand for what can not be sent over it.

line = Line()
found = line.ask({"op": "names", "names": ["add", "Pair"]})     # {"add": <function of the candidate>, ...}
found["add"](2, 3)                                              # 5: a plain value, made of this process's own types
found["Pair"](1, 2) == found["Pair"](1, 2)                      # False: a Remote equals nothing but itself
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

from limbeck.sandbox.inside import arrays, frames, values

PEER = 4
"""The descriptor of the line."""


class CandidateError(Exception):
    """The candidate raised something that has no built-in type of the same name, or returned what can not be sent."""

    from_candidate = "error"


class Lost(BaseException):
    """The candidate's process is gone or does not keep to the protocol: no test may go on."""


class Unsendable(BaseException):
    """The tests hand the candidate something that can not be sent, such as a function of their own."""


class Remote:
    """An object of the candidate's process. Comparisons are by identity of the handle, hence never with a plain value."""

    def __init__(self, line: Line, number: int, kind: str) -> None:
        object.__setattr__(self, "_remote", (line, number, kind))

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the candidate's function, class or object."""
        line, number, _ = object.__getattribute__(self, "_remote")
        return line.call(number, args, named)

    def __getattr__(self, name: str) -> Any:
        line, number, _ = object.__getattribute__(self, "_remote")
        return line.ask({"op": "get", "on": number, "name": name})

    def __setattr__(self, name: str, value: Any) -> None:
        line, number, _ = object.__getattribute__(self, "_remote")
        line.ask({"op": "set", "on": number, "name": name, "value": line.encode(value)})

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_remote')[2]} of the candidate>"

    def __iter__(self) -> Iterator[Any]:
        iterator = _special(self, "__iter__")
        while True:
            try:
                yield _special(iterator, "__next__")
            except StopIteration:
                return

    def __next__(self) -> Any:
        return _special(self, "__next__")

    def __len__(self) -> int:
        return int(_special(self, "__len__"))

    def __getitem__(self, key: Any) -> Any:
        return _special(self, "__getitem__", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _special(self, "__setitem__", key, value)

    def __bool__(self) -> bool:
        return True


def _special(target: Any, name: str, *args: Any) -> Any:
    if not isinstance(target, Remote):
        return getattr(target, name)(*args)
    line, number, kind = object.__getattribute__(target, "_remote")
    try:
        return line.ask({"op": "method", "on": number, "name": name, "args": line.encode(args)})
    except AttributeError:  # Python itself says TypeError, and `list` of something without a length relies on it
        raise TypeError(f"a {kind} of the candidate has no {name}") from None


class Line:
    """The connection to the candidate."""

    def encode(self, value: Any) -> Any:
        """Return the form of an argument; a Remote goes back as its handle."""
        try:
            return values.encode(value, self._other)
        except values.NotPlain as fault:
            raise Unsendable(f"the tests hand over {fault}") from None

    def _other(self, value: Any) -> Any:
        if isinstance(value, Remote):
            return {"h": [object.__getattribute__(value, "_remote")[1]]}
        if (array := arrays.form(value)) is not None:
            return {"h": array}
        raise values.NotPlain(f"a value of type {type(value).__name__}")

    def _handle(self, body: Any) -> Any:
        if body[0] == arrays.MARK:
            return arrays.value(body)
        number, kind = body
        return Remote(self, int(number), str(kind))

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request and return the value that comes back, raising what the candidate raised."""
        return self._value(self._exchange(request)["value"])

    def _value(self, form: Any) -> Any:
        try:
            return values.decode(form, self._handle)
        except values.Malformed as fault:
            raise Lost(f"the candidate's answer is malformed: {fault}") from None

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            frames.write(PEER, request)
            reply = frames.read(PEER)
        except (OSError, frames.FrameError) as fault:
            raise Lost(f"the candidate's process is gone: {fault}") from None
        if not isinstance(reply, dict):
            raise Lost("the candidate's process ended before it answered")
        if "value" not in reply:
            _raise(reply)
        return reply

    def call(self, number: int, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call the candidate's object; arguments that it changed in place are changed here too."""
        request = {"op": "call", "on": number, "args": self.encode(args), "named": self.encode(named)}
        reply = self._exchange(request)
        if "args" in reply:
            for mine, theirs in zip(args, self._value(reply["args"]), strict=False):
                _update(mine, theirs)
        return self._value(reply["value"])


def _update(mine: Any, theirs: Any) -> None:
    """Give a changeable argument the content it has on the other side."""
    if type(mine) is not type(theirs):
        return
    if type(mine) is list:
        mine[:] = theirs
    elif type(mine) is dict or type(mine) is set:
        mine.clear()
        mine.update(theirs)


def _raise(reply: dict[str, Any]) -> None:
    """Raise here what the candidate raised there, if it is a built-in exception; anything else as CandidateError."""
    fault = reply.get("fault")
    if not isinstance(fault, dict):
        refused = CandidateError(f"the candidate returned {reply.get('unsendable', 'nothing that can be read')}"[:500])
        refused.from_candidate = "output-limit" if reply.get("large") is True else "wrong"
        raise refused
    kind = getattr(builtins, str(fault.get("type")), None)
    text = str(fault.get("text"))
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            raised = kind(text)
        except TypeError:
            raised = CandidateError(f"{fault.get('type')}: {text}")
    else:
        raised = CandidateError(f"{fault.get('type')}: {text}")
    raised.from_candidate = str(fault.get("kind"))  # type: ignore[attr-defined]
    raise raised
