"""The candidate's end of a test: answers requests for its names, calls and attributes, and sends back plain data or handles.

    {"op": "names", "names": ["add", "Pair"]}           {"value": {"d": [["add", {"h": [1, "function"]}], ...]}}
    {"op": "call", "on": 1, "args": {"t": [2, 3]}, ...} {"value": 5}
    {"op": "get", "on": 2, "name": "left"}              {"value": {"h": [3, "Node"]}}

What is not plain stays here, and the other end gets a number for it: an object that says it equals everything is never asked.
"""

from __future__ import annotations

from typing import Any

from limbeck.sandbox.inside import arrays, frames, values
from limbeck.sandbox.inside.faults import describe


class Handles:
    """Objects of this process that the other end knows by number."""

    def __init__(self) -> None:
        self.objects: list[Any] = []

    def form(self, value: Any) -> dict[str, list[Any]]:
        """Return the handle of an object: its number, and the name of its type. Arrays of numbers go over themselves."""
        if (array := arrays.form(value)) is not None:
            return {"h": array}
        self.objects.append(value)
        return {"h": [len(self.objects) - 1, type(value).__name__[:100]]}

    def encode(self, value: Any) -> Any:
        """Return the form of any value."""
        return values.encode(value, self.form)

    def decode(self, form: Any) -> Any:
        """Return the value of a form, handles included."""
        return values.decode(form, lambda body: arrays.value(body) if body[0] == arrays.MARK else self.objects[body[0]])


def serve(peer: int, names: dict[str, Any]) -> None:
    """Answer requests until the other end hangs up."""
    handles = Handles()
    while (request := frames.read(peer, frames.MAX_JOB)) is not None:
        try:
            reply = packed(_OPERATIONS[request["op"]](request, handles, names))
        except values.NotPlain as fault:
            reply = frames.pack(unsendable(fault))
        except BaseException as fault:  # noqa: BLE001 - whatever the candidate raises is its answer
            reply = frames.pack({"fault": describe(fault)})
        frames.write_packed(peer, reply)


def packed(message: dict[str, Any]) -> bytes:
    """Pack a message that must not be above the cap of one. Raises TooLarge."""
    done = frames.pack(message)
    if len(done) > frames.MAX_FRAME:
        raise values.TooLarge(f"a value of {len(done)} bytes")
    return done


def unsendable(fault: values.NotPlain) -> dict[str, Any]:
    """Say that a value can not be sent, and whether that is for its size."""
    return {"unsendable": str(fault), "large": isinstance(fault, values.TooLarge)}


def _names(request: dict[str, Any], handles: Handles, names: dict[str, Any]) -> dict[str, Any]:
    """Send those of the asked-for names that the candidate defines."""
    return {"value": handles.encode({name: names[name] for name in request["names"] if name in names})}


def _call(request: dict[str, Any], handles: Handles, names: dict[str, Any]) -> dict[str, Any]:
    """Call an object, and send the arguments back too where the call has changed them, as a list that was sorted in place."""
    target = handles.objects[request["on"]]
    positional, named = handles.decode(request["args"]), handles.decode(request["named"])
    before = frames.pack(request["args"])
    reply = {"value": handles.encode(target(*positional, **named))}
    try:
        after = values.encode(positional)
    except values.NotPlain:
        return reply
    return reply if frames.pack(after) == before else {**reply, "args": after}


def _get(request: dict[str, Any], handles: Handles, names: dict[str, Any]) -> dict[str, Any]:
    return {"value": handles.encode(getattr(handles.objects[request["on"]], request["name"]))}


def _set(request: dict[str, Any], handles: Handles, names: dict[str, Any]) -> dict[str, Any]:
    setattr(handles.objects[request["on"]], request["name"], handles.decode(request["value"]))
    return {"value": None}


def _method(request: dict[str, Any], handles: Handles, names: dict[str, Any]) -> dict[str, Any]:
    """Call one of an object's special methods, such as `__len__` or `__getitem__`, by way of its type as Python does."""
    target = handles.objects[request["on"]]
    return {"value": handles.encode(getattr(type(target), request["name"])(target, *handles.decode(request["args"])))}


_OPERATIONS = {"names": _names, "call": _call, "get": _get, "set": _set, "method": _method}
