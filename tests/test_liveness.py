import os

import pytest

from faststream_django.liveness import Liveness, LivenessFile


@pytest.fixture
def told():
    return []


@pytest.fixture
def liveness(told):
    return Liveness(told.append, {"loop": 60.0, "relay": 60.0})


def test_nothing_is_told_before_all_parts_were_seen(liveness, told):
    liveness.note("loop")
    assert told == []

    liveness.note("relay")
    assert told == ["ready"]


def test_nothing_is_told_while_a_part_is_late(told):
    liveness = Liveness(told.append, {"loop": 60.0, "relay": -1.0})

    liveness.note("relay")
    liveness.note("loop")

    assert told == []


def test_same_state_is_told_once_a_second_and_a_new_one_at_once(liveness, told):
    liveness.note("loop")
    liveness.note("relay")
    liveness.note("loop")
    assert told == ["ready"]

    liveness.state = "waiting"
    liveness.note("loop")

    assert told == ["ready", "waiting"]


def test_file_holds_the_state_and_is_touched(tmp_path):
    path = tmp_path / "alive"
    file = LivenessFile(path)
    file.begin("starting")
    os.utime(path, (0, 0))

    file.write("starting")

    assert path.read_text() == "starting\n"
    assert path.stat().st_mtime > 0
    assert [each.name for each in tmp_path.iterdir()] == ["alive"]


def test_state_replaces_the_one_before(tmp_path):
    file = LivenessFile(tmp_path / "alive")
    file.begin("starting")

    file.write("ready")

    assert (tmp_path / "alive").read_text() == "ready\n"


def test_file_that_was_deleted_is_written_again(tmp_path, caplog):
    path = tmp_path / "alive"
    file = LivenessFile(path)
    file.begin("ready")
    path.unlink()

    file.write("ready")
    file.write("ready")

    assert path.read_text() == "ready\n"
    assert "reason='No such file or directory'" in caplog.text


def test_file_that_cannot_be_written_is_told_once(tmp_path, caplog):
    file = LivenessFile(tmp_path / "absent" / "alive")

    file.write("ready")
    file.write("waiting")

    assert caplog.text.count("state=not-written") == 1


def test_first_write_raises_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError):
        LivenessFile(tmp_path / "absent" / "alive").begin("starting")
