"""`hvdsl viz graph|latents|cell SPEC -o FILE`: the ladder as papers draw it, its latents, the inside of a recipe."""

from __future__ import annotations

import argparse
import sys

from hvdsl.cli.options.shared import add_output, add_spec
from hvdsl.cli.output import print_diagnostics
from hvdsl.errors import UsageError
from hvdsl.runtime.ground.disk import write_output
from hvdsl.workflows.compiling import checked

PICTURES = (".svg", ".png", ".html")
FORMS = {"graph": (*PICTURES, ".dot", ".mmd", ".json"), "latents": PICTURES, "cell": PICTURES}
HELP = {
    "graph": "the hierarchy: bottom-up column, top-down column, taps, latents, priors",
    "latents": "how the latent groups depend on each other, and which posteriors see the image",
    "cell": "the inside of a recipe: what a cell computes; of a group its prior, posterior and flow",
}


def configure(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, summary in HELP.items():
        sub = kinds.add_parser(kind, help=summary)
        add_spec(sub)
        if kind == "cell":
            sub.add_argument("recipe", metavar="NAME", help="a cell or group that the model uses")
        add_output(sub, f"what to write; the ending says the form: {' '.join(FORMS[kind])}", required=True)


def run(args: argparse.Namespace) -> int:
    form, forms = args.output.suffix, FORMS[args.kind]
    if form not in forms:
        raise UsageError(f"cannot draw into `{args.output}`: its ending should be one of {', '.join(forms)}")
    from hvdsl.draw import draw, draw_cell, draw_latents

    model = checked(args.spec, args.overrides)
    print_diagnostics(model.warnings)
    if args.kind == "cell":
        drawn = draw_cell(model, args.recipe, form)
    else:
        drawn = draw(model, form) if args.kind == "graph" else draw_latents(model, form)
    write_output(args.output, drawn)
    print(f"wrote {args.output}", file=sys.stderr)
    return 0
