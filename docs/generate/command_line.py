"""The page of the command line, from the parsers of `getam`."""

import argparse
from importlib import import_module

from docs.generate.markdown import GENERATED, code, joined, prose, table
from getam.cli import command, options

_INTRODUCTION = """`getam COMMAND --help` prints the same. Every command can be interrupted and started again, and
writes a file whole or not at all. It ends with 0; with 1 and one line on stderr after an error in its input; with 2
after a wrong option; with 130 or 143 if Ctrl-C or SIGTERM stopped it. `GETAM_TRACEBACK=1` shows where an unexpected
error was raised."""


def page() -> str:
    """The page."""
    parsers = _parsers()
    overview = table(
        ("command", "what it does"),
        [
            (f"[{code(name)}](#{name.replace(' ', '-')})", prose(help))
            for name, (_, help) in parsers.items()
            if " " not in name
        ],
    )
    parts = [part for name, (parser, _) in parsers.items() for part in _command(name, parser)]
    return joined("# Command line", GENERATED, _INTRODUCTION, overview, *parts)


def _parsers() -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Each command, those of `prepare` too, with its parser and its line in the overview."""
    cores, options.available_cores = options.available_cores, lambda: "number of cores"
    try:
        commands = argparse.ArgumentParser(prog="getam").add_subparsers()
        for verb in command._VERBS:
            import_module(f"getam.cli.{verb}").add(commands)
    finally:
        options.available_cores = cores
    return dict(_below(commands, ""))


def _below(commands: argparse._SubParsersAction, prefix: str):
    for choice in commands._choices_actions:
        name = f"{prefix}{choice.dest}"
        parser = commands.choices[choice.dest]
        yield name, (parser, choice.help or "")
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from _below(action, f"{name} ")


def _command(name: str, parser: argparse.ArgumentParser) -> list[str]:
    actions = [
        action
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    rows = [(_names(action), prose(_help(action)), _default(action)) for action in actions]
    heading = "##" if " " not in name else "###"
    return [
        f"{heading} {name}",
        prose(parser.description or ""),
        table(("argument", "meaning", "default"), rows) if rows else "",
    ]


def _names(action: argparse.Action) -> str:
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}"
        if action.choices
        else action.dest.upper()
        if action.option_strings
        else action.dest
    )
    value = " ".join(value) if isinstance(value, tuple) else value
    more = {"+": f"{value} ...", "*": f"[{value} ...]", "?": f"[{value}]"}.get(action.nargs, value)
    if not action.option_strings:
        return code(more)
    flag = ", ".join(action.option_strings)
    return code(flag) if action.nargs == 0 else code(f"{flag} {more}")


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "getam"}
    return f"{text} (required)" if action.option_strings and action.required else text


def _default(action: argparse.Action) -> str:
    if action.default in (None, False, ()) or action.default == argparse.SUPPRESS or not action.option_strings:
        return ""
    value = action.default
    if value == "number of cores":
        return value
    return code(" ".join(map(str, value)) if isinstance(value, tuple | list) else value)
