from __future__ import annotations

import pytest

from modal_whisper.scripts import written_as

MIXED = "打开客廳的灯。"


@pytest.mark.parametrize("tag", ["zh", "zh-Hans", "zh-CN", "zh_SG", "ZH", "cmn", "zh-Hans-TW", " zh "])
def test_chinese_is_simplified(tag: str) -> None:
    assert written_as(tag, MIXED) == "打开客厅的灯。"


@pytest.mark.parametrize("tag", ["zh-Hant", "zh-TW", "zh_hant_tw", "zh-HK", "zh-MO", "cmn-Hant", " zh-tw "])
def test_chinese_is_traditional_where_the_tag_says_so(tag: str) -> None:
    assert written_as(tag, MIXED) == "打開客廳的燈。"


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("zh-TW", "裡面為"),
        ("zh-Hant", "裡面為"),
        ("zh-HK", "裏面為"),
        ("zh-MO", "裏面為"),
        ("zh-Hant-HK", "裏面為"),
    ],
)
def test_each_place_has_its_own_characters(tag: str, text: str) -> None:
    assert written_as(tag, "里面为") == text


@pytest.mark.parametrize("tag", [None, "en", "ja", "yue", "yue-Hant", "en-TW"])
def test_other_languages_stay_as_they_are(tag: str | None) -> None:
    assert written_as(tag, MIXED) == MIXED


@pytest.mark.parametrize("tag", ["zh", "zh-Hant"])
def test_what_is_not_chinese_stays_as_it_is(tag: str) -> None:
    assert written_as(tag, "") == ""
    assert written_as(tag, "Wi-Fi 6, 21 °C 🙂") == "Wi-Fi 6, 21 °C 🙂"
