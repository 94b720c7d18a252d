"""An edit decision list that video editors import, with markers where artifacts are.

The form is CMX 3600 without drop frames. The timeline is that on which the files follow each other in the order of the
results, each in full, from 00:00:00:00: for a single file, times on the timeline are times in the file. Each event
marks where an artifact begins, and names the file in a comment. The line that begins with `|` is what DaVinci Resolve
reads as a marker with its length in frames (File > Import > Timeline Markers from EDL), the comment `LOC` what Avid
Media Composer reads as one. All times are counted at the frame rate of the first file, at the nearest whole number
up to 100 if that is no usual rate, so that hours, minutes and seconds are those of the file. Markers are red, and
yellow where an artifact lasts too short for the verdict on the file.

Events are one frame long and in order, as Resolve writes those of its markers: artifacts overlap, which records in such
a list must not. Editors keep one marker a frame, so that of several at the same frame each is a frame later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from grainscan.report.findings import is_found, stretches
from grainscan.report.words import printable
from grainscan.results import Result, is_usual, timecode
from grainscan.tasks import task_of

_USUAL_RATE = 24.0  # frames per second, where no file says another
_LONGEST_NAME = 200  # characters


def lines(results: Sequence[Result], tasks: Sequence[str]) -> Iterator[str]:
    """The lines of the list."""
    rates = [(result.get("video") or {}).get("fps") for result in results]
    rate = next((float(known) for known in rates if known), _USUAL_RATE)
    rate = rate if is_usual(rate) else float(min(100, max(1, round(rate))))
    yield "TITLE: grainscan"
    yield "FCM: NON-DROP FRAME"
    found: list[tuple[int, int, int, str, str, str]] = []  # place on the timeline and in the file, length; texts
    begin = 0.0  # seconds on the timeline
    for result in results:
        name = printable(PurePosixPath(result["path"]).name)[:_LONGEST_NAME]
        for event in stretches(result, tasks):
            frames = max(1, round((event["end"] - event["start"]) * rate))
            label = f"{task_of(event['task']).found} {event['probability']:.2f}"
            colour = "Red" if is_found(result, event["task"]) else "Yellow"
            places = round((begin + event["start"]) * rate), round(event["start"] * rate)
            found.append((*places, frames, name, label, colour))
        begin += (result.get("video") or {}).get("duration") or 0.0
    found.sort(key=lambda event: event[0])
    free = 0  # the first frame without a marker
    for number, (frame, own, frames, name, label, colour) in enumerate(found, 1):
        place = max(frame, free)
        free = place + 1
        own += place - frame
        times = [timecode(each / rate, rate) for each in (own, own + 1, place, place + 1)]
        yield ""
        yield f"{number:03d}  AX       V     C        {' '.join(times)}"
        yield f" |C:ResolveColor{colour} |M:{label} |D:{frames}"
        yield f"* FROM CLIP NAME: {name}"
        yield f"* LOC: {times[2]} {colour.upper():<7} {label}"
