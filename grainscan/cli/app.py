"""The five commands: parse, call, print. Heavy modules are imported only when a command runs."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from grainscan import console, signals
from grainscan.cli.commands import command
from grainscan.cli.help import Group
from grainscan.errors import GrainscanError, Interrupted, UsageError, likely, missing_package
from grainscan.options import EvalConfig, PredictConfig, PrepConfig, SplitConfig, TrainConfig

FAILED = 1
_WRONG_USAGE: Any = typer.BadParameter.__base__  # the base of all such errors, which Typer does not export


class _ErrorGroup(Group):
    """Turns exceptions into `error:` and `hint:` on stderr and an exit code, in tests as in the console script."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except _WRONG_USAGE as error:
            if not args:
                raise  # it is the help
            raise _ended_by(_in_our_words(error)) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            hint = f"{likely(args[0], self.commands)}Run `grainscan --help` for the commands."
            raise UsageError(f"no such command: {args[0]}", hint=hint)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _WRONG_USAGE as error:
            raise _ended_by(_in_our_words(error, ctx.invoked_subcommand or "")) from None
        except (GrainscanError, ModuleNotFoundError) as error:
            known = missing_package(error) if isinstance(error, ModuleNotFoundError) else error
            if known is None:
                raise
            raise _ended_by(known) from None
        except KeyboardInterrupt as stop:
            if console.verbosity >= 0:
                _say("interrupted", stop.message if isinstance(stop, Interrupted) else "", style="yellow")
            signals.said = True
            raise typer.Exit(signals.INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output is gone
            raise typer.Exit(FAILED) from None


def _in_our_words(error: Any, command: str = "") -> UsageError:
    """What Typer says about words that it cannot parse."""
    nearest = f"Did you mean {alike[0]}? " if (alike := getattr(error, "possibilities", None)) else ""
    message: str = error.message if nearest else error.format_message()
    usage = " ".join(filter(None, ["grainscan", command, "--help"]))
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=f"{nearest}Run `{usage}` for the options.")


def _ended_by(error: GrainscanError) -> typer.Exit:
    """Print an error; returns what ends the command line."""
    if console.verbosity >= 2:
        console.err().print_exception()
    _say("error", error.message, style="bold red")
    if error.hint:
        _say("hint", error.hint, style="bold")
    return typer.Exit(error.exit_code)


def _say(head: str, text: str, *, style: str) -> None:
    from rich.text import Text

    words = text.encode("utf-8", "replace").decode("utf-8")  # file names may contain bytes that are not text
    console.err().print(Text.assemble((f"{head}:" if words else head, style), f" {words}"), soft_wrap=True)


_HELP = """Find grain and nine other artifacts in videos, and measure how strong the grain is and where.

`grainscan predict FOLDER` works right away and offline, with the embedded model. To teach a model the artifacts of your
own footage, run prep, split, train and eval, in this order.
"""
_EPILOG = """\b
Examples:
  grainscan predict clip.mp4                   # a table on the terminal
  grainscan predict library/ -o report.html    # a page with timelines and maps
  grainscan predict --help                     # the options of a command

Defaults for all options can be set in grainscan.toml ([predict] workers = 2) or in the environment
(GRAINSCAN_PREDICT_WORKERS=2).
"""

app = typer.Typer(
    cls=_ErrorGroup,
    name="grainscan",
    help=_HELP,
    epilog=_EPILOG,
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


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show versions and exit.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Show more messages; -vv adds tracebacks. -v and -q may also follow the command.",
        ),
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results and errors only.")] = False,
) -> None:
    console.set_verbosity(-1 if quiet else verbose)


@command(app, PrepConfig)
def prep(options: PrepConfig) -> None:
    """Cut raw footage into labelled clips.

    Each video is checked, then short lossless clips are cut from it at native resolution. Labels come from labels.json,
    a CSV file or folder names such as grainy/ and clean/. Footage without grain is enough to start with: --synthesize
    graininess adds a grainy copy of each clean clip. DST receives the clips, labels.json and manifest.json. If prep is
    interrupted, the same command continues it.

    \b
    Examples:
      grainscan prep footage/ data/
      grainscan prep footage/ data/ --synthesize graininess
    """
    from grainscan.cli import display
    from grainscan.data.prep import prepare

    with display.keeping(lambda: display.kept_by_prep(options)), display.progress() as progress:
        report = prepare(options, progress=progress)
    display.print_prep(report)
    if report.skipped:
        raise typer.Exit(FAILED)


