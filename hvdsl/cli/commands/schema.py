"""`hvdsl schema`: a JSON schema of the settings in a spec's YAML form, for editors."""

from __future__ import annotations

import argparse
import json

from hvdsl.compiler.assembly.schema import schema


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print a JSON schema (draft 2020-12) of the settings sections of a spec in the YAML form."


def run(args: argparse.Namespace) -> int:
    print(json.dumps(schema(), indent=2))
    return 0
