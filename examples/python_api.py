"""Judge videos from Python: one file, many files, and what a result says.

    python examples/python_api.py [FILE...]     # default: the clips in examples/clips

Windows are short runs of frames from all over a file; strength is the grain's standard deviation in 8-bit luma codes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grainscan import Scanner, VideoError, predict_video

CLIPS = Path(__file__).parent / "clips"


def main(files: list[str]) -> None:
    # One file: 1 for grainy or 0 for clean, and the confidence in that answer.
    try:
        label, confidence = predict_video(files[0])
        print(f"{files[0]}: {'grainy' if label else 'clean'}, confidence {confidence:.2f}\n")
    except VideoError as error:
        print(f"{files[0]}: {error.message} {error.hint}\n")

    # Many files: the model is loaded once, several processes decode. A file that cannot be judged has a row, too.
    with Scanner() as scanner:
        for result in scanner.scan(files):
            if result["status"] == "error":
                print(f"{result['path']}: {result['error']['message']}")
                continue
            grain = result["tasks"]["graininess"]
            worst = max(result["windows"], key=lambda window: window["graininess"])
            print(
                f"{result['path']}: probability {grain['probability']:.2f} (threshold {grain['threshold']:.2f}), "
                f"strength {grain['strength']:.1f} codes, worst at {worst['start']:.2f} s"
            )


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(map(str, CLIPS.glob("*_*.*"))))
