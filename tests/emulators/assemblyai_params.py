"""The query string and UpdateConfiguration of AssemblyAI's v3 streaming: what it takes and refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import MultiMapping

US_MODELS = frozenset({"universal-streaming-english", "universal-streaming-multilingual"})
PRO_MODES = {  # min_turn_silence, max_turn_silence, interruption_delay; milliseconds
    "min_latency": (128, 640, 0),
    "balanced": (128, 1280, 500),
    "max_accuracy": (512, 2560, 500),
}
_MODE_MODELS = frozenset({"universal-3-5-pro", "universal-3-6-pro", "universal-3-6", "universal-3-7-preview"})
_OLD_PRO_MODELS = frozenset(
    {"u3-rt-pro", "u3-rt-pro-beta-1", "u3-rt-agent", "whisper-rt", "_universal-3-5-notetaker"}
)
MODELS = US_MODELS | _MODE_MODELS | _OLD_PRO_MODELS
DEFAULT_MODEL = "universal-3-6-pro"
_PROMPT_LIMIT = 1750
_LOWEST_SILENCE_MS, _HIGHEST_SILENCE_MS = 50, 10_000
_OLD_MIN_SILENCE = "min_end_of_turn_silence_when_confident"


class Refusal(Exception):  # noqa: N818 - it is an answer of the emulated service, not an error of ours
    """The service ends the session: one Error frame, then a close with the same code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def invalid(text: str) -> Refusal:
    """The service's answer to bad input."""
    return Refusal(3006, f"User Input Validation Error: {text}")


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: Literal["int", "float", "bool", "str", "list", "object"]
    low: float | None = None
    high: float | None = None
    choices: frozenset[str] | None = None
    limit: int | None = None
    """Most characters of a text, most members of a list."""


_FLAG = _Rule("bool")
_TEXT = _Rule("str")
_SHARE = _Rule("float", 0, 1)
_PROMPT = _Rule("str", limit=_PROMPT_LIMIT)
_MILLISECONDS = _Rule("int")
_FOCUS = _Rule("str", choices=frozenset({"near-field", "far-field"}))

_RULES: dict[str, _Rule] = {
    "speech_model": _Rule("str", choices=MODELS),
    "mode": _Rule("str", choices=frozenset(PRO_MODES)),
    "sample_rate": _Rule("int", 8000, 96_000),
    "encoding": _Rule("str", choices=frozenset({"pcm_s16le", "pcm_mulaw", "opus", "ogg_opus", "aac"})),
    "min_turn_silence": _MILLISECONDS,
    _OLD_MIN_SILENCE: _MILLISECONDS,
    "max_turn_silence": _MILLISECONDS,
    "end_of_turn_confidence_threshold": _SHARE,
    "vad_threshold": _SHARE,
    "format_turns": _FLAG,
    "interruption_delay": _Rule("int", 0, 1000),
    "continuous_partials": _FLAG,
    "include_partial_turns": _FLAG,
    "prompt": _PROMPT,
    "keyterms_prompt": _Rule("list", limit=100),
    "agent_context": _PROMPT,
    "previous_context_n_turns": _Rule("int", 0, 100),
    "language_codes": _Rule("list", limit=10),
    "language_code": _TEXT,
    "language_detection": _FLAG,
    "domain": _Rule("str", choices=frozenset({"medical-v1"})),
    "inactivity_timeout": _Rule("int", 5, 3600),
    "session_heartbeat": _FLAG,
    "acknowledge_silence": _FLAG,
    "speaker_labels": _FLAG,
    "max_speakers": _Rule("int", 1, 10),
    "speaker_labels_revision_interval_ms": _Rule("int", 0),
    "voice_focus": _FOCUS,
    "voice_focus_threshold": _SHARE,
    "noise_suppression_model": _FOCUS,
    "noise_suppression_threshold": _SHARE,
    "filter_profanity": _FLAG,
    "redact_pii": _FLAG,
    "redact_pii_policies": _Rule("list"),
    "redact_pii_sub": _Rule("str", choices=frozenset({"hash", "entity_name"})),
    "llm_gateway": _Rule("object"),
    "webhook_url": _TEXT,
    "webhook_auth_header_name": _TEXT,
    "webhook_auth_header_value": _TEXT,
    "customer_support_audio_capture": _FLAG,
    "token": _TEXT,
    "turn_left_pad_ms": _MILLISECONDS,
}
_UPDATE_ALL = {
    "session_heartbeat",
    "keyterms_prompt",
    "min_turn_silence",
    _OLD_MIN_SILENCE,
    "max_turn_silence",
}
_UPDATE_US = _UPDATE_ALL | {"end_of_turn_confidence_threshold", "format_turns", "filter_profanity"}
_UPDATE_PRO = _UPDATE_ALL | {
    "mode",
    "prompt",
    "continuous_partials",
    "vad_threshold",
    "interruption_delay",
    "agent_context",
    "language_codes",
    "acknowledge_silence",
    "filter_profanity",
    "turn_left_pad_ms",
}


