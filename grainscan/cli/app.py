"""The five commands: parse, call, print. No logic lives here, and nothing heavy is imported before a command runs."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from grainscan.cli.help import Command, Group
from grainscan.errors import GrainscanError, UsageError, missing_package
from grainscan.options import EvalConfig, PredictConfig, PrepConfig, ScanConfig, SplitConfig, TrainConfig, resolve

INTERRUPTED = 130
FOUND = 3
_verbosity = 0


class ErrorGroup(Group):
    """Turns our exceptions into `error:` and `hint:` on stderr and an exit code, in tests as in the console script."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (missing := missing_package(error)) is None:
                raise
            _explain(missing)
            raise typer.Exit(missing.exit_code) from None
        except GrainscanError as error:
            _explain(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _say("[yellow]interrupted[/]: everything finished so far is on disk")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has gone; nothing is left to say, nor anybody to say it to
            raise typer.Exit(1) from None


def _explain(error: GrainscanError) -> None:
    from rich.markup import escape

    from grainscan import console

    if _verbosity >= 2:
        console.err().print_exception()
    console.err().print(f"[bold red]error:[/] {escape(_printable(error.message))}", soft_wrap=True)
    if error.hint:
        console.err().print(f"[bold]hint:[/] {escape(_printable(error.hint))}", soft_wrap=True)


def _printable(text: str) -> str:
    """File names may hold bytes that are no text; a terminal gets replacement characters for them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _say(markup: str) -> None:
    from grainscan import console

    if _verbosity >= 0:
        console.err().print(markup, soft_wrap=True)


app = typer.Typer(
    cls=ErrorGroup,
    name="grainscan",
    help="Find the grainy videos in a library, measure how grainy they are and where, and teach the tool your own "
    "artifacts.",
    epilog="Start with: grainscan predict FOLDER. Options may also stand in grainscan.toml or in the environment "
    "(GRAINSCAN_PREDICT_WORKERS=2).",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    from grainscan import __version__

    typer.echo(f"grainscan {__version__}")
    for package in ("torch", "transformers", "av", "onnxruntime"):
        try:
            typer.echo(f"{package} {version(package)}")
        except PackageNotFoundError:
            typer.echo(f"{package} not installed")
    raise typer.Exit()


def _set_verbosity(level: int) -> None:
    global _verbosity
    if level:
        from grainscan import console

        _verbosity = level
        console.set_verbosity(level)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print versions and exit.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Say more; -vv: tracebacks. This and -q may also follow the command.",
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")] = False,
) -> None:
    _set_verbosity(-1 if quiet else verbose)


def _option(cls: type, *names: str, help: str, panel: str | None = None, metavar: str | None = None) -> Any:
    """An option whose default is that of the configuration field with its name, shown though not passed on."""
    flag, default = names[0].replace("_", "-"), getattr(cls, names[0])
    boolean = isinstance(default, bool)
    flags = [f"--{flag}/--no-{flag}" if boolean and default else f"--{flag}", *names[1:]]
    if default is not None and not boolean:
        help = f"{help} [default: {default}]"
    return typer.Option(*flags, help=help, rich_help_panel=panel, show_default=False, metavar=metavar)


_Prep, _Split, _Train = (partial(_option, cls) for cls in (PrepConfig, SplitConfig, TrainConfig))
_Scan, _Predict, _Eval = (partial(_option, cls) for cls in (ScanConfig, PredictConfig, EvalConfig))

_CHECKS, _MODEL, _OUTPUT, _SAMPLING = "Labels and synthesis", "Model", "Output", "Sampling and speed"
_VIEWS, _OPTIMISER, _LOSS, _RUN = "Data and views", "Optimisation", "Loss", "Run"

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML file of options (default: grainscan.toml, if any)."),
]

# Shared by eval and predict
Windows = Annotated[int | None, _Scan("windows", panel=_SAMPLING, help="Windows of a file; default: the model's.")]
Crops = Annotated[int | None, _Scan("crops", panel=_SAMPLING, help="Crops of a window; default: the model's.")]
Short = Annotated[
    str | None, _Scan("short", panel=_SAMPLING, metavar="mirror|wrap|repeat|error", help="Clips shorter than a window.")
]
Device = Annotated[str | None, _Scan("device", panel=_SAMPLING, metavar="auto|cpu|cuda", help="Where the model runs.")]
Workers = Annotated[int | None, _Scan("workers", panel=_SAMPLING, help="Decoding processes; -1: automatic.")]
Timeout = Annotated[float | None, _Scan("timeout", panel=_SAMPLING, help="Seconds for a file; 0: no limit.")]
MaxPixels = Annotated[int | None, _Scan("max_pixels", panel=_SAMPLING, help="Larger frames are refused.")]


@app.command(cls=Command)
def prep(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="SRC... DST", help="Footage (files, folders), then the folder for the clips."),
    ],
    clips: Annotated[int | None, _Prep("clips", help="Clips cut from each video.")] = None,
    frames: Annotated[int | None, _Prep("frames", help="Consecutive frames of a clip.")] = None,
    size: Annotated[int | None, _Prep("size", help="Side of the square crop, native pixels.")] = None,
    labels: Annotated[
        Path | None,
        _Prep(
            "labels",
            metavar="FILE",
            panel=_CHECKS,
            help="labels.json or CSV; default: beside the footage, else folder names.",
        ),
    ] = None,
    balance: Annotated[
        str | None,
        _Prep("balance", metavar="TASK", panel=_CHECKS, help="Keep as many clips with the artifact as without."),
    ] = None,
    limit: Annotated[
        int | None, _Prep("limit", panel=_CHECKS, help="Clips of each class (with --balance), or in all.")
    ] = None,
    synthesize: Annotated[
        str | None,
        _Prep(
            "synthesize",
            metavar="TASK",
            panel=_CHECKS,
            help="Write twins with the artifact of each clean clip (graininess).",
        ),
    ] = None,
    twins: Annotated[int | None, _Prep("twins", panel=_CHECKS, help="Synthesised twins of each clean clip.")] = None,
    small: Annotated[
        str | None,
        _Prep("small", metavar="keep|skip", help="Videos smaller or shorter than a clip: whole, or not at all."),
    ] = None,
    seed: Annotated[int | None, _Prep("seed", help="Of crops, strengths and kinds.")] = None,
    workers: Annotated[int | None, _Prep("workers", help="Processes; 0: one for each processor.")] = None,
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Print the plan and write nothing.")] = None,
    config: ConfigFile = None,
) -> None:
    """Turn raw footage into labelled clips.

    Each video is verified, cut at native resolution into lossless clips and labelled from labels.json, a CSV or folder
    names; --synthesize graininess adds grainy twins where labels are missing. DST gets the clips, labels.json and
    manifest.json.

    Example: grainscan prep footage/ data/ --synthesize graininess
    """
    flags = _given(locals(), "paths", "config")
    if len(paths) < 2:
        raise UsageError("prep needs footage and a folder for the clips", hint="grainscan prep SRC... DST")
    options = resolve(PrepConfig, {**flags, "sources": tuple(paths[:-1]), "destination": paths[-1]}, file=config)
    from grainscan.cli import display
    from grainscan.data.prep import prepare

    with display.bar("preparing") as advance:
        report = prepare(options, progress=advance)
    display.print_prep(report)
    if report.skipped:
        raise typer.Exit(1)


@app.command(cls=Command)
def split(
    data: Annotated[Path, typer.Argument(help="Folder with labels.json and its clips.")],
    ratios: Annotated[str | None, _Split("ratios", help="Shares of train, val and test.")] = None,
    group: Annotated[
        str | None,
        _Split("group", metavar="auto|REGEX", help="What names a clip's source: its first group, or the whole match."),
    ] = None,
    seed: Annotated[int | None, _Split("seed", help="Of the division.")] = None,
    undo: Annotated[bool | None, typer.Option("--undo", help="Put the clips back where they were.")] = None,
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Print the plan and move nothing.")] = None,
    config: ConfigFile = None,
) -> None:
    """Divide labelled clips into train, val and test, no source on two sides.

    Stratified by every task. An interrupted split is completed by the same command, or taken back with --undo.

    Example: grainscan split data/ --ratios 70/15/15
    """
    options = resolve(SplitConfig, _given(locals(), "config"), file=config)
    from grainscan.cli import display
    from grainscan.data.split import split as divide

    display.print_split(divide(options))


@app.command(cls=Command)
def train(
    data: Annotated[Path, typer.Argument(help="Folder with train/ and val/ (see split), or labelled clips.")],
    model: Annotated[
        str | None,
        _Train("model", "-m", panel=_MODEL, help="small (embedded), vivit-b, a model or run directory, or a hub name."),
    ] = None,
    scratch: Annotated[
        bool | None,
        typer.Option("--scratch", rich_help_panel=_MODEL, help="Start small from whitening filters, not from weights."),
    ] = None,
    reference: Annotated[
        float | None,
        _Train("reference", panel=_MODEL, help="With --scratch: constant part of each token, in deviations."),
    ] = None,
    tune: Annotated[
        str | None, _Train("tune", panel=_MODEL, metavar="full|adapters|head|last-N", help="What is trained.")
    ] = None,
    lora: Annotated[
        int | None, _Train("lora", panel=_MODEL, metavar="RANK", help="LoRA on attention and MLP; 0: none.")
    ] = None,
    pooling: Annotated[
        str | None, _Train("pooling", panel=_MODEL, metavar="auto|cls|mean", help="What the adapters see.")
    ] = None,
    attention: Annotated[
        str | None, _Train("attention", panel=_MODEL, metavar="sdpa|eager", help="Attention code.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None, typer.Option("--gradient-checkpointing", rich_help_panel=_MODEL, help="Less memory, more time.")
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile", rich_help_panel=_MODEL, help="Compile with torch.compile.")
    ] = None,
    tasks: Annotated[
        str | None, _Train("tasks", panel=_VIEWS, metavar="A,B", help="Artifacts to learn; default: the labels'.")
    ] = None,
    frames: Annotated[
        int | None, _Train("frames", panel=_VIEWS, help="Frames of a view; default: the model's.")
    ] = None,
    size: Annotated[
        int | None, _Train("size", panel=_VIEWS, help="Side of a view, pixels; default: the model's.")
    ] = None,
    views_per_clip: Annotated[
        int | None, _Train("views_per_clip", panel=_VIEWS, help="Views drawn from a clip in an epoch.")
    ] = None,
    augment: Annotated[
        bool | None, _Train("augment", panel=_VIEWS, help="Flips, random crops, jitter in time, light and colour.")
    ] = None,
    balanced: Annotated[
        bool | None, typer.Option("--balanced", rich_help_panel=_VIEWS, help="Draw classes equally often.")
    ] = None,
    workers: Annotated[int | None, _Train("workers", panel=_VIEWS, help="Loader processes.")] = None,
    cache: Annotated[
        bool | None, _Train("cache", panel=_VIEWS, help="Keep decoded clips on disk between epochs.")
    ] = None,
    cache_gb: Annotated[
        float | None, _Train("cache_gb", panel=_VIEWS, help="Disk space for decoded clips, of all data sets.")
    ] = None,
    epochs: Annotated[float | None, _Train("epochs", "-e", panel=_OPTIMISER, help="Passes over the clips.")] = None,
    max_steps: Annotated[
        int | None, _Train("max_steps", panel=_OPTIMISER, help="Optimiser steps; 0: by epochs.")
    ] = None,
    batch_size: Annotated[
        int | None, _Train("batch_size", "-b", panel=_OPTIMISER, help="Views a device and pass.")
    ] = None,
    accumulate: Annotated[int | None, _Train("accumulate", panel=_OPTIMISER, help="Passes an optimiser step.")] = None,
    lr: Annotated[float | None, _Train("lr", panel=_OPTIMISER, help="Peak learning rate.")] = None,
    weight_decay: Annotated[
        float | None, _Train("weight_decay", panel=_OPTIMISER, help="Of weights, not of biases and norms.")
    ] = None,
    warmup: Annotated[float | None, _Train("warmup", panel=_OPTIMISER, help="Part of the steps that warm up.")] = None,
    schedule: Annotated[
        str | None, _Train("schedule", panel=_OPTIMISER, metavar="cosine|linear|constant", help="Learning rate.")
    ] = None,
    clip_norm: Annotated[float | None, _Train("clip_norm", panel=_OPTIMISER, help="Largest gradient norm.")] = None,
    precision: Annotated[
        str | None, _Train("precision", panel=_OPTIMISER, metavar="auto|fp32|fp16|bf16", help="Of the arithmetic.")
    ] = None,
    device: Annotated[
        str | None, _Train("device", panel=_OPTIMISER, metavar="auto|cpu|cuda", help="Where to train.")
    ] = None,
    loss: Annotated[str | None, _Train("loss", panel=_LOSS, metavar="focal|bce", help="Classification loss.")] = None,
    focal_gamma: Annotated[float | None, _Train("focal_gamma", panel=_LOSS, help="Weight on hard clips.")] = None,
    focal_alpha: Annotated[
        str | None, _Train("focal_alpha", panel=_LOSS, metavar="auto|none|A", help="Weight of positives.")
    ] = None,
    task_weights: Annotated[
        str | None, _Train("task_weights", panel=_LOSS, metavar="A=1,B=0.5", help="Weights of the tasks.")
    ] = None,
    strength_weight: Annotated[
        float | None, _Train("strength_weight", panel=_LOSS, help="Of the strength regression.")
    ] = None,
    soft_labels: Annotated[
        float | None,
        _Train("soft_labels", panel=_LOSS, metavar="S", help="With bce, a known strength of S counts as half a label."),
    ] = None,
    name: Annotated[str | None, _Train("name", panel=_RUN, help="Of the run; default: model, date and time.")] = None,
    runs: Annotated[Path | None, _Train("runs", panel=_RUN, help="Folder of the runs.")] = None,
    resume: Annotated[
        str | None, _Train("resume", panel=_RUN, metavar="auto|DIR", help="Go on from the last, or this, checkpoint.")
    ] = None,
    eval_every: Annotated[
        int | None, _Train("eval_every", panel=_RUN, help="Steps between validations; 0: each epoch.")
    ] = None,
    patience: Annotated[
        int | None, _Train("patience", panel=_RUN, help="Validations without gain before stopping; 0: never.")
    ] = None,
    keep: Annotated[int | None, _Train("keep", panel=_RUN, help="Checkpoints kept.")] = None,
    seed: Annotated[int | None, _Train("seed", panel=_RUN, help="Of everything random.")] = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option("--tensorboard", rich_help_panel=_RUN, help="Write TensorBoard events (extra: tensorboard)."),
    ] = None,
    dry_run: Annotated[
        bool | None, typer.Option("--dry-run", rich_help_panel=_RUN, help="Print the plan and estimates only.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Fine-tune a ViViT on labelled clips, one adapter for each artifact.

    Starts from the embedded model; --model vivit-b takes google/vivit-b-16x2-kinetics400 (32 frames, 224x224). The run
    lands in runs/NAME/ and is remembered: `grainscan eval --split test` needs no more words.

    Example: grainscan train data/ --epochs 5
    """
    options = resolve(TrainConfig, _given(locals(), "config"), file=config)
    from grainscan.cli import display

    if options.dry_run:
        from grainscan.train.setup import plan

        display.print_plan(plan(options))
        return
    from grainscan.train.fit import train as fit

    with display.training() as progress:
        run = fit(options, progress=progress)
    display.print_run(run)


@app.command("eval", cls=Command)
def evaluate(
    data: Annotated[
        Path | None, typer.Argument(help="Folder with labels.json, or with splits; default: the last run's.")
    ] = None,
    split: Annotated[str | None, _Eval("split", "-s", help="train, val or test.")] = None,
    model: Annotated[
        str | None, _Eval("model", "-m", panel=_MODEL, help="small, a model or run directory; default: the last run.")
    ] = None,
    compare: Annotated[
        str | None, _Eval("compare", panel=_MODEL, metavar="MODEL", help="A second model on the same clips.")
    ] = None,
    operating_point: Annotated[
        str | None,
        _Eval(
            "operating_point", metavar="f1|precision=P|recall=R", help="Threshold chosen on val instead of the model's."
        ),
    ] = None,
    bootstrap: Annotated[int | None, _Eval("bootstrap", help="Resamples of the 95 % intervals; 0: none.")] = None,
    mistakes: Annotated[int | None, _Eval("mistakes", help="Worst mistakes shown.")] = None,
    seed: Annotated[int | None, _Eval("seed", help="Of the bootstrap.")] = None,
    format: Annotated[
        str | None, _Eval("format", "-f", panel=_OUTPUT, metavar="table|json", help="Form of the report.")
    ] = None,
    output: Annotated[Path | None, _Eval("output", "-o", panel=_OUTPUT, help="File for the report.")] = None,
    plots: Annotated[
        Path | None, _Eval("plots", panel=_OUTPUT, metavar="DIR", help="Folder for ROC, PR and reliability pictures.")
    ] = None,
    windows: Windows = None,
    crops: Crops = None,
    short: Short = None,
    device: Device = None,
    workers: Workers = None,
    timeout: Timeout = None,
    max_pixels: MaxPixels = None,
    config: ConfigFile = None,
) -> None:
    """Figures of a model on labelled clips, with intervals and a classical baseline.

    Example: grainscan eval --split test
    """
    options = resolve(EvalConfig, _given(locals(), "config"), file=config)
    from grainscan import report
    from grainscan.cli import display
    from grainscan.evaluate.evaluation import evaluate as measure

    with display.bar("judging") as advance:
        figures = measure(options, progress=advance)
    report.write_evaluation(figures, format=options.format, output=options.output)
    if figures.errors:
        raise typer.Exit(1)


@app.command(cls=Command)
def predict(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, URLs, or - for paths on stdin.")
    ],
    model: Annotated[
        str | None,
        _Predict(
            "model", "-m", panel=_MODEL, help="small (embedded), a model or run directory; default: the last run here."
        ),
    ] = None,
    threshold: Annotated[
        str | None, _Predict("threshold", "-t", panel=_MODEL, metavar="P|TASK=P", help="Instead of the model's own.")
    ] = None,
    format: Annotated[
        str | None,
        _Predict(
            "format",
            "-f",
            panel=_OUTPUT,
            metavar="table|json|jsonl|csv|html",
            help="Default: by the suffix of -o, else table.",
        ),
    ] = None,
    output: Annotated[
        Path | None, _Predict("output", "-o", panel=_OUTPUT, help="File for the results; .jsonl can be resumed.")
    ] = None,
    fail_on: Annotated[
        str | None, _Predict("fail_on", panel=_OUTPUT, metavar="TASK", help="Exit with 3 if a file has it.")
    ] = None,
    maps: Annotated[
        bool | None,
        typer.Option("--maps", rich_help_panel=_OUTPUT, help="Add the probability of each view: where it is."),
    ] = None,
    windows: Windows = None,
    crops: Crops = None,
    short: Short = None,
    device: Device = None,
    workers: Workers = None,
    timeout: Timeout = None,
    max_pixels: MaxPixels = None,
    ray: Annotated[
        str | None, _Predict("ray", panel=_SAMPLING, metavar="ADDRESS|local", help="Run on a Ray cluster (extra: ray).")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """A verdict on each video: how grainy, and where.

    Works offline with the embedded model. Exit code 1 if a file could not be judged, 3 with --fail-on if one has it.

    Example: grainscan predict library/ -o scan.jsonl
    """
    options = resolve(PredictConfig, {**_given(locals(), "inputs", "config"), "inputs": tuple(inputs)}, file=config)
    from grainscan.cli import display
    from grainscan.predict import predict as judge

    _end_on_sigterm()
    outcome = judge(options, stdout=sys.stdout, watch=display.watch if _verbosity >= 0 else None)
    display.print_outcome(outcome, options, quiet=_verbosity < 0)
    raise typer.Exit(outcome.exit_code(options.fail_on))


def _given(values: dict[str, Any], *without: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in without}


def _end_on_sigterm() -> None:
    """A scan that is told to stop ends as with Ctrl-C: everything finished so far is on disk."""
    import signal

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def main() -> None:
    """The console script."""
    app()
