from __future__ import annotations

import asyncio
import inspect
import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
from aiohttp import web

from modal_whisper import __version__, conversation, errors, service
from modal_whisper.messages import (
    MAX_MESSAGE_BYTES,
    ClientMessage,
    Failure,
    Final,
    WorkerMessage,
    decode_client,
    decode_worker,
    encode,
)
from modal_whisper.runner import ModelRunner
from tests.end_to_end.clips import MUTED, silence
from tests.fakes import PATIENCE, ScriptedTranscriber

DOCUMENT = (Path(__file__).parents[2] / "docs" / "ws-stt.md").read_text(encoding="utf-8")
LINES = re.findall(r"^([→←]) (.*)$", DOCUMENT, re.MULTILINE)
"""What goes over the wire in the examples, each line with its direction."""
FROM_CLIENT = [text for way, text in LINES if way == "→" and text.startswith("{")]
FROM_WORKER = [text for way, text in LINES if way == "←"]


def section(title: str) -> str:
    match = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def first_column(table: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def documented(table: str) -> dict[str, list[str]]:
    """The fields of each message in a table."""
    messages: dict[str, list[str]] = {}
    for message, field in re.findall(r"^\| (?:`(\w+)`)? ?\| (?:`(\w+)`)?", table, re.MULTILINE):
        if message:
            messages[message] = []
        elif field:
            list(messages.values())[-1].append(field)
    return messages


@pytest.mark.parametrize("text", FROM_CLIENT)
def test_the_examples_of_a_client_are_what_the_worker_understands(text: str) -> None:
    assert json.loads(encode(decode_client(text))) == json.loads(text)


@pytest.mark.parametrize("text", FROM_WORKER)
def test_the_examples_of_the_worker_are_what_it_says(text: str) -> None:
    assert json.loads(encode(decode_worker(text))) == json.loads(text)


def test_every_message_has_an_example() -> None:
    assert {json.loads(text)["type"] for text in FROM_CLIENT} == set(documented(section("From the client")))
    assert {json.loads(text)["type"] for text in FROM_WORKER} == set(documented(section("From the worker")))


@pytest.mark.parametrize(("title", "union"), [("client", ClientMessage), ("worker", WorkerMessage)])
def test_every_field_of_every_message_is_documented(title: str, union: Any) -> None:
    assert documented(section(f"From the {title}")) == {
        kind.type: [field.name for field in fields(kind)] for kind in get_args(union)
    }


def test_every_code_of_an_error_is_documented() -> None:
    raised: list[Any] = [
        kind
        for _, kind in [*inspect.getmembers(errors), ("", conversation._TooLongError)]
        if isinstance(kind, type) and issubclass(kind, errors.SttError)
    ]
    assert {conversation._failure(kind("")).code for kind in raised} == set(first_column(section("Errors")))


def test_the_limits_are_those_of_the_worker() -> None:
    limits = conversation.Limits()
    waiting = inspect.signature(ModelRunner).parameters["max_waiting"].default
    assert f"({MAX_MESSAGE_BYTES:,} bytes)" in section("Messages")
    assert f"longer than the worker takes ({limits.max_utterance:g} s)" in section("Errors")
    assert f"{waiting + 1} passages are at work or waiting" in section("Errors")
    assert f"no message for {limits.idle_timeout:g} s" in section("The end of a connection")
    assert f"did not read for {conversation._SEND_SECONDS:g} s" in section("The end of a connection")
    assert f"{limits.max_connections} clients are connected" in section("Connecting")
    assert f"pings every {service._PING_SECONDS:g} s" in section("Connecting")
    assert f"longer than {service._PING_SECONDS / 2:g} s" in section("Connecting")


async def test_the_example_of_an_utterance_is_how_it_goes() -> None:
    example = re.findall(r"^([→←]) (.*)$", section("The life of an utterance"), re.MULTILINE)
    expected = [decode_worker(text) for way, text in example if way == "←"]
    transcriber = ScriptedTranscriber(expected[-1].text, model="base")
    site = web.AppRunner(service.create_app(ModelRunner(transcriber)), access_log=None)
    await site.setup()
    await web.TCPSite(site, "127.0.0.1", 0).start()
    audio = iter([MUTED.pcm[:20_000], MUTED.pcm[20_000:] + silence(0.4)])
    got = []
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://127.0.0.1:{site.addresses[0][1]}/ws/stt") as socket,
    ):
        for way, text in example:
            if way == "←":
                got.append(decode_worker(await socket.receive_str()))
            elif text.startswith("{"):
                await socket.send_str(text)
            else:
                await socket.send_bytes(next(audio))
    await site.cleanup()
    assert list(map(without_chance, got)) == list(map(without_chance, expected))
    assert f'"version": "{__version__}"' in DOCUMENT


def without_chance(message: WorkerMessage) -> dict[str, Any]:
    return {name: value for name, value in asdict(message).items() if name != "work_ms"}


def test_the_answers_of_health_are_json() -> None:
    answers = [json.loads(line) for line in re.findall(r"^\{.*\}$", section("/health"), re.MULTILINE)]
    assert [set(answer) for answer in answers] == [
        {"status", "model", "version"},
        {"status", "model", "version", "error"},
    ]


def test_what_ends_an_utterance_is_said_in_the_right_words() -> None:
    assert f"exactly one `{Final.type}` or one `{Failure.type}`" in DOCUMENT
