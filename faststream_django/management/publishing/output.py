"""What a command writes, also where nobody reads it any more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from django.core.management.base import OutputWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PatientOutput"]


class PatientOutput(OutputWrapper):
    """Standard output or error, which may be a pipe whose reader is gone: `faststream_publish ... | head`.

    What is written then is lost, and the command goes on: its exit code tells what came of the messages.
    """

    has_reader = True
    """Whether somebody read what was written last."""

    @classmethod
    def around(cls, output: OutputWrapper) -> PatientOutput:
        patient = cls(output._out)  # type: ignore[arg-type]  # noqa: SLF001 - the stream itself
        patient.style_func = output.style_func
        return patient

    def write(  # type: ignore[override]  # Django's own is not that of a stream either
        self, msg: str = "", style_func: Callable[[str], str] | None = None, ending: str | None = None
    ) -> None:
        try:
            super().write(msg, style_func, ending)
            self.flush()
        except BrokenPipeError:
            self.has_reader = False
            self._lead_nowhere()

    def _lead_nowhere(self) -> None:
        """Or the interpreter, which flushes what is left at its exit, would fail once more."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._out.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)
