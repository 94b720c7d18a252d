"""One picture of a file, for people to look at."""

from __future__ import annotations

import numpy as np

from grainscan.video.frames import picture_of
from grainscan.video.planes import Block
from grainscan.video.reader import Reader


def read_still(reader: Reader, at: float) -> Block:
    """The frame that is shown at `at` seconds, or the last one before: a block of one frame.

    Decodes from the key frame before. Raises VideoError when no frame can be decoded.
    """
    length = float(1 / reader.info.fps) if reader.info.fps else 0.04
    key = reader.key_frame_before(at) if reader.info.duration is not None else None
    if key is None:
        reader.restart()
    else:
        reader.seek(key.seek)
    first = 0.0 if key is None else reader.seconds(key.pts)
    still = None
    for number, frame in enumerate(reader.frames()):
        if frame.is_corrupt or (key is not None and frame.pts is not None and frame.pts < key.pts):
            continue
        still = frame
        time = first + number * length if frame.pts is None else reader.seconds(frame.pts)
        if time >= at - length / 2:
            break
    if still is None:
        raise reader.explain_nothing()
    planes, form = picture_of(still)
    return Block(tuple(np.array(plane)[None] for plane in planes), form)
