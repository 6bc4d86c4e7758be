from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import voluptuous as vol

from wyoming_server import validators as take

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = take.number(0.5, 60, "seconds")
COUNT = take.whole(1, 100)
ORDER = take.order_of(("a", "b", "c"))
URL = take.url("wss", "ws")
URL_OR_NOTHING = take.url("https", optional=True)


@pytest.mark.parametrize(
    ("validator", "value", "taken"),
    [
        (take.text, " a b\n", "a b"),
        (take.text, "", ""),
        (take.secret, " Abc-_.~+/=\n", "Abc-_.~+/="),
        (take.secret, "", ""),
        *[(take.flag, value, True) for value in (True, "true", "TRUE", " on ", "yes", "1", "enable")],
        *[(take.flag, value, False) for value in (False, "false", "False", "off", "no", "0", "disable")],
        (take.words, "a, b c ,,d", ("a", "b c", "d")),
        (take.words, "", ()),
        (take.words, ["a", " b ", ""], ("a", "b")),
        (take.words, ("a,b",), ("a,b",)),
        (take.addresses, "172.30.32.2, ::1", ("172.30.32.2", "::1")),
        (take.addresses, ["::FFFF:10.0.0.1", "2001:db8:0::1"], ("10.0.0.1", "2001:db8::1")),
        (take.addresses, "", ()),
        (take.folder, "/a/b", Path("/a/b")),
        (take.folder, Path("/a"), Path("/a")),
        (take.folder, "a", Path("a")),
        (take.folder, "~/a", Path.home() / "a"),
        (SECONDS, "0.5", 0.5),
        (SECONDS, 60, 60.0),
        (SECONDS, " 1e1 ", 10.0),
        (COUNT, "1", 1),
        (COUNT, " 100 ", 100),
        (COUNT, 7, 7),
        (take.one_of("x", "y"), " y ", "y"),
        (ORDER, "c,a", ("c", "a")),
        (ORDER, "b", ("b",)),
        (ORDER, ["a", "b", "c"], ("a", "b", "c")),
        (URL, "wss://streaming.assemblyai.com", "wss://streaming.assemblyai.com"),
        (URL, " ws://127.0.0.1:8080/path?x=1 ", "ws://127.0.0.1:8080/path?x=1"),
        (URL, "ws://[::1]:80", "ws://[::1]:80"),
        (URL, "wss://bücher.example", "wss://bücher.example"),
        (URL_OR_NOTHING, "", ""),
        (URL_OR_NOTHING, " ", ""),
        (URL_OR_NOTHING, "https://a", "https://a"),
        (take.listening_uri, " tcp://0.0.0.0:10300 ", "tcp://0.0.0.0:10300"),
        (take.listening_uri, "tcp://[::]:1", "tcp://[::]:1"),
        (take.listening_uri, "tcp://localhost:0", "tcp://localhost:0"),
        (take.listening_uri, "unix:///run/stt.sock", "unix:///run/stt.sock"),
        (take.listening_uri, "unix://stt.sock", "unix://stt.sock"),
        (take.listening_uri, "stdio://", "stdio://"),
    ],
)
def test_it_takes(validator: Callable[[Any], Any], value: Any, taken: Any) -> None:
    result = validator(value)
    assert result == taken
    assert type(result) is type(taken)


@pytest.mark.parametrize(
    ("validator", "values", "message"),
    [
        (take.text, [None, 5, True, ["a"], b"a"], "takes a string"),
        (take.secret, [None, 5, ["a"]], "takes a string"),
        (
            take.secret,
            ["a b", "a\nb", "ä", "a\x00", "a\tb"],
            "takes a key without blanks and other characters",
        ),
        (take.flag, ["", "maybe", "2", None, 0, 1, 2, [], {}, 1.0], "takes true or false"),
        (take.words, [None, 5, True, {"a": 1}, ["a", 5], [["a"]]], "takes words with commas between them"),
        (
            take.addresses,
            ["localhost", "10.0.0.0/8", "10.0.0.1:80", "*", "010.0.0.1", ["10.0.0.1", "x"]],
            "takes IP addresses such as",
        ),
        (take.addresses, [None, 5, [5]], "takes words with commas between them"),
        (take.folder, ["", "  "], "takes the path of a folder"),
        (take.folder, ["~nobody-of-that-name"], "takes the path of a folder, whose ~ must be known"),
        (
            SECONDS,
            ["", "x", "0.49", 60.01, -1, None, True, [], "nan", float("inf"), float("nan"), "1e999", 10**400],
            "takes seconds from 0.5 to 60",
        ),
        (
            COUNT,
            ["", "x", "0", 101, "5.0", 5.0, None, True, [], "1e1", float("inf"), 10**400, "9" * 5000],
            "takes a whole number from 1 to 100",
        ),
        (take.one_of("x", "y"), ["", "z", "X", None, 5, "x,y"], "takes one of x, y"),
        (ORDER, ["", ",", "d", "a,d", "a,a", [], "A"], "takes some of a, b, c, each once, with commas"),
        (
            URL,
            [
                "",
                "streaming.assemblyai.com",
                "https://a",
                "wss://",
                "wss:///a",
                "wss://a:0",
                "wss://a:65536",
                "wss://a:b",
                "wss://[a",
                "wss://a b",
                "wss://a\tb",
                "wss://a/\nb",
            ],
            "takes an address that begins with wss:// or ws://",
        ),
        (URL_OR_NOTHING, ["ftp://a", "a"], "takes an address that begins with https://"),
        (URL_OR_NOTHING, [None], "takes a string"),
        (
            take.listening_uri,
            [
                "",
                "0.0.0.0:10300",
                "tcp://",
                "tcp://:10300",
                "tcp://a",
                "tcp://a:b",
                "tcp://a:65536",
                "tcp://[::1:1",
                "unix://",
                "stdio://x",
                "udp://a:1",
            ],
            "takes tcp://HOST:PORT, unix://PATH or stdio://",
        ),
    ],
)
def test_it_refuses_and_says_what_it_takes(
    validator: Callable[[Any], Any], values: list[Any], message: str
) -> None:
    for value in values:
        with pytest.raises(vol.Invalid) as caught:
            validator(value)
        assert str(caught.value).startswith(message), value


@pytest.mark.parametrize(
    "address", ["wss://user:secret@host/ws/stt", "ws://a..b/", f"ws://{'x' * 64}.example/"]
)
def test_an_address_with_a_password_or_an_impossible_host_is_refused(address: str) -> None:
    with pytest.raises(vol.Invalid, match="takes an address"):
        URL(address)
