"""Faults of a virtual register, switched on from outside while it runs.

They stand in a small JSON file beside the state file, `<state>.faults`. The register looks at that file's
stat before each command and never writes it: counters run down in memory, and start again with every new
version of the file (and with every new start of the program).
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_log = logging.getLogger(__name__)

Step = Literal["open", "requisites", "line", "subtotal", "before_close", "after_close", "print"]
"""Steps of a document at which power can fail; `after_close`: the fiscal document exists, its answer is lost."""

Countdown = Literal["busy_next", "refuse_next", "lose_answer_next"]

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]


class InvalidRegisterFaults(Exception):
    """A fault object that is not understood; the message names the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class PowerCut(_Strict):
    """Power that fails, and returns at once, at a step of the next `times` documents that get there."""

    at: Step
    times: Count = 1


class RegisterFaults(_Strict):
    """The faults of the register; by default none."""

    offline: bool = False
    """It answers nothing at all."""
    busy: bool = False
    busy_next: Count = 0
    """So many commands are refused with 50h."""
    paper_out: bool = False
    paper_out_after: Count | None = None
    """After so many more documents the paper runs out while the next one is being printed."""
    refuse_next: Count = 0
    """So many receipts are refused for good when they are closed."""
    refuse_names: tuple[str, ...] = ()
    """A line with one of these in its name is refused for good."""
    fn_exhausted: bool = False
    power_cut: PowerCut | None = None
    lose_answer_next: Count = 0
    """So many documents are made while the answer that says so gets lost."""
    clock_offset_s: Annotated[float, Field(ge=-3_155_760_000, le=3_155_760_000, allow_inf_nan=False)] = 0
    """Seconds that the register's own clock is ahead of the system's."""
    print_time_s: Annotated[float, Field(ge=0, le=3600)] | None = None
    """Instead of the configured one."""


def faults_path(state: Path) -> Path:
    """Return the file for the faults of the register with this state file."""
    return state.with_name(f"{state.name}.faults")


def parse_faults(content: str | bytes) -> RegisterFaults:
    """The faults that a JSON object asks for.

    Raises:
        InvalidRegisterFaults: No JSON object, an unknown field or a value of the wrong kind; the message is one line.
    """
    try:
        return RegisterFaults.model_validate_json(content)
    except ValidationError as error:
        raise InvalidRegisterFaults(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown fault; known are {', '.join(RegisterFaults.model_fields)}"
    return f"{path}: {first['msg']}" if path else first["msg"]


def write_faults(state: Path, faults: Mapping[str, Any]) -> None:
    """Put these faults in force instead of all others, at once and whole.

    Raises:
        InvalidRegisterFaults: They are not understood; what was in force stays so.
        OSError: The file cannot be written.
    """
    content = json.dumps(faults, ensure_ascii=False)
    parse_faults(content)
    path = faults_path(state)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(content + "\n", encoding="utf-8")
    draft.replace(path)


def clear_faults(state: Path) -> None:
    """Heal the register.

    Raises:
        OSError: The file cannot be removed.
    """
    faults_path(state).unlink(missing_ok=True)


_NONE: Final = RegisterFaults()
_ABSENT: Final = (0, 0, 0)


class FaultSwitch:
    """The faults in force as the register meets them, with the counters that run down."""

    def __init__(self, state: Path) -> None:
        self._path = faults_path(state)
        self._path_text = str(self._path)
        self._version = _ABSENT
        self.current = _NONE
        """The faults that the last poll found."""
        self._left: dict[Countdown, int] = {}
        self._cuts_left = 0
        self._sheets_left: int | None = None

    @property
    def any_in_force(self) -> bool:
        """True if the last poll found any."""
        return self.current is not _NONE

    def poll(self) -> RegisterFaults:
        """The faults in force now: one stat, and a read only where the file has changed."""
        version = self._stat()
        if version != self._version:
            self._version = version
            self._enforce(_NONE if version == _ABSENT else self._read())
        return self.current

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self._path_text)  # noqa: PTH116 (Path.stat costs twice that, ten times a receipt)
        except OSError:
            return _ABSENT
        # The inode too: a file renamed into place may have the size and the time of the one before.
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> RegisterFaults:
        try:
            return parse_faults(self._path.read_bytes())
        except (OSError, InvalidRegisterFaults) as error:
            _log.warning("%s: ignored, no fault is in force: %s", self._path, error)
            return _NONE

    def _enforce(self, faults: RegisterFaults) -> None:
        self.current = faults
        self._left = {name: getattr(faults, name) for name in get_args(Countdown)}
        self._cuts_left = faults.power_cut.times if faults.power_cut else 0
        self._sheets_left = faults.paper_out_after

    def spend(self, countdown: Countdown) -> bool:
        """Take one from a counter; False if there is none left to take."""
        if not self._left.get(countdown):
            return False
        self._left[countdown] -= 1
        return True

    def cuts_power_at(self, step: Step) -> bool:
        """Return whether the power fails at this step now, and count it."""
        cut = self.current.power_cut
        if cut is None or cut.at != step or self._cuts_left == 0:
            return False
        self._cuts_left -= 1
        return True

    @property
    def paper_is_out(self) -> bool:
        """True if there is no paper to print on."""
        return self.current.paper_out or (self._sheets_left is not None and self._sheets_left < 0)

    def feed_paper(self) -> bool:
        """Take the paper for one document; False if it runs out under it."""
        if self._sheets_left is not None and self._sheets_left >= 0:
            self._sheets_left -= 1
        return not self.paper_is_out
