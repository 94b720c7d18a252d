"""An edit decision list that video editors import, with a marker where an artifact was found.

The form is CMX 3600 without drop frames. The timeline is that on which the files follow each other in the order of the
results, each in full, from 00:00:00:00: for a single file, times on the timeline are times in the file. Each event
covers a stretch of a file and names the file in a comment. The line that begins with `|` is what DaVinci Resolve reads
as a marker (File > Import > Timeline Markers from EDL), the comment `LOC` what Avid Media Composer reads as one. All
times are counted at the frame rate of the first file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from grainscan.report.findings import stretches
from grainscan.report.words import printable
from grainscan.results import Result, timecode
from grainscan.tasks import task_of

_USUAL_RATE = 24.0  # frames per second, where no file says another
_LONGEST_NAME = 200  # characters


def lines(results: Sequence[Result], tasks: Sequence[str]) -> Iterator[str]:
    """The lines of the list."""
    rates = [(result.get("video") or {}).get("fps") for result in results]
    rate = next((float(known) for known in rates if known), _USUAL_RATE)
    yield "TITLE: grainscan"
    yield "FCM: NON-DROP FRAME"
    number, begin = 0, 0.0  # seconds on the timeline
    for result in results:
        name = printable(PurePosixPath(result["path"]).name)[:_LONGEST_NAME]
        for event in stretches(result, tasks):
            number += 1
            start, end = event["start"], max(event["end"], event["start"] + 1 / rate)
            source = f"{timecode(start, rate)} {timecode(end, rate)}"
            place = timecode(begin + start, rate)
            label = f"{task_of(event['task']).found} {event['probability']:.2f}"
            yield ""
            yield f"{number:03d}  AX       V     C        {source} {place} {timecode(begin + end, rate)}"
            yield f" |C:ResolveColorRed |M:{label} |D:{max(1, round((end - start) * rate))}"
            yield f"* FROM CLIP NAME: {name}"
            yield f"* LOC: {place} RED     {label}"
        begin += (result.get("video") or {}).get("duration") or 0.0
