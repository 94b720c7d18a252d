"""The five commands: parse, call, print. No logic lives here, and nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from grainscan import console, signals
from grainscan.cli.commands import command
from grainscan.cli.help import Group
from grainscan.errors import GrainscanError, Interrupted, missing_package
from grainscan.options import EvalConfig, PredictConfig, PrepConfig, SplitConfig, TrainConfig

FAILED, INTERRUPTED = 1, 130


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
        except KeyboardInterrupt as stop:
            _say("interrupted", stop.message if isinstance(stop, Interrupted) else "", style="yellow")
            signals.said = True
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output has gone; nothing is left to say, nor anybody to say it to
            raise typer.Exit(FAILED) from None


def _explain(error: GrainscanError) -> None:
    if console.verbosity >= 2:
        console.err().print_exception()
    _say("error", error.message, style="bold red", always=True)
    if error.hint:
        _say("hint", error.hint, style="bold", always=True)


def _say(head: str, text: str, *, style: str, always: bool = False) -> None:
    from rich.text import Text

    if always or console.verbosity >= 0:
        # File names may hold bytes that are no text; a terminal gets replacement characters for them.
        words = text.encode("utf-8", "replace").decode("utf-8")
        console.err().print(Text.assemble((f"{head}:" if words else head, style), f" {words}"), soft_wrap=True)


app = typer.Typer(
    cls=ErrorGroup,
    name="grainscan",
    help="Find the grainy videos in a library, measure how grainy they are and where, and teach the tool your own "
    "artifacts.",
    epilog="Start with: grainscan predict FOLDER. Options can also be set in grainscan.toml ([predict] workers = 2) "
    "or in the environment (GRAINSCAN_PREDICT_WORKERS=2).",
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
    console.set_verbosity(-1 if quiet else verbose)


@command(app, PrepConfig)
def prep(options: PrepConfig) -> None:
    """Turn raw footage into labelled clips.

    Each video is verified and cut at native resolution into short lossless clips, which are labelled from labels.json,
    a CSV or folder names. --synthesize graininess adds grainy copies of the clean clips, so that footage without grain
    is enough to begin with. DST gets the clips, labels.json and manifest.json. An interrupted prep is continued by the
    same command.

    Example: grainscan prep footage/ data/ --synthesize graininess
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

    Clips cut from the same source stay together, so that figures on test are not too good, and every artifact is
    spread evenly. An interrupted split is completed by the same command, or taken back with --undo.

    Example: grainscan split data/ --ratios 70/15/15
    """
    from grainscan.cli import display
    from grainscan.data.split import split as divide

    with display.keeping(lambda: display.kept_by_split(options)):
        report = divide(options)
    display.print_split(report)


@command(app, TrainConfig)
def train(options: TrainConfig) -> None:
    """Fine-tune a model on labelled clips.

    The model is a video transformer (ViViT) that judges views, small squares of a few consecutive frames, with an
    adapter, a small block of weights of its own, for each artifact. Training starts from the embedded model;
    --model vivit-b takes google/vivit-b-16x2-kinetics400 (32 frames, 224x224). The run is written to runs/NAME/ and
    remembered: `grainscan eval --split test` evaluates it, and --model last names it.

    Example: grainscan train data/ --epochs 5
    """
    from grainscan.cli import display
    from grainscan.model.spec import LAST, find_model
    from grainscan.train.check import check

    if options.model == LAST:  # recorded by its path: another run will be the last one soon
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

    Reports AUROC, F1 and the like with 95 % intervals, beside a classical noise estimator. Two figures say whether
    probabilities can be believed: ECE (expected calibration error) is the mean distance between predicted
    probabilities and observed frequencies, the Brier score their mean squared error per clip; 0 is best. Without DATA
    and --model the last run of this folder is evaluated on its own data. Exit code 1 if a clip could not be judged.

    Example: grainscan eval --split test
    """
    from grainscan import report
    from grainscan.cli import display
    from grainscan.evaluate.evaluation import evaluate as measure
    from grainscan.files import check_folder, check_output

    report.evaluation_format(options.format, options.output)  # a wrong request is refused before the work
    output = None if options.output == report.STDOUT else options.output
    if output is not None:
        check_output(output)
    if options.plots is not None:
        check_folder(options.plots)
    with display.progress() as progress:
        figures = measure(options, progress=progress)
    report.write_evaluation(figures, format=options.format, output=output)
    if figures.errors:
        raise typer.Exit(FAILED)


@command(app, PredictConfig)
def predict(options: PredictConfig) -> None:
    """Judge videos: how grainy, how sure, and where.

    From each file a few windows (runs of consecutive frames) are decoded, and small squares, the crops, are cut from
    them at native resolution; a crop of a window is a view, and the views together decide. Works offline with the
    embedded model unless --model names another. A file that cannot be judged is a row with an error. An interrupted
    scan into a file is continued by the same command.

    Exit code: 1 if a file could not be judged, whatever else was found; else 3 if --fail-on found its artifact; else 0.

    Example: grainscan predict library/ -o scan.jsonl
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


def main() -> None:
    """The console script."""
    app()
