"""What holds for every command whatever it is doing: signals, standard streams, limits of the system."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MakeClip
from scan_kit import write_toy_model

COMMAND = [sys.executable, "-m", "grainscan"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more}


def run(*args: str, **options: object) -> subprocess.CompletedProcess[str]:
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(), **options}
    return subprocess.run([*COMMAND, *args], **settings)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_toy_model(tmp_path / "model"))


# ------------------------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("place", ["typer", "rich", "numpy", "onnxruntime"])
def test_a_signal_during_imports_ends_with_130(
    tmp_path: Path, make_clip: MakeClip, model: str, number: int, place: str
) -> None:
    """The signal comes while a library is being imported: exactly when it is first looked for."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {place!r}:\n"
        "            sys.meta_path.remove(self)\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    paths = environment()["PYTHONPATH"]
    done = run(
        "predict", str(make_clip("a.avi")), "--model", model, "--workers", "0",
        env=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{paths}"),
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_signal_does_not_interrupt_the_cleaning_up(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from grainscan import signals\n"
        "from grainscan.files import replacing\n"
        "with signals.guard(), replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    target = tmp_path / "out" / "a.csv"
    target.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert list(target.parent.iterdir()) == []


def test_a_signal_that_comes_beside_a_fork_is_not_lost(tmp_path: Path) -> None:
    script = tmp_path / "fork.py"
    script.write_text(
        "import os, signal, subprocess, sys\n"
        "from grainscan.signals import guard\n"
        "with guard():\n"
        "    os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "    if os.fork() == 0:\n"
        "        os._exit(0)\n"
        "    signal.sigtimedwait([signal.SIGUSR1], 20)\n"
        "    print('went on')\n"
    )
    quiet = "-Wignore::DeprecationWarning"  # of a fork beside threads
    done = subprocess.run([sys.executable, quiet, str(script)], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_process_that_ignores_hangups_goes_on(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from grainscan import signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with signals.guard():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n")


# ----------------------------------------------------------------------------------------- streams, folders, limits


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_standard_output_that_takes_nothing_is_an_error(make_clip: MakeClip, model: str, form: str, how: str) -> None:
    clip = str(make_clip("a.avi"))
    if how == "full":
        with Path("/dev/full").open("w") as full:
            done = run("predict", clip, "--model", model, "--format", form, stdout=full)
    else:
        done = run("predict", clip, "--model", model, "--format", form, stdout=None, preexec_fn=lambda: os.close(1))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {'No space left on device' if how == 'full' else 'Bad file descriptor'}")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_closed_streams_do_not_hurt_what_goes_into_a_file(tmp_path: Path, make_clip: MakeClip, model: str) -> None:
    def close() -> None:
        os.closerange(0, 3)

    output = tmp_path / "a.csv"
    done = run("predict", str(make_clip("a.avi")), "--model", model, "-o", str(output),
               stdout=None, stderr=None, preexec_fn=close)  # fmt: skip
    assert done.returncode == 0
    assert [line.split(",")[1] for line in output.read_text().splitlines()] == ["status", "ok"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "html"])
def test_a_limit_on_file_sizes_is_an_error(tmp_path: Path, make_clip: MakeClip, model: str, suffix: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    folder = tmp_path / "out"
    folder.mkdir()
    unmeasured = {key: value for key, value in environment().items() if not key.startswith("COVERAGE_")}
    done = run("predict", str(make_clip("a.avi")), "--model", model, "--workers", "0",
               "-o", str(folder / f"a.{suffix}"), preexec_fn=limit, env=unmeasured)  # fmt: skip
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir() if path.suffix != ".jsonl"] == []


@pytest.mark.parametrize("command", ["predict", "prep", "split", "train", "eval"])
def test_a_folder_that_is_gone_is_named(tmp_path: Path, command: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    enter: Callable[[], None] = lambda: (os.chdir(gone), gone.rmdir())[1]  # noqa: E731
    done = run(command, "a", "b", preexec_fn=enter)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the current folder no longer exists\nhint: ")


def test_a_reader_that_goes_away_is_no_error_to_speak_of(make_clip: MakeClip, model: str) -> None:
    with subprocess.Popen([*COMMAND, "predict", str(make_clip("a.avi")), "--model", model, "--format", "csv"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert b"Traceback" not in said and b"Exception" not in said
