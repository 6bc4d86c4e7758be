"""Looks whether a deployed worker works, through its real address."""

from __future__ import annotations

import asyncio
import difflib
import wave
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from modal_whisper.errors import MessageError, SttError
from modal_whisper.messages import Failure, Final as FinalMessage, Start, Stop, decode_worker, encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from modal_whisper.samples import Sample

_POLL_SECONDS: Final = 2.0
_PIECE_BYTES: Final = 32_000
_LIKE_ENOUGH: Final = 0.6
_REFUSALS: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class EndpointError(SttError):
    """The worker does not do what it should; the text says what to do next."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the worker made of a recording."""

    text: str
    model: str
    """The model that wrote it; empty where no model was asked."""
    seconds: float
    """From the last sample to the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long each step may take, in seconds."""

    healthy: float = 180.0
    refused: float = 60.0
    """A new token may not be known everywhere at once, and an old container takes its time to go."""
    warm: float = 140.0
    """Modal cuts an HTTP request off after 150 s."""
    answer: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A worker at an address.

    `url` begins with http or https and has no path, `app` is its name on Modal; `sleep` and `clock` are for
    the pauses between attempts.
    """

    session: aiohttp.ClientSession
    url: str
    app: str
    api_key: str = field(repr=False)
    proxy_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]

    async def wait_healthy(self, model: str) -> None:
        """Return once /health tells of that model; raises EndpointError."""
        started = self.clock()
        while True:
            status, body, reason = await self._get("/health", self.proxy_headers, self.limits.answer)
            if status == HTTPStatus.OK and body.get("model") == model:
                return
            waited = self.clock() - started
            if status in _REFUSALS and waited >= self.limits.refused:
                raise EndpointError(_token_refused(status))
            if waited >= self.limits.healthy:
                told = f"it runs the model {body.get('model')}" if status == HTTPStatus.OK else reason
                raise EndpointError(
                    f"the worker was not healthy within {self.limits.healthy:g} s ({told}): {self._see_log}"
                )
            await self.sleep(_POLL_SECONDS)

    async def warm(self) -> str:
        """Wake the GPU, and return what became of it: ready, or something else. Raises EndpointError."""
        started = self.clock()
        while True:
            status, body, reason = await self._get("/warm", self._headers, self.limits.warm)
            if status not in _REFUSALS:
                return str(body.get("gpu", "ready")) if status == HTTPStatus.OK else reason
            if self.clock() - started >= self.limits.refused:
                raise EndpointError(_key_refused(status) if "error" in body else _token_refused(status))
            await self.sleep(_POLL_SECONDS)

    async def hear(self, sample: Sample) -> Heard:
        """Send a recording; what was understood. Raises EndpointError, also where that is wrong."""
        try:
            async with asyncio.timeout(self.limits.answer):
                heard = await self._hear(sample)
        except TimeoutError:
            raise EndpointError(
                f"the worker gave no answer within {self.limits.answer:g} s: {self._see_log}"
            ) from None
        except (aiohttp.ClientError, OSError, TypeError, MessageError) as error:
            raise EndpointError(
                f"the conversation with the worker broke off ({_one_line(error)}): {self._see_log}"
            ) from None
        if difflib.SequenceMatcher(None, heard.text.lower(), sample.text.lower()).ratio() < _LIKE_ENOUGH:
            raise EndpointError(
                f"the worker understood {heard.text!r} where {sample.text!r} was said: try another "
                "WHISPER_MODEL"
            )
        return heard

    async def _hear(self, sample: Sample) -> Heard:
        with wave.open(str(sample.path), "rb") as recording:
            pcm = recording.readframes(recording.getnframes())
        async with self.session.ws_connect(f"{self.url}/ws/stt", headers=self._headers) as socket:
            await socket.send_str(encode(Start(sample.language)))
            for at in range(0, len(pcm), _PIECE_BYTES):
                await socket.send_bytes(pcm[at : at + _PIECE_BYTES])
            await socket.send_str(encode(Stop()))
            sent = self.clock()
            while True:
                message = decode_worker(await socket.receive_str())
                if isinstance(message, Failure):
                    raise EndpointError(f"the worker answered with an error: {message.message}")
                if isinstance(message, FinalMessage):
                    return Heard(message.text, message.model, self.clock() - sent)

    @property
    def _see_log(self) -> str:
        return f"its log, `modal app logs {self.app}`, may say why; then deploy again"

    @property
    def _headers(self) -> Mapping[str, str]:
        return {**self.proxy_headers, "Authorization": f"Bearer {self.api_key}"}

    async def _get(
        self, path: str, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, Mapping[str, Any], str]:
        """Status (0 for no answer), JSON body where there is one, and what is wrong in words."""
        try:
            async with (
                asyncio.timeout(seconds),
                self.session.get(self.url + path, headers=headers, allow_redirects=False) as answer,
            ):
                body: Any = None
                with suppress(ValueError, aiohttp.ContentTypeError):
                    body = await answer.json()
                body = body if isinstance(body, dict) else {}
                return answer.status, body, str(body.get("error") or f"HTTP {answer.status}")
        except TimeoutError:
            return 0, {}, f"no answer within {seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return 0, {}, _one_line(error)


def _token_refused(status: int) -> str:
    return (
        f"Modal's proxy refuses the token (HTTP {status}): check WHISPER_PROXY_KEY and WHISPER_PROXY_SECRET, "
        "or unset both for a new one; where tokens belong to environments, allow it with `modal workspace "
        "proxy-tokens allow`; WHISPER_PROXY_AUTH=false does without"
    )


def _key_refused(status: int) -> str:
    return (
        f"the worker refuses the key (HTTP {status}): WHISPER_API_KEY is not the one in its secret; set the "
        "right one, or take a new one with --new-key"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
