import resource

from faststream_django.worker.recycling import Recycling, resident_bytes


def test_process_ends_for_as_many_messages_as_it_may_handle():
    recycling = Recycling(messages=1000)

    assert recycling.reason(999) == ""
    assert recycling.reason(1000) == "1,000 messages were handled (--max-messages 1000)"


def test_process_ends_once_it_uses_more_memory_than_it_may():
    assert Recycling(memory=1_000_000).reason(10**6) == ""
    assert "MB are in use (--max-memory 1)" in Recycling(memory=1).reason(0)


def test_memory_in_use_is_what_the_kernel_says():
    before = resident_bytes()
    ballast = bytearray(50_000_000)
    after = resident_bytes()

    assert 45_000_000 < after - before < 60_000_000
    del ballast


def test_peak_stands_in_where_the_kernel_does_not_tell(monkeypatch):
    monkeypatch.setattr("faststream_django.worker.recycling.STATM", "/nowhere")

    assert resident_bytes() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
