"""The command line: arguments, a call, a rendering. Frameworks are imported by the command that needs them."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from typing import NoReturn

import typer

from resnet8.cli import (
    audit,
    calibrate,
    compare,
    convert,
    docs,
    evaluate,
    export,
    fetch,
    inspect,
    playground,
    quantize,
    reproduce,
    sweep,
    vectors,
)
from resnet8.cli.common import say
from resnet8.errors import Resnet8Error
from resnet8.streams import prepare, require_output
from resnet8.workers import rare_garbage_collection

INTERRUPTED = 130
HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="resnet8",
    help="Take the MLPerf Tiny ResNet8 from Keras to ONNX and PyTorch, quantize it, and prove every step.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)

for command in (
    reproduce.reproduce,
    fetch.fetch,
    convert.convert,
    evaluate.evaluate,
    calibrate.calibrate,
    quantize.quantize,
    compare.compare,
    sweep.sweep,
    sweep.sensitivity,
    sweep.search,
    vectors.vectors,
    playground.playground,
    docs.docs,
):
    app.command()(command)
app.add_typer(inspect.app, name="inspect")
app.add_typer(audit.app, name="audit")
app.add_typer(export.app, name="export")


def _version(show: bool) -> None:
    if show:
        from resnet8.environment import package_version

        typer.echo(f"resnet8 {package_version()}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Take the MLPerf Tiny ResNet8 from Keras to ONNX and PyTorch, quantize it, and prove every step."""


def main() -> NoReturn:
    """Run the command line; every failure that a user can cause is one line on standard error."""
    # Images are divided among threads here; NumPy's own threads would fight them for the same CPUs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    execute(app)


def execute(application: typer.Typer, arguments: list[str] | None = None) -> NoReturn:
    """Run a typer application with this project's errors, signals and exit codes, and exit.

    Exit codes: 0 done, 1 an error of this project, 2 unusable arguments, 130 interrupted.
    """
    try:
        prepare()
        # ONNX Runtime would send telemetry, keep an identifier for it, and complain on standard error where it cannot.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers and temporary files are cleared away
        rare_garbage_collection()
        atexit.register(gc.freeze)  # the one at exit would look at a whole framework once more
        code = application(args=arguments, standalone_mode=False)
        require_output()
    except typer.TyperException as error:
        say(_usage(error))
        code = error.exit_code
    except Resnet8Error as error:
        say(f"error: {error}")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer turns an interrupt inside a command into this code
        say("interrupted; files written so far are whole, and the next run goes on from them")
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the arguments, in a line; the help where there are none."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if "\n" in message or context is None:
        return message if "\n" in message else f"error: {message}"
    return f"error: {message.rstrip('.')}; see «{context.command_path} --help»"
