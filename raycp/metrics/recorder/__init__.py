"""The flight recorder: each process keeps its last minutes of decisions, errors and switches in a bounded file, for the time after
its death.

The path of a record: a room calls ``FlightRecorder.note`` (a few a second) or ``step`` (each step of each key), which packs it into
a buffer in memory; a thread of the recorder's own writes the buffer to the file every ``FLUSH_EVERY`` seconds, and at once after an
urgent record. Once written, the kernel has it: it survives the process, not the machine.

- ``record_format``: what a record and a file look like;
- ``scrubber``: what texts must not carry into it: values of Secrets, tokens, contents of objects;
- ``flight_recorder``: ``FlightRecorder``, the buffer and its thread;
- ``log_feed``: the log handler that notes warnings and errors;
- ``segments``: the two files of a process, which take turns;
- ``log_files``: the process's log, in two files beside them;
- ``stderr_file``: what a process wrote past its log, in the file in which Ray keeps its standard error;
- ``recorder_dir``: the directory of a node's recordings: which process is dead, which files are too old;
- ``segment_reader``: files back to records, as far as they are sound;
- ``record_text``: a record as a line for people.
"""

from collections.abc import Sequence

from raycp.metrics.recorder.flight_recorder import FlightRecorder
from raycp.metrics.recorder.log_files import LogFiles, LogPart
from raycp.metrics.recorder.record_format import FlightRecord, Origin
from raycp.metrics.recorder.recorder_dir import RecorderDir, RecordingInfo
from raycp.metrics.recorder.scrubber import scrub, scrub_error, scrub_traceback, split_place
from raycp.metrics.recorder.segment_reader import SegmentReader
from raycp.metrics.recorder.segments import SegmentFiles

__all__: Sequence[str] = [
    "FlightRecord",
    "FlightRecorder",
    "LogFiles",
    "LogPart",
    "Origin",
    "RecorderDir",
    "RecordingInfo",
    "SegmentFiles",
    "SegmentReader",
    "scrub",
    "scrub_error",
    "scrub_traceback",
    "split_place",
]
