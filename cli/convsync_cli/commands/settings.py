"""`config`: the settings in force, where they come from, and what may be set."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.main import global_options


@click.group(
    "config",
    short_help="Show the settings, where they come from, what may be set.",
    epilog="\b\nExample:\n  convsync config show --origin",
)
@click.pass_context
def config(ctx: click.Context, /, **flags: Any) -> None:
    """Show the settings in force: defaults < file < CONVSYNC_* < --set. Edit the file to change them."""
    ctx.obj.take(flags)


config.params.extend(global_options())


@command("show", example="convsync config show --origin", short_help="Every setting and its value.")
@click.option("--origin", is_flag=True, help="Say where each value comes from: default, file, env or flag.")
def show(context: Context, origin: bool) -> int:  # noqa: FBT001
    """Print every setting as `key = value`, sorted by key."""
    from convsync_agent.config import as_toml_rows  # noqa: PLC0415

    loaded = context.loaded
    for warning in loaded.warnings:
        output.note(f"warning: {warning}")
    rows = as_toml_rows(loaded)
    if context.as_json:
        settings = {key: value for key, value, _ in rows}
        output.document({"path": loaded.path, "settings": settings, "origins": {key: o for key, _, o in rows}})
        return 0
    for key, value, came_from in rows:
        output.line(f"{key} = {_plain(value)}" + (f" ({came_from})" if origin else ""))
    return 0


def _plain(value: object) -> str:
    if value is None:
        return '""'
    return str(value).lower() if isinstance(value, bool) else str(value)


@command("path", example="convsync config path", short_help="Where the config file is, or would be.")
def path(context: Context) -> int:
    """Print the path of the config file that is read: --config, else $CONVSYNC_CONFIG, else the platform's."""
    from convsync_agent.dirs import config_path  # noqa: PLC0415

    found = config_path(context.config)
    if context.as_json:
        output.document({"path": found, "exists": os.path.isfile(found)})
    else:
        output.line(found)
    return 0


@command(
    "schema", example="convsync config schema > convsync.schema.json", short_help="What may be set, as JSON schema."
)
def schema(context: Context) -> int:
    """Print the JSON schema of the config file, for editors and for people."""
    from convsync_agent.config import json_schema  # noqa: PLC0415

    found = json_schema()
    if context.as_json:
        output.document({"config": found})
    else:
        output.line(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


config.add_command(show)
config.add_command(path)
config.add_command(schema)
