"""One event loop on a thread of its own, for callers that have none.

The only room that knows threads and forks. It knows neither Django nor FastStream.
"""

from faststream_django.loop.calls import LoopStalled, LoopStopped, TaskCall, ThreadCall
from faststream_django.loop.thread import LoopThread, loop_thread

__all__ = ["LoopStalled", "LoopStopped", "LoopThread", "TaskCall", "ThreadCall", "loop_thread"]
