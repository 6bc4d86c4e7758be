"""What Modal is told, offline: the real package registers the app, and its public functions are listened to.

What is asked for goes in by `modal.App.cls`, `modal.App.function` and their like; once it is in, the package
shows little of it but by private attributes, which change from release to release.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import modal
import pytest

from modal_whisper.deployment import CUBLAS, LIBRARY_PATH, PACKAGES, Deployment, SettingError, fetch_command
from modal_whisper.endpoint import Endpoint
from modal_whisper.samples import PASSWORD
from tests.processes import MODEL_DIR, Process, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

# The front as Modal runs it, but with the model of these tests and on another port.
FRONT = """
import sys, threading
from modal_whisper import app
app.MODELS, app._PORT = sys.argv[1], int(sys.argv[2])
app.front.local()
threading.Event().wait()
"""
Call = tuple[tuple[Any, ...], dict[str, Any]]


class Registered:
    """The app as it was registered, and what was asked for on the way."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Call]] = {}
        self.recipes: dict[int, list[tuple[str, Call]]] = {}
        """The steps to an image, by its id()."""
        self.methods: list[Callable[..., Any]] = []
        self.module: ModuleType
        self._images: list[Any] = []  # so that no id is given twice

    def asked(self, name: str) -> dict[str, Any]:
        """The arguments of the one call of a function."""
        (((*_, options)),) = self.calls[name]
        assert isinstance(options, dict)
        return options

    def recipe(self, image: Any) -> list[tuple[str, Call]]:
        return self.recipes[id(image)]

    def note(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.setdefault(name, []).append((arguments, options))
            return real(*arguments, **options)

        return call

    def note_method(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call() -> Callable[..., Any]:
            decorate = real()

            def wrap(method: Callable[..., Any]) -> Any:
                self.methods.append(method)
                return decorate(method)

            return wrap

        return call

    def note_step(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            image = real(*arguments, **options)
            before = []
            if arguments and isinstance(arguments[0], modal.Image):
                before = self.recipes[id(arguments[0])]
                arguments = arguments[1:]
            self._images.append(image)
            self.recipes[id(image)] = [*before, (name, (arguments, options))]
            return image

        return call


Register = "Callable[..., Registered]"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Imports the app afresh, with nothing set but the given settings."""

    def run(**settings: str) -> Registered:
        registered = Registered()
        for variable, *_ in Deployment.explained():
            monkeypatch.delenv(variable, raising=False)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        for owner, name in (
            (modal.App, "cls"),
            (modal.App, "function"),
            (modal, "concurrent"),
            (modal, "web_server"),
            (modal.Secret, "from_name"),
        ):
            monkeypatch.setattr(owner, name, registered.note(name, getattr(owner, name)))
        monkeypatch.setattr(modal, "method", registered.note_method(modal.method))
        for name in ("debian_slim", "uv_pip_install", "run_commands", "env", "add_local_python_source"):
            monkeypatch.setattr(modal.Image, name, registered.note_step(name, getattr(modal.Image, name)))
        monkeypatch.delitem(sys.modules, "modal_whisper.app", raising=False)
        registered.module = importlib.import_module("modal_whisper.app")
        monkeypatch.delitem(sys.modules, "modal_whisper.app")
        return registered

    return run


def test_the_gpu_is_asked_for_by_rank_and_let_go_when_idle(register: Register) -> None:
    asked = register().asked("cls")
    assert {
        "gpu": ["A10G", "L4"],
        "scaledown_window": 180,
        "min_containers": 0,
        "max_containers": 1,
        "timeout": 120,
        "startup_timeout": 120,
        "enable_memory_snapshot": True,
        "region": None,
    }.items() <= asked.items()
    assert "secrets" not in asked


def test_the_front_is_always_there_once_and_needs_the_key(register: Register) -> None:
    registered = register()
    assert {
        "min_containers": 1,
        "max_containers": 1,
        "timeout": 3600,
        "cpu": 0.25,
        "memory": 1024,
        "region": None,
    }.items() <= registered.asked("function").items()
    assert "gpu" not in registered.asked("function")
    assert registered.calls["from_name"] == [(("stt-failover",), {"required_keys": ["WHISPER_API_KEY"]})]
    assert registered.module.front.info().secrets == ["modal.Secret.from_name('stt-failover')"]


def test_the_address_is_fixed_and_strangers_are_turned_away_by_modal(register: Register) -> None:
    registered = register()
    (((port,), options),) = registered.calls["web_server"]
    assert port == 10301
    assert {"label": "stt-failover", "requires_proxy_auth": True}.items() <= options.items()
    assert registered.module.front.info().web_info.unauthenticated is False


def test_both_take_several_calls_at_once(register: Register) -> None:
    registered = register()
    assert registered.calls["concurrent"] == [((), {"max_inputs": 32}), ((), {"max_inputs": 100})]
    assert registered.module.front.info().concurrency_info.max_inputs == 100


def test_what_the_front_calls_is_async(register: Register) -> None:
    # Of a sync method one cancelled call would end the whole container.
    methods = register().methods
    assert {method.__name__: inspect.iscoroutinefunction(method) for method in methods} == {
        "warm": True,
        "transcribe": True,
        "drop": True,
    }


def test_the_images_hold_the_pinned_packages_the_weights_and_last_the_source(register: Register) -> None:
    environment = Deployment().environment
    ending = [("env", ((environment,), {})), ("add_local_python_source", (("modal_whisper",), {}))]
    beginning = [("debian_slim", ((), {"python_version": "3.12"})), ("uv_pip_install", (PACKAGES, {}))]
    registered = register()
    module = registered.module
    assert registered.recipe(module.front_image) == [
        *beginning,
        ("run_commands", ((fetch_command("base"),), {})),
        *ending,
    ]
    assert registered.recipe(module.gpu_image) == [
        *beginning,
        ("uv_pip_install", ((CUBLAS,), {})),
        ("env", (({"LD_LIBRARY_PATH": LIBRARY_PATH},), {})),
        ("run_commands", ((fetch_command("medium"),), {})),
        *ending,
    ]
    assert registered.asked("cls")["image"] is module.gpu_image
    assert registered.asked("function")["image"] is module.front_image


def test_every_setting_reaches_modal_and_the_containers(register: Register) -> None:
    settings = {
        "WHISPER_MODEL": "small",
        "WHISPER_FRONT_MODEL": "tiny",
        "WHISPER_GPU": "L4,T4",
        "WHISPER_REGION": "eu",
        "WHISPER_IDLE_SECONDS": "60",
        "WHISPER_MAX_CONTAINERS": "2",
        "WHISPER_SNAPSHOT": "false",
        "WHISPER_PROXY_AUTH": "false",
        "WHISPER_APP": "whisper",
        "WHISPER_SECRET": "whisper-key",
    }
    registered = register(**settings)
    assert {
        "gpu": ["L4", "T4"],
        "region": ["eu"],
        "scaledown_window": 60,
        "max_containers": 2,
        "enable_memory_snapshot": False,
    }.items() <= registered.asked("cls").items()
    assert registered.asked("function")["region"] == ["eu"]
    assert registered.asked("web_server")["requires_proxy_auth"] is False
    assert registered.asked("web_server")["label"] == "whisper"
    assert registered.module.app.name == "whisper"
    assert registered.calls["from_name"][0][0] == ("whisper-key",)
    for image, model in ((registered.module.gpu_image, "small"), (registered.module.front_image, "tiny")):
        steps = registered.recipe(image)
        assert ("env", ((settings,), {})) in steps
        assert ("run_commands", ((fetch_command(model),), {})) in steps


def test_a_wrong_setting_fails_before_anything_is_deployed(register: Register) -> None:
    with pytest.raises(SettingError, match="WHISPER_IDLE_SECONDS takes"):
        register(WHISPER_IDLE_SECONDS="0")


def test_the_front_does_not_start_without_a_key(register: Register) -> None:
    module = register(WHISPER_API_KEY="").module
    with pytest.raises(SettingError, match="the secret stt-failover holds no WHISPER_API_KEY"):
        module.front.local()


async def test_the_front_answers_by_itself_where_modal_cannot_be_reached(
    tmp_path: Path, refusing_port: int
) -> None:
    port = free_port()
    settings = {
        "WHISPER_API_KEY": "right",
        "MODAL_CONFIG_PATH": str(tmp_path / "nobody-is-signed-in.toml"),
        "MODAL_SERVER_URL": f"http://127.0.0.1:{refusing_port}",
    }
    process = Process([sys.executable, "-c", FRONT, MODEL_DIR, str(port)], settings, port=port)
    try:
        await asyncio.to_thread(process.wait_listening)
        async with aiohttp.ClientSession() as session:
            endpoint = Endpoint(
                session=session,
                url=f"http://127.0.0.1:{port}",
                app="stt-failover",
                api_key="right",
                sleep=asyncio.sleep,
                clock=asyncio.get_running_loop().time,
            )
            await endpoint.wait_healthy("medium")
            assert await endpoint.warm() == "cold"
            heard = await endpoint.hear(PASSWORD)
    finally:
        await asyncio.to_thread(process.stop)
    assert heard.model == "base"
    assert "the GPU cannot be had" in process.log
    assert "right" not in process.log
