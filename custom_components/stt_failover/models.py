"""What the server says, as typed facts. docs/api.md of the project describes the JSON that they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from . import read
from .errors import UnexpectedAnswerError

if TYPE_CHECKING:
    from datetime import datetime

    from .read import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Who answers: `id` stays the same for the life of the server's settings file."""

    id: str
    version: str

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read `/health`."""
        return cls(id=read.text(data, "id"), version=read.text(data, "version"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Seconds of work and US dollars within a day or a month."""

    seconds: float
    dollars: float

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read a backend's `today` or `month`."""
        return cls(seconds=read.number(data, "seconds"), dollars=read.number(data, "dollars"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """How one backend is doing.

    `missing` names what an enabled one lacks; it is not asked then. `state` is "closed" (asked), "open" (left
    out), "half-open" (being probed), or None where it is not asked at all; `cause` says why it is left out.
    """

    name: str
    enabled: bool
    missing: str | None
    state: str | None
    cause: str | None
    retry_in: float | None
    median_ms: float | None
    p95_ms: float | None
    today: Usage
    month: Usage
    over_budget: bool

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read one of `backends`."""
        return cls(
            name=read.text(data, "name"),
            enabled=read.flag(data, "enabled"),
            missing=read.optional_text(data, "missing"),
            state=read.optional_text(data, "state"),
            cause=read.optional_text(data, "cause"),
            retry_in=read.optional_number(data, "retry_in"),
            median_ms=read.optional_number(data, "median_ms"),
            p95_ms=read.optional_number(data, "p95_ms"),
            today=Usage.from_json(read.mapping(data, "today")),
            month=Usage.from_json(read.mapping(data, "month")),
            over_budget=read.flag(data, "over_budget"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The latest utterance: `backend` is empty where nobody spoke or answered; `ms` is since its end."""

    at: datetime
    backend: str
    ms: float | None
    error: str | None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read `last`."""
        return cls(
            at=read.time(data, "at"),
            backend=read.text(data, "backend"),
            ms=read.optional_number(data, "ms"),
            error=read.optional_text(data, "error"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The last 24 hours; `availability` is a share from 0 to 1, None where nobody spoke."""

    utterances: int
    answered: int
    failovers: int
    availability: float | None
    median_ms: float | None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read `day`."""
        return cls(
            utterances=int(read.number(data, "utterances")),
            answered=int(read.number(data, "answered")),
            failovers=int(read.number(data, "failovers")),
            availability=read.optional_number(data, "availability"),
            median_ms=read.optional_number(data, "median_ms"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How everything is; `backends` by name, in the order in which they are asked; `deadline` in seconds."""

    id: str
    version: str
    wyoming: str
    strategy: str
    deadline: float
    endpointing: bool
    languages: tuple[str, ...]
    uptime: float
    problem: str | None
    backends: dict[str, Backend]
    last: Answer | None
    day: Day

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read `/api/status`."""
        backends = [Backend.from_json(item) for item in read.objects(data, "backends")]
        if not isinstance(languages := data.get("languages"), list):
            raise UnexpectedAnswerError("the server's answer has no list 'languages'")
        return cls(
            id=read.text(data, "id"),
            version=read.text(data, "version"),
            wyoming=read.text(data, "wyoming"),
            strategy=read.text(data, "strategy"),
            deadline=read.number(data, "deadline"),
            endpointing=read.flag(data, "endpointing"),
            languages=tuple(str(code) for code in languages),
            uptime=read.number(data, "uptime"),
            problem=read.optional_text(data, "problem"),
            backends={backend.name: backend for backend in backends},
            last=None if data.get("last") is None else Answer.from_json(read.mapping(data, "last")),
            day=Day.from_json(read.mapping(data, "day")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of the server. The value of a secret is None; `is_set` says whether there is one."""

    value: Any = field(repr=False)
    source: str
    is_set: bool

    @property
    def is_fixed(self) -> bool:
        """Whether the server's environment or command line decides: it cannot be changed from here."""
        return self.source in ("environment", "flag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The server's settings by name; `restart` names those just changed that count after its restart."""

    settings: dict[str, Setting]
    restart: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read `/api/config`."""
        settings = read.mapping(data, "settings")
        return cls(
            settings={
                name: Setting(
                    value=item.get("value"),
                    source=read.text(item, "source"),
                    is_set=bool(item.get("is_set", item.get("value") not in (None, ""))),
                )
                for name in settings
                for item in [read.mapping(settings, name)]
            },
            restart=tuple(str(name) for name in data.get("restart", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """How one backend did on the bundled recording; `text` is what it understood."""

    backend: str
    ok: bool
    text: str | None = field(repr=False)
    ms: float | None
    code: str | None
    message: str | None

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Read one of the `results` of `/api/test`."""
        return cls(
            backend=read.text(data, "backend"),
            ok=read.flag(data, "ok"),
            text=read.optional_text(data, "text"),
            ms=read.optional_number(data, "ms"),
            code=read.optional_text(data, "code"),
            message=read.optional_text(data, "message"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened at the server: `data` has the fields that docs/api.md names."""

    type: Literal["utterance", "failover", "recovery", "budget"]
    data: Json


def test_results(data: Json) -> list[TestResult]:
    """Read the answer of `/api/test`."""
    return [TestResult.from_json(item) for item in read.objects(data, "results")]


def traces(data: Json) -> list[Json]:
    """Read the answer of `/api/traces`."""
    return read.objects(data, "traces")


def event(data: Json) -> Status | Happening | None:
    """Read a message of `/api/events`; None where a newer server tells something unknown."""
    match read.text(data, "type"):
        case "status":
            return Status.from_json(read.mapping(data, "status"))
        case "utterance":
            return Happening(type="utterance", data=read.mapping(data, "trace"))
        case "failover" | "recovery" | "budget" as kind:
            return Happening(type=kind, data={key: value for key, value in data.items() if key != "type"})
        case _:
            return None
