import pytest

from faststream_django.outbox.durations import parse_duration, spoken


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h", 3600), ("7d", 604_800), ("1.5h", 5400), ("0s", 0)]
)
def test_duration_is_a_number_and_a_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1w", "1h30m", "1e3s", "٣d", "9999999999d", "7 d"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match=r"no duration|hundred years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86_400, "1 d"),
        (100_000, "1 d 3 h"),
        (700_000, "8 d"),
        (86_400_000, "1,000 d"),
    ],
)
def test_length_of_time_is_spoken(seconds, text):
    assert spoken(seconds) == text
