"""`hvdsl lsp`: the language server that editors start."""

from __future__ import annotations

import argparse

from hvdsl.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stdio", action="store_true", help="use standard input and output, which is the only way and the default"
    )


def run(args: argparse.Namespace) -> int:
    try:
        from hvdsl.editor.server import server
    except ModuleNotFoundError as error:
        raise UsageError(f"`hvdsl lsp` needs {error.name}: install it with `pip install 'hvdsl[lsp]'`") from None
    from hvdsl import __version__

    server(__version__).start_io()
    return 0