@command(app, SplitConfig)
def split(options: SplitConfig) -> None:
    """Divide labelled clips into train, val and test.

    The clips are moved into three subfolders of DATA. Clips cut from the same source stay together, so that the test
    figures are honest, and every artifact is spread evenly. If split is interrupted, the same command completes it;
    --undo reverts it.

    \b
    Examples:
      grainscan split data/
      grainscan split data/ --ratios 80/10/10
    """
    from grainscan.cli import display
    from grainscan.data.split import split as divide

    with display.keeping(lambda: display.kept_by_split(options)):
        report = divide(options)
    display.print_split(report)


@command(app, TrainConfig)
def train(options: TrainConfig) -> None:
    """Fine-tune a model on labelled clips.

    The model is a video transformer (ViViT). It judges views, small squares of a few consecutive frames, and has an
    adapter, a small block of weights, for each artifact. Training starts from the embedded model; --model vivit-b
    selects google/vivit-b-16x2-kinetics400 (32 frames, 224x224). The new model has the artifacts that are labelled;
    with --add-task it has all of the starting model, too, unchanged. The run is written to runs/NAME/; --model last
    refers to it.

    \b
    Examples:
      grainscan train data/ --dry-run
      grainscan train data/ --epochs 5
      grainscan train data/ --add-task vignette
      grainscan train data/ --resume auto
    """
    from grainscan.cli import display
    from grainscan.model.spec import LAST, find_model
    from grainscan.train.check import check

    if options.model == LAST:  # its path is recorded: this run will be the last one
        options = replace(options, model=str(find_model(LAST)))
    check(options)  # before torch is loaded, which takes seconds
    if options.dry_run:
        from grainscan.train.plan import plan

        display.print_plan(plan(options))
        return
    begun = time.time()
    with display.keeping(lambda: display.kept_by_train(options, begun)):
        from grainscan.train.fit import train as fit

        with display.progress() as progress:
            run = fit(options, progress=progress)
    display.print_run(run)


@command(app, EvalConfig)
def evaluate(options: EvalConfig) -> None:
    """Evaluate a model on labelled clips.

    Reports AUROC, F1 and other figures with 95 % intervals, next to those of a classical noise estimator. Two figures
    show how far the probabilities can be trusted, 0 being best: ECE (expected calibration error) is the mean distance
    between predicted probabilities and observed frequencies, the Brier score the mean squared error of the
    probabilities. Without DATA and --model, the last run of this folder is evaluated on its own data.

    Exit code: 1 if a clip could not be judged, else 0.

    \b
    Examples:
      grainscan eval --split test
      grainscan eval data/ --split test --model runs/mine --plots plots/
      grainscan eval clips/ --compare runs/mine -o report.json
    """
    from grainscan import report
    from grainscan.cli import display
    from grainscan.evaluate.evaluation import evaluate as measure
    from grainscan.files import check_folder, check_output

    # Wrong requests are refused before the work.
    form = report.format_for(options.format, options.output, report.EVALUATION_FORMATS)
    file = None if options.output == report.STDOUT else options.output
    if file is not None:
        check_output(file)
    if options.plots is not None:
        check_folder(options.plots)
    with display.progress() as progress:
        figures = measure(options, progress=progress)
    replaced = file is not None and file.exists()
    report.write_evaluation(figures, format=form, output=file)
    if file is not None:
        display.print_written(file, replaced=replaced)
    if figures.errors:
        raise typer.Exit(FAILED)


@command(app, PredictConfig)
def predict(options: PredictConfig) -> None:
    """Find grain and nine other artifacts in videos: how likely, how strong, and where.

    A few windows (runs of consecutive frames) are decoded from each file, and small squares, the crops, are cut from
    them at native resolution. Each crop of a window is a view; the model judges every view, and the views together
    decide. Works offline with the embedded model unless --model names another. A file that cannot be judged becomes an
    error row. If a scan into a file is interrupted, the same command continues it. The log of a finished scan is an
    input, too: its rows are shown as they are, and nothing is decoded.

    Exit code: 1 if a file could not be judged; else 3 if --fail-on found its artifact; else 0.

    \b
    Examples:
      grainscan predict clip.mp4
      grainscan predict library/ -o report.html
      grainscan predict "library/**/*.mov" -o scan.jsonl
      grainscan predict scan.jsonl --only graininess --sort worst
      grainscan predict master.mov --fail-on any -o master.edl
    """
    from grainscan.cli import display
    from grainscan.predict import predict as judge

    bar = options.output is not None or options.format in (None, "table") or not sys.stdout.isatty()
    try:
        with display.progress(bar=bar) as progress:
            report = judge(options, stdout=sys.stdout, progress=progress)
    except Interrupted as stop:
        if stop.report is not None:
            display.print_predict(stop.report)
        raise
    display.print_predict(report)
    raise typer.Exit(report.exit_code(options.fail_on))
