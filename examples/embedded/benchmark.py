"""How fast `predict` is, compared with what bounds it and with the usual recipe.

    python examples/embedded/benchmark.py                 # clips of 720p to 2160p, H.264 and HEVC, 10 s to 10 min
    python examples/embedded/benchmark.py --quick         # two small kinds of clips only
    python examples/embedded/benchmark.py --cold          # one clip in a new process, against `import torch` in another
    python examples/embedded/benchmark.py --single        # one file in a new process, against a decoder in another
    python examples/embedded/benchmark.py --folder clips  # keep the clips for the next run

The floor is the decoding of the very frames that the model looks at, by as many processes as there are processors, and
nothing else: no crop, no colour, no model. The usual recipe decodes every frame, resizes it to 224 lines and gives 32
of them to ViViT-B (random weights: they take the same time). Everything is measured in the same run on the same files.
Ratios of wall-clock time need a quiet machine; ratios of processor time hardly do.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from rich.table import Table

from grainscan import Scanner, console
from grainscan.files import replacing
from grainscan.model.spec import find_model, read_spec
from grainscan.options import names_in
from grainscan.video import Block, PixelFormat, Reader, read_windows, write_clip
from grainscan.workers import processors

FPS = 25
SECONDS_ENCODED = 2  # of footage; its packets are repeated to the length of the clip
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "2160p": (3840, 2160)}
QUALITY = {"h264": 23, "hevc": 28}
LENGTHS = {"10 s": 10, "60 s": 60, "10 min": 600}
RECIPE = ("1080p", "h264", "60 s")  # the clip on which the usual recipe is measured
RECIPE_FRAMES, RECIPE_SIZE = 32, 224


@dataclass(frozen=True)
class Kind:
    """A kind of clip and its file."""

    size: str
    codec: str
    length: str
    path: Path


# -------------------------------------------------------------------------------------------------------------- clips


def footage(width: int, height: int, frames: int, seed: int = 0) -> Block:
    """A textured picture that pans, with a little grain: neither trivial nor impossible for an encoder."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(height // 8 + 2, width // 8 + frames))
    texture = np.kron(coarse, np.ones((8, 8)))[:height]
    fine = rng.normal(size=(height, width + 8 * frames)) * 6
    scene = 110 + 18 * texture[:, : width + 8 * frames - 8] + fine[:, : width + 8 * frames - 8]
    grainy = (scene[:, 3 * t : 3 * t + width] + rng.normal(scale=2, size=(height, width)) for t in range(frames))
    luma = np.stack([np.clip(frame, 16, 235).astype(np.uint8) for frame in grainy])
    chroma = [np.full((frames, height // 2, width // 2), 120 + 10 * i, np.uint8) for i in range(2)]
    return Block((luma, *chroma), PixelFormat.of("yuv420p"))


def make_clips(folder: Path, kinds: list[tuple[str, str, str]]) -> list[Kind]:
    """Encode a short loop of each size and codec, and repeat its packets to each length."""
    clips = []
    for size, codec, length in kinds:
        path = folder / f"{size}-{codec}-{length.replace(' ', '')}.mp4"
        loop = folder / f"{size}-{codec}-loop.mp4"
        if not path.exists():
            if not loop.exists():
                print(f"encoding {size} {codec}", file=sys.stderr)
                frames = FPS * SECONDS_ENCODED
                write_clip(
                    loop, footage(*SIZES[size], frames), fps=Fraction(FPS), codec=codec, quality=QUALITY[codec],
                    gop=frames, speed=1,
                )  # fmt: skip
            repeat_packets(loop, path, LENGTHS[length] // SECONDS_ENCODED)
        clips.append(Kind(size, codec, length, path))
    return clips


def repeat_packets(source: Path, target: Path, times: int) -> None:
    """Write the packets of a clip `times` times in a row, without encoding anything again."""
    with (
        replacing(target, durable=False) as temporary,
        av.open(str(source)) as reading,
        av.open(str(temporary), "w", format="mp4") as writing,
    ):
        template = reading.streams.video[0]
        stream = writing.add_stream_from_template(template)
        packets = [packet for packet in reading.demux(template) if packet.dts is not None]
        span = round(SECONDS_ENCODED / template.time_base)
        for turn in range(times):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = packet.pts + turn * span, packet.dts + turn * span
                copy.time_base, copy.duration, copy.is_keyframe = packet.time_base, packet.duration, packet.is_keyframe
                copy.stream = stream
                writing.mux(copy)


# ------------------------------------------------------------------------------------------------------------- memory


@dataclass
class Peak:
    """Largest resident sizes seen, bytes."""

    parent: int = 0
    worker: int = 0


@contextmanager
def watched() -> Iterator[Peak]:
    """Peak memory of this process and of the processes below it, from /proc."""
    peak, done = Peak(), threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            peak.parent = max(peak.parent, resident(os.getpid()))
            for pid in descendants(os.getpid()):
                peak.worker = max(peak.worker, resident(pid))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield peak
    done.set()
    thread.join()


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def descendants(pid: int) -> list[int]:
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


# -------------------------------------------------------------------------------------------------------- measurement


@dataclass(frozen=True)
class Cost:
    """Of one pass over some files: wall-clock seconds, and seconds of all processors together."""

    wall: float
    processor: float

    def over(self, other: Cost) -> tuple[float, float]:
        return self.wall / other.wall, self.processor / other.processor


def processor_time() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def decode_and_throw_away(job: tuple[str, int, int], threads: int = 1) -> int:
    path, windows, frames = job
    with Reader(path, threads=threads, ahead=threads > 1) as reader:
        return sum(window.frames for window in read_windows(reader, windows=windows, frames=frames))


def floor(paths: list[str], scanner: Scanner) -> Cost:
    """Decode the frames that the model looks at, in as many processes as there are processors."""
    view = scanner.job.view
    jobs = [(path, view.windows, view.frames) for path in paths]
    before = processor_time()
    with multiprocessing.get_context("spawn").Pool(min(processors(), len(paths))) as pool:
        pool.map(decode_and_throw_away, jobs[: processors()], chunksize=1)  # loads the modules
        began = time.perf_counter()
        pool.map(decode_and_throw_away, jobs, chunksize=1)
        wall = time.perf_counter() - began
        pool.close()
        pool.join()
    return Cost(wall, processor_time() - before)


def predict(paths: list[str], scanner: Scanner) -> Cost:
    """The scanner with its own choice of workers, after a start on as many files as the floor has processes."""
    before = processor_time()
    for _ in scanner.scan(paths[: min(processors(), len(paths))]):
        pass
    began = time.perf_counter()
    for result in scanner.scan(paths):
        if result["status"] != "ok":
            raise SystemExit(result["error"]["message"])
    wall = time.perf_counter() - began
    scanner.close()
    return Cost(wall, processor_time() - before)


def usual_recipe(path: str) -> None:
    """Decode everything, resize to 224 lines, ViViT-B on 32 frames. Runs in its own process and prints its time."""
    import torch
    from transformers import VivitConfig, VivitForVideoClassification

    model = VivitForVideoClassification(VivitConfig(num_frames=RECIPE_FRAMES)).eval()
    before, began = time.process_time(), time.perf_counter()
    frames = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            small = frame.reformat(width=RECIPE_SIZE, height=RECIPE_SIZE, format="rgb24")
            frames.append(small.to_ndarray())
    chosen = np.stack(frames)[np.linspace(0, len(frames) - 1, RECIPE_FRAMES).round().astype(int)]
    pixels = torch.from_numpy(chosen).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        model(pixels)
    print(time.perf_counter() - began, time.process_time() - before)


def cold_start(pairs: int) -> str:
    """`grainscan predict CLIP` against `python -c "import torch"`, each in a new process, alternating."""
    clip = min((Path(__file__).parents[1] / "clips").glob("*.mp4"))
    commands = {
        "predict": [sys.executable, "-m", "grainscan", "predict", str(clip)],
        "torch": [sys.executable, "-c", "import torch"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for pair in range(pairs + 1):  # the first pair fills the disk cache and does not count
        for name in sorted(commands, reverse=pair % 2 == 1):
            began = time.perf_counter()
            subprocess.run(commands[name], check=True, capture_output=True)
            if pair:
                seconds[name].append(time.perf_counter() - began)
    ratios = sorted(a / b for a, b in zip(seconds["predict"], seconds["torch"], strict=True))
    return (
        f"Cold start over {pairs} pairs: predict {statistics.median(seconds['predict']):.2f} s, import torch "
        f"{statistics.median(seconds['torch']):.2f} s, median ratio {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})."
    )


def single_file(clip: Path, pairs: int, model: str | None) -> str:
    """`grainscan predict CLIP` against a decoder of the same frames, each in a new process on two processors.

    The decoder has two threads and does nothing with what it decodes.
    """
    judge = [sys.executable, "-m", "grainscan", "predict", str(clip)]
    commands = {
        "predict": judge + (["--model", model] if model else []),
        "decoder": [sys.executable, __file__, "--decode", str(clip), *(["--model", model] if model else [])],
    }
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for pair in range(pairs + 1):  # the first pair fills the disk cache and does not count
        for name in sorted(commands, reverse=pair % 2 == 1):
            before, began = processor_time(), time.perf_counter()
            subprocess.run(commands[name], check=True, capture_output=True)
            if pair:
                costs[name].append(Cost(time.perf_counter() - began, processor_time() - before))
    ratios = [ours.over(least) for ours, least in zip(costs["predict"], costs["decoder"], strict=True)]
    walls, processor = (sorted(values) for values in zip(*ratios, strict=True))
    seconds = {name: statistics.median(cost.wall for cost in each) for name, each in costs.items()}
    return (
        f"{clip.stem} over {pairs} pairs: predict {seconds['predict']:.2f} s, decoder {seconds['decoder']:.2f} s, "
        f"median ratio {statistics.median(walls):.2f} ({walls[0]:.2f} to {walls[-1]:.2f}), "
        f"{statistics.median(processor):.2f} by processor time."
    )


def measured(run: Callable[[], Cost], repeats: int) -> Cost:
    costs = [run() for _ in range(repeats)]
    return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.processor for cost in costs))


# ------------------------------------------------------------------------------------------------------------ command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model directory (default: the embedded model)")
    parser.add_argument("--tasks", metavar="TASK,...", help="artifacts to judge (default: all)")
    parser.add_argument("--folder", type=Path, help="keep the clips here (default: a temporary folder)")
    parser.add_argument("--files", type=int, default=8, help="copies of a clip per pass")
    parser.add_argument("--repeats", type=int, default=3, help="passes; the median counts")
    parser.add_argument("--cold", action="store_true", help="measure only the start")
    parser.add_argument("--pairs", type=int, default=10, help="pairs of cold starts")
    parser.add_argument("--quick", action="store_true", help="two small kinds of clips, without the usual recipe")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="kinds with all these words: 1080p hevc '60 s'")
    parser.add_argument("--single", action="store_true", help="measure only one file: 60 s of 1080p, or --only")
    parser.add_argument("--recipe", metavar="CLIP", help=argparse.SUPPRESS)
    parser.add_argument("--decode", metavar="CLIP", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recipe:
        usual_recipe(options.recipe)
        return
    if options.decode:
        view = read_spec(find_model(options.model)).view
        decode_and_throw_away((options.decode, view.windows, view.frames), threads=2)
        return
    if options.cold:
        console.out().print(cold_start(options.pairs))
        return
    kinds = [RECIPE] if options.single and not options.only else list(itertools.product(SIZES, QUALITY, LENGTHS))
    if options.quick:
        kinds = [("720p", "h264", "10 s"), ("1080p", "h264", "10 s")]
    if options.only:
        kinds = [kind for kind in kinds if set(options.only) <= set(kind)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # its memory does not count here
            clips = pool.apply(make_clips, (folder, kinds))
        if options.single:
            for clip in clips:
                console.out().print(single_file(clip.path, options.pairs, options.model))
            return
        report(clips, options)


def report(clips: list[Kind], options: argparse.Namespace) -> None:
    table = Table(title=f"{processors()} processors, {options.files} files per pass, median of {options.repeats}")
    for name in ("clip", "codec", "length", "files/s", "of the floor", "by CPU time", "parent MB", "worker MB"):
        table.add_column(name, justify="left" if name in ("clip", "codec", "length") else "right")
    totals: dict[str, list[Cost]] = {"floor": [], "predict": []}
    recipe = ""
    with Scanner(options.model, tasks=names_in(options.tasks) or None) as scanner:
        for clip in clips:
            paths = [str(clip.path)] * options.files
            least = measured(lambda paths=paths: floor(paths, scanner), options.repeats)
            with watched() as peak:
                ours = measured(lambda paths=paths: predict(paths, scanner), options.repeats)
            totals["floor"].append(least)
            totals["predict"].append(ours)
            wall, processor = least.over(ours)
            table.add_row(
                clip.size, clip.codec, clip.length, f"{options.files / ours.wall:.2f}", f"{wall:.2f}",
                f"{processor:.2f}", f"{peak.parent / 1e6:.0f}", f"{peak.worker / 1e6:.0f}",
            )  # fmt: skip
            if (clip.size, clip.codec, clip.length) == RECIPE:
                recipe = against_the_recipe(clip.path, ours, options.files)
    everything = {
        name: Cost(sum(cost.wall for cost in costs), sum(cost.processor for cost in costs))
        for name, costs in totals.items()
    }
    wall, processor = everything["floor"].over(everything["predict"])
    table.add_section()
    table.add_row("all", "", "", "", f"{wall:.2f}", f"{processor:.2f}", "", "")
    console.out().print(table)
    if recipe:
        console.out().print(recipe)


def against_the_recipe(path: Path, ours: Cost, files: int) -> str:
    done = subprocess.run([sys.executable, __file__, "--recipe", str(path)], capture_output=True, text=True, check=True)
    wall, processor = map(float, done.stdout.split())
    usual = Cost(wall, processor)
    by_clock, by_processor = usual.over(Cost(ours.wall / files, ours.processor / (files + min(processors(), files))))
    return (
        f"The usual recipe takes {wall:.1f} s for {path.stem}: predict is {by_clock:.0f} times as fast "
        f"({by_processor:.0f} times by processor time)."
    )


if __name__ == "__main__":
    main()