@dataclass(frozen=True, slots=True)
class Timing:
    """When turns and partials come; all in milliseconds of audio."""

    pro: bool
    min_silence: int
    max_silence: int
    interruption_delay: int
    partial_interval: int
    partials: bool
    format_turns: bool
    threshold: float
    longest_turn: int
    acknowledge_silence: bool
    language_detection: bool


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the client asked for: the decoded known parameters, and the names of those that nobody knows."""

    values: Mapping[str, Any]
    unknown: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The speech model; the service's default where the client named none."""
        return str(self.values.get("speech_model", DEFAULT_MODEL))

    @property
    def pro(self) -> bool:
        """Whether the model is of the Pro family, not of universal-streaming."""
        return self.model not in US_MODELS

    @property
    def bytes_per_second(self) -> int | None:
        """Of the audio to come; None for the compressed encodings."""
        width = {"pcm_s16le": 2, "pcm_mulaw": 1}.get(self.values.get("encoding", "pcm_s16le"))
        return None if width is None else width * int(self.values.get("sample_rate", 16_000))

    @property
    def timing(self) -> Timing:
        """The preset of the mode or family with the explicit parameters laid over it."""
        get = self.values.get
        diarized = bool(get("speaker_labels"))
        if not self.pro:
            low, high, delay = 400, 1280, 0
        elif diarized:
            low, high, delay = 640, 768, 500
        elif self.model in _OLD_PRO_MODELS:
            low, high, delay = 100, 1000, 0
        else:
            low, high, delay = PRO_MODES[get("mode", "balanced")]
        return Timing(
            pro=self.pro,
            min_silence=get("min_turn_silence", low),
            max_silence=get("max_turn_silence", high),
            interruption_delay=get("interruption_delay", delay),
            partial_interval=1000 if get("continuous_partials", True) else 3000,
            partials=get("include_partial_turns", not get("redact_pii", False)),
            format_turns=get("format_turns", False),
            threshold=get("end_of_turn_confidence_threshold", 0.4),
            longest_turn=10_000 if diarized else 60_000,
            acknowledge_silence=self.pro and get("acknowledge_silence", False),
            language_detection=get("language_detection", False),
        )

    def updated(self, message: Mapping[str, Any]) -> Parameters:
        """These parameters after an UpdateConfiguration; names that cannot change in a session are ignored.

        Raises:
            Refusal: a value that the service does not take.
        """
        allowed = _UPDATE_PRO if self.pro else _UPDATE_US
        changes = {name: _checked(name, value) for name, value in message.items() if name in allowed}
        return replace(self, values={**self.values, **_settled(changes)})


def parse_query(query: MultiMapping[str]) -> Parameters:
    """Decode a connection's query string.

    Raises:
        Refusal: a known parameter with a value that the service or the model does not take.
    """
    values: dict[str, Any] = {}
    unknown = []
    for name in dict.fromkeys(query):
        rule = _RULES.get(name)
        if rule is None:
            unknown.append(name)
            continue
        texts = query.getall(name)
        if rule.kind == "list" and len(texts) > 1:
            raise invalid(f"Invalid '{name}': Invalid JSON array")
        values[name] = _checked(name, _decoded(name, rule, texts[-1]))
    parameters = Parameters(_settled(values), tuple(unknown))
    if "prompt" in values and not parameters.pro:
        raise invalid(f"Invalid 'prompt': not supported by {parameters.model}")
    if "mode" in values and parameters.model not in _MODE_MODELS:
        raise invalid(f"Invalid 'mode': not supported by {parameters.model}")
    return parameters


def _decoded(name: str, rule: _Rule, text: str) -> Any:
    try:
        if rule.kind == "int":
            return int(text)
        if rule.kind == "float":
            return float(text)
        if rule.kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if rule.kind in {"list", "object"}:
            return json.loads(text)
    except (KeyError, ValueError):
        what = {"list": "Invalid JSON array", "object": "Invalid JSON object"}.get(
            rule.kind, f"not {rule.kind}"
        )
        raise invalid(f"Invalid '{name}': {what}") from None
    return text


_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "list": list,
    "object": dict,
}


def _checked(name: str, value: Any) -> Any:
    rule = _RULES[name]
    wrong_type = not isinstance(value, _TYPES[rule.kind]) or (isinstance(value, bool) and rule.kind != "bool")
    if wrong_type:
        what = "Invalid JSON array" if rule.kind == "list" else f"must be of type {rule.kind}"
        raise invalid(f"Invalid '{name}': {what}")
    if rule.choices is not None and value not in rule.choices:
        raise invalid(f"Invalid '{name}': must be one of {', '.join(sorted(rule.choices))}")
    if (rule.low is not None and value < rule.low) or (rule.high is not None and value > rule.high):
        raise invalid(f"Invalid '{name}': must be between {rule.low} and {rule.high or 'any'}")
    if rule.limit is not None and len(value) > rule.limit:
        if rule.kind == "str":
            raise invalid(f"{name} exceeds maximum length of {rule.limit} characters (got {len(value)})")
        raise invalid(f"Invalid '{name}': at most {rule.limit} entries (got {len(value)})")
    if rule.kind == "list" and not all(isinstance(entry, str) for entry in value):
        raise invalid(f"Invalid '{name}': every entry must be a string")
    if name == "language_codes" and "multi" in value and len(value) > 1:
        raise invalid("Invalid 'language_codes': 'multi' must be the only entry")
    return value


def _settled(values: dict[str, Any]) -> dict[str, Any]:
    old = values.pop(_OLD_MIN_SILENCE, None)
    if old is not None:
        values.setdefault("min_turn_silence", old)
    for name in ("min_turn_silence", "max_turn_silence"):
        if name in values:
            values[name] = min(max(values[name], _LOWEST_SILENCE_MS), _HIGHEST_SILENCE_MS)
    return values
