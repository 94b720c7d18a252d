"""Pictures for the page of a scan: a thumbnail of each file, and crops at 100 % of its worst and its best view.

They are decoded when the verdicts are known, since only then is known which files, which frame and which views are to
be shown; by workers, as everything else of a file. Files that cannot be decoded have no pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from grainscan.console import Progress
from grainscan.errors import GrainscanError
from grainscan.options import ScanConfig
from grainscan.results import Result
from grainscan.scan.inputs import local_copy
from grainscan.workers import spread

THUMBNAIL = (480, 400)  # largest width and height, pixels
_CROP = 160  # side of a crop, pixels: a view and what surrounds it
_QUALITY = 70  # of a thumbnail as JPEG; a crop shows noise, which needs more
_CROP_QUALITY = 88
_CUTOFF = 0.5  # percent of the pixels that a stretched crop leaves out at both ends
_FUNCTION = f"{__name__}:draw"


def add_pictures(results: Sequence[Result], config: ScanConfig, progress: Progress) -> None:
    """Give results the key `pictures`: "thumbnail" and, for results with a map, "crops".

    JPEG as base64. A crop has the task, the percentage and the square of its view, and the same crop stretched in
    contrast.
    """
    wanted = {result["path"]: result for result in results if result["status"] == "ok" and result.get("windows")}
    requests = ((path, {"path": path, "max_pixels": config.max_pixels, **_place(row)}) for path, row in wanted.items())
    options: dict[str, Any] = {"workers": config.workers, "timeout": config.timeout, "memory": config.memory * 1e9}
    progress.stage("pictures", len(wanted))
    made = spread(_FUNCTION, requests, preload=["grainscan.video.stills", "PIL.Image"], parse=_checked, **options)
    for done, (path, pictures) in enumerate(made, 1):
        if not isinstance(pictures, GrainscanError):
            wanted[path]["pictures"] = pictures
        progress.advance(done)


def _place(result: Result) -> dict[str, Any]:
    """The moment, and the views of that window, that show the likeliest artifact most and least."""
    blocks = result["tasks"]
    task = max(blocks, key=lambda each: (blocks[each]["label"], blocks[each]["probability"]))
    windows = [(window.get(task, -1.0), -number) for number, window in enumerate(result["windows"])]
    number = -max(windows)[1]
    window = result["windows"][number]
    views = [view for view in result.get("map", ()) if view["window"] == number and task in view]
    views.sort(key=lambda view: -view[task])
    shown = [views[0], views[-1]] if len(views) > 1 else views
    crops = [[round(100 * view[task]), view["x"], view["y"], view["size"]] for view in shown]
    return {"at": (window["start"] + window["end"]) / 2, "task": task, "crops": crops}


def draw(request: dict[str, Any]) -> dict[str, Any]:
    """The pictures of one file: what the workers do. Raises VideoError."""
    from PIL import Image, ImageOps

    from grainscan.video import Reader
    from grainscan.video.stills import read_still
    from grainscan.views.colour import to_rgb

    with local_copy(request["path"]) as local, Reader(local, max_pixels=request["max_pixels"]) as reader:
        rgb = to_rgb(read_still(reader, request["at"]))[0]
    picture = Image.fromarray((rgb.transpose(1, 2, 0) * 255 + 0.5).astype(np.uint8))
    crops = []
    for percent, x, y, size in request["crops"]:
        left, top = (
            max(0, min(round(place + size / 2 - _CROP / 2), most - _CROP))
            for place, most in ((x, picture.width), (y, picture.height))
        )
        crop = picture.crop((left, top, min(left + _CROP, picture.width), min(top + _CROP, picture.height)))
        stretched = ImageOps.autocontrast(crop, cutoff=_CUTOFF)
        pair = [_jpeg(each, _CROP_QUALITY) for each in (crop, stretched)]
        crops.append({"task": request["task"], "percent": percent, "x": x, "y": y, "size": size, "pictures": pair})
    picture.thumbnail(THUMBNAIL, Image.Resampling.BOX)
    return {"thumbnail": _jpeg(picture, _QUALITY), "crops": crops}


def _jpeg(picture: Any, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0 if quality == _CROP_QUALITY else 2)
    return base64.b64encode(buffer.getvalue()).decode()


def _checked(pictures: Any) -> dict[str, Any]:
    """What a worker sent, if it has the right form: a worker may have been taken over. Raises ValueError."""
    crops = [
        {
            "task": str(crop["task"]),
            **{key: float(crop[key]) for key in ("percent", "x", "y", "size")},
            "pictures": [_is_base64(picture) for picture in crop["pictures"]],
        }
        for crop in pictures["crops"]
    ]
    return {"thumbnail": _is_base64(pictures["thumbnail"]), "crops": crops}


def _is_base64(text: Any) -> str:
    base64.b64decode(text, validate=True)
    return str(text)
