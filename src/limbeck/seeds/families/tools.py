"""Tool calls: typed function signatures and a request; the response is exactly one JSON object.

    Functions:
    book_table(guests: integer, day: string)
    set_alarm(hour: integer, label: string)
    Request: Please book a table for 4 people on Friday.

    {"name": "book_table", "arguments": {"guests": 4, "day": "Friday"}}

The names of parameters vary from problem to problem, so the signature has to be read; optional parameters (marked `?`) are given
only when the request mentions them. Difficulty is the number of arguments in the call, 1 to 3.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limbeck.seeds.families.problem import Problem
from limbeck.seeds.families.wording import PEOPLE, THINGS

DIFFICULTY = (1, 3)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CITIES = ("Paris", "Rome", "Berlin", "Oslo", "Madrid", "Vienna", "London", "Athens")
COLOURS = ("red", "green", "blue", "yellow", "white", "black")


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter: the names it may go by, its JSON type, how its values are drawn, and the words that mention it."""

    names: tuple[str, ...]
    kind: str
    draw: Callable[[random.Random], Any]
    words: str = ""
    """For an optional slot: the words added to the request when it is given."""


def _whole(low: int, high: int) -> Callable[[random.Random], int]:
    return lambda rng: rng.randint(low, high)


def _one_of(values: tuple[str, ...]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(values)


NAMES = tuple(person.name for person in PEOPLE)
DAY = Slot(("day", "date"), "string", _one_of(DAYS), " on {}")
TRUTH = Slot(("quiet", "silent"), "boolean", lambda rng: True, ", quietly")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function, the ways to ask for it (`{0}`, `{1}` stand for its required slots) and its slots."""

    names: tuple[str, ...]
    requests: tuple[str, ...]
    required: tuple[Slot, ...]
    optional: tuple[Slot, ...] = ()


TOOLS = (
    Tool(("book_table", "reserve_table"), ("book a table for {0} people", "reserve a table for {0}"),
         (Slot(("guests", "people", "seats"), "integer", _whole(2, 20)),), (DAY,)),
    Tool(("set_alarm", "wake_me"), ("set an alarm for {0}", "wake me at {0}"),
         (Slot(("hour", "time"), "integer", _whole(1, 23)),), (DAY, TRUTH)),
    Tool(("set_timer", "start_timer"), ("set a timer for {0} minutes", "start a timer of {0} minutes"),
         (Slot(("minutes", "duration"), "integer", _whole(2, 90)),), (TRUTH,)),
    Tool(("send_message", "send_text"), ("tell {0} that {1}", "send {0} the message that {1}"),
         (Slot(("to", "name", "person"), "string", _one_of(NAMES)),
          Slot(("text", "message"), "string", _one_of(("the train is late", "dinner is ready", "we are home", "it is raining"))))),
    Tool(("get_weather", "weather"), ("what is the weather in {0}", "tell me the weather in {0}"),
         (Slot(("city", "place"), "string", _one_of(CITIES)),), (DAY,)),
    Tool(("book_train", "find_train"), ("find a train from {0} to {1}", "I want to go by train from {0} to {1}"),
         (Slot(("start", "origin"), "string", _one_of(CITIES)), Slot(("goal", "destination"), "string", _one_of(CITIES))), (DAY,)),
    Tool(("set_heating", "set_temperature"), ("heat the room to {0} degrees", "set the temperature to {0} degrees"),
         (Slot(("degrees", "value"), "number", lambda rng: rng.randint(15, 25) + 0.5),), (DAY,)),
    Tool(("set_light", "switch_light"), ("make the light {0}", "turn the light to {0}"),
         (Slot(("colour", "shade"), "string", _one_of(COLOURS)),),
         (Slot(("level", "brightness"), "integer", _whole(5, 95), " at {} percent"),)),
    Tool(("order_items", "buy"), ("order {0} {1}", "buy {0} {1}"),
         (Slot(("count", "amount"), "integer", _whole(2, 40)), Slot(("item", "product"), "string", _one_of(THINGS))), (DAY,)),
    Tool(("play_music", "play"), ("play some {0}", "I want to hear {0}"),
         (Slot(("style", "genre"), "string", _one_of(("jazz", "rock", "opera", "folk"))),),
         (Slot(("volume", "loudness"), "integer", _whole(5, 95), " at volume {}"),)),
    Tool(("add_numbers", "add"), ("add {0} and {1}", "what is the sum of {0} and {1}"),
         (Slot(("a", "first"), "integer", _whole(2, 99)), Slot(("b", "second"), "integer", _whole(2, 99)))),
    Tool(("call_person", "phone"), ("call {0}", "ring up {0}"),
         (Slot(("name", "who"), "string", _one_of(NAMES)),), (DAY,)),
)  # fmt: skip
OPENINGS = ("Please {}.", "{}.", "Could you {}?", "Now {}.")


def make(rng: random.Random, difficulty: int) -> Problem:
    """Make one request whose call has `difficulty` arguments."""
    able = [tool for tool in TOOLS if len(tool.required) <= difficulty <= len(tool.required) + len(tool.optional)]
    wanted = rng.choice(able)
    others = rng.sample([tool for tool in TOOLS if tool is not wanted], rng.randint(1, 3))
    schemas = {id(tool): _schema(rng, tool) for tool in [wanted, *others]}
    arguments, request = _request(rng, wanted, schemas[id(wanted)], difficulty)
    reference = {"name": schemas[id(wanted)]["name"], "arguments": arguments}
    shown = [wanted, *others]
    rng.shuffle(shown)
    listed = [schemas[id(tool)] for tool in shown]
    opened = rng.choice(OPENINGS).format(request) if not request.startswith(("what", "I ")) else f"{request}."
    signatures = "\n".join(signature(schema) for schema in listed)
    prompt = f"Functions:\n{signatures}\nRequest: {opened[:1].upper()}{opened[1:]}"
    answer = json.dumps(reference)
    task = {
        "kind": "tools", "family": "tools", "tools": listed, "reference": reference, "difficulty": difficulty,
        "skills": [wanted.names[0]],
    }  # fmt: skip
    return Problem(
        family="tools",
        prompt=prompt,
        response=answer,
        answer=answer,
        task=task,
        difficulty=difficulty,
        skills=(wanted.names[0],),
    )


def _schema(rng: random.Random, tool: Tool) -> dict[str, Any]:
    """Describe a tool as JSON schema, under one of its names."""
    slots = [*tool.required, *tool.optional]
    names = [rng.choice(slot.names) for slot in slots]
    properties = {name: {"type": slot.kind} for name, slot in zip(names, slots, strict=True)}
    parameters = {"type": "object", "properties": properties, "required": names[: len(tool.required)]}
    return {"name": rng.choice(tool.names), "parameters": parameters}


def signature(schema: dict[str, Any]) -> str:
    """Write a schema as one line: `set_alarm(hour: integer, day?: string)`."""
    parameters = schema["parameters"]
    parts = [
        f"{name}{'' if name in parameters['required'] else '?'}: {rule['type']}"
        for name, rule in parameters["properties"].items()
    ]
    return f"{schema['name']}({', '.join(parts)})"


def _request(rng: random.Random, tool: Tool, schema: dict[str, Any], count: int) -> tuple[dict[str, Any], str]:
    """Draw the arguments and ask for them in English."""
    names = list(schema["parameters"]["properties"])
    values = [slot.draw(rng) for slot in tool.required]
    request = rng.choice(tool.requests).format(*values)
    given = dict(zip(names, values, strict=False))
    extra = sorted(rng.sample(range(len(tool.optional)), count - len(tool.required)))
    for place in extra:
        slot = tool.optional[place]
        value = slot.draw(rng)
        given[names[len(tool.required) + place]] = value
        request += slot.words.format(value)
    return given, request
