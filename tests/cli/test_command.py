"""Errors of the command: one line, an exit status, and the traceback on request."""

import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from getam.cli import command
from getam.cli.command import main
from getam.utils.signals import Interrupted


@pytest.fixture
def failing(monkeypatch):
    """Makes `getam score` raise an error."""

    class Verb:
        error: BaseException

        def add(self, commands):
            commands.add_parser("score").set_defaults(run=self.run)

        def run(self, options):
            raise self.error

    verb = Verb()
    monkeypatch.setattr(command, "import_module", lambda name: verb)
    return verb


HINT = " (GETAM_TRACEBACK=1 shows where)"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("e.yaml is not YAML: while parsing\n  in line 1,\n  expected ']'"), "e.yaml is not YAML: while"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "[Errno 2] No such file or directory: 'a.png'"),
        (ImportError("No module named 'onnxruntime'"), "No module named 'onnxruntime'"),
        (MemoryError("out of memory: lower training.batch"), "out of memory: lower training.batch"),
        (
            BrokenProcessPool("A process in the pool was terminated"),
            "a worker process was killed, most likely for lack",
        ),
        (TypeError("'int' object is not iterable"), f"TypeError: 'int' object is not iterable{HINT}"),
        (AssertionError(), f"AssertionError{HINT}"),
        (RuntimeError("stack expects\neach tensor"), f"RuntimeError: stack expects each tensor{HINT}"),
        (torch.OutOfMemoryError("CUDA out of memory."), f"OutOfMemoryError: CUDA out of memory.{HINT}"),
        (RuntimeError("worker is killed by signal: Bus error."), "use --workers 0"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_one_line(failing, capsys, monkeypatch, error, line):
    monkeypatch.delenv("GETAM_TRACEBACK", raising=False)
    failing.error = error
    assert main(["score"]) == 1
    written = capsys.readouterr().err
    assert written.startswith("getam: error: ")
    assert written.count("\n") == 1
    assert line in written


def test_the_traceback_on_request(failing, monkeypatch):
    monkeypatch.setenv("GETAM_TRACEBACK", "1")
    for error in (ValueError("x"), RuntimeError("x")):
        failing.error = error
        with pytest.raises(type(error)):
            main(["score"])


def test_a_fault_of_the_package_keeps_its_traceback(failing):
    failing.error = KeyError("weights")
    with pytest.raises(KeyError):
        main(["score"])


def test_a_missing_dependency(monkeypatch, capsys):
    def missing(name):
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(command, "import_module", missing)
    assert main(["score"]) == 1
    assert capsys.readouterr().err == "getam: error: No module named 'torch'\n"


@pytest.mark.parametrize(
    "arguments",
    [["{a: ["], ["e.yaml", "--set", "training.rate=["], ["e.yaml", "--set", "seed"], ["e.yaml", "--workers", "-1"]],
    ids=" ".join,
)
def test_arguments_that_cannot_be_read(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(["train", *arguments, "--output", "run"])
    assert "getam train: error: argument " in capsys.readouterr().err.splitlines()[-1]


def test_interruptions(failing, capsys):
    failing.error = Interrupted("interrupted after 3 of 9 steps", 15)
    assert main(["score"]) == 143
    assert capsys.readouterr().err == "getam: interrupted after 3 of 9 steps\n"
    failing.error = KeyboardInterrupt()
    assert main(["score"]) == 130


def test_waiting_threads_sleep_unless_the_user_says_otherwise(monkeypatch):
    seen = {}
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")  # so that it is as before afterwards
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("KMP_BLOCKTIME", "infinite")
    monkeypatch.setattr(command, "_run", lambda arguments: seen.update(os.environ))
    main([])
    assert (seen["GOMP_SPINCOUNT"], seen["KMP_BLOCKTIME"]) == ("500", "infinite")


def test_torch_is_imported_after_that():
    program = "import sys, getam.cli.command; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
