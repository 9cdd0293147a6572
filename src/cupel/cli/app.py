"""The program `cupel`: its commands, loaded only when called, and its exit codes.

    0    success
    1    a gate or a verdict says no
    2    bad usage or bad input: one line on stderr, nothing lost
    3    runs failed; what is complete is kept
    4    litmus: inconclusive
    70   a bug in Cupel
    130  interrupted; a study stays resumable

Knows names and one line of help a command. Refuses to know what any command does.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import click
from click.shell_completion import CompletionItem

from cupel import __version__
from cupel.errors import CupelError, RunError

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_RUNS_FAILED = 3
EXIT_INCONCLUSIVE = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "A study, from its file to its verdict": {
        "init": "Write a commented study file to start from.",
        "plan": "Say what a study would run, cost and be able to show; run nothing.",
        "lock": "Declare what will be tested, and hear the chance of each answer.",
        "run": "Run what is missing of a study, then judge it and write the report.",
        "status": "Show what is done, running or failed.",
        "resume": "Continue a run or a study where it stopped.",
        "report": "Write the report of a study again.",
        "follow": "Send runs to W&B, TensorBoard or Trackio, from outside the training.",
    },
    "Without a study file": {
        "sweep": "Choose each algorithm's learning rate by short probes on seeds of their own.",
        "train": "Train one run, by flags or by a file.",
        "evaluate": "Put held-out problems to a checkpoint or model; compare two.",
        "campaign": "Conditions x seeds; plans only, unless --execute.",
        "ab": "Two arms on the same seeds; plans only, unless --execute.",
    },
    "Teachable moments": {
        "teach": "From an agent's failures to a defended selection of what to teach.",
    },
    "Recursive models on ARC": {
        "arc": "Train, check and judge encoder-based tiny recursive models.",
    },
    "What run folders show": {
        "significance": "Test a candidate against a baseline, run by run.",
        "litmus": "Hold a candidate to thresholds: confirmed, failed or inconclusive.",
        "compare": "Describe two or more arms side by side, without a test.",
        "power": "How many seeds or completions a claim needs.",
        "diff": "Show how two runs differ, in settings and in results.",
    },
    "The machine and the models": {
        "doctor": "Check this machine: what works, what is missing.",
        "models": "Build and list the models that ship with Cupel.",
        "explain": "Say in words what a study file or settings file would do.",
        "completion": "Print what makes a shell complete commands and options.",
    },
}
"""Every command with its line of help, so that `cupel --help` imports none of them."""


class Interrupted(Exception):
    """Ctrl-C, with a line that says how to continue."""


class Stop(click.ClickException):
    """Bad usage found by a command: one line, exit code 2."""

    exit_code = EXIT_USAGE


class LazyGroup(click.Group):
    """Loads a command's module when the command is named; a subclass says where and which."""

    package: ClassVar[str]
    """Package with one module a command, each with its `command`."""
    sections: ClassVar[Mapping[str, Mapping[str, str]]]
    """Titles of the help, and under each the commands with their lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return its command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return commands and options that begin so, importing no command."""
        lines = {name: line for part in self.sections.values() for name, line in part.items()}
        options = click.Command.shell_complete(self, ctx, incomplete)
        commands = [
            CompletionItem(name, help=line)
            for name, line in lines.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *options]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in self.list_commands(ctx):
            path = self.package.removeprefix("cupel.cli").lstrip(".")
            raise Stop(
                f"no command '{f'{path} {name}'.strip()}'; "
                f"{suggestion(name, self.list_commands(ctx))}; "
                f"see {' '.join(['cupel', *path.split()])} --help"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of the help from the table, importing nothing."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])


class Program(LazyGroup):
    """The whole program; turns every error into an exit code."""

    package = "cupel.cli"
    sections = SECTIONS

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run and exit; `--debug` anywhere on the line shows tracebacks."""
        arguments = list(sys.argv[1:] if args is None else args)
        end = arguments.index("--") if "--" in arguments else len(arguments)
        debug = "--debug" in arguments[:end]
        arguments = [word for word in arguments[:end] if word != "--debug"] + arguments[end:]

        def call() -> Any:
            return super(Program, self).main(
                arguments, "cupel", complete_var, standalone_mode=False, **extra
            )

        sys.exit(exit_code_of(call, debug=debug))


def exit_code_of(call: Callable[[], Any], *, debug: bool) -> int:
    """Call a command and return its exit code, saying on stderr what went wrong in one line."""
    try:
        result = call()
    except click.exceptions.NoArgsIsHelpError as request:
        click.echo(request.format_message())
        return 0
    except Interrupted as stop:
        return _say(str(stop), EXIT_INTERRUPTED, debug=False)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", EXIT_INTERRUPTED, debug=False)
    except click.ClickException as error:
        return _say(usage_line(error), EXIT_USAGE, debug=debug)
    except RunError as error:
        return _say(str(error), EXIT_RUNS_FAILED, debug=debug)
    except CupelError as error:
        return _say(str(error), EXIT_USAGE, debug=debug)
    except OSError as error:
        if error.filename is None:
            return _say(str(error), EXIT_USAGE, debug=debug)
        return _say(f"{error.filename}: {error.strerror}", EXIT_USAGE, debug=debug)
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug is told in one line too
        line = f"internal error: {type(error).__name__}: {error}; --debug shows where"
        return _say(line, EXIT_BUG, debug=debug)
    return result if isinstance(result, int) else 0


def usage_line(error: click.ClickException) -> str:
    """Put a usage error of the parser into one line, with the nearest match of a mistyped name."""
    context = getattr(error, "ctx", None)
    where = context.command_path.removeprefix("cupel ") + ": " if context is not None else ""
    where = where.removeprefix("cupel: ")
    if isinstance(error, click.NoSuchOption):
        known = (
            [name for param in context.command.params for name in param.opts]
            if context is not None
            else []
        )
        return f"{where}no option '{error.option_name}'; {suggestion(error.option_name, known)}"
    message = error.format_message().rstrip(".")
    return f"{where}{message[:1].lower()}{message[1:]}"


def suggestion(name: str, allowed: Sequence[str]) -> str:
    """Say which allowed name was probably meant, or list a few."""
    matches = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"did you mean '{matches[0]}'?" if matches else "allowed: " + ", ".join(allowed)


def _say(message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    click.echo("cupel: " + " ".join(message.split()), err=True)
    return code


EPILOG = """\b
Start here:
  cupel init                     write quickstart.toml, a small study
  cupel plan quickstart.toml     what would run, and what it could show
  cupel run quickstart.toml      run it, judge it, write the report
"""


@click.group(
    name="cupel",
    cls=Program,
    epilog=EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="cupel %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks (any position).")
def program() -> None:
    """Find out whether a training idea really works: plan, run, judge, report."""
