"""HV02xx: files, headers, assembly, `--set`.

An example of several files marks each with `# file: NAME`; one that needs options says them in a first line,
`# --set …` or `# @VARIANT`.
"""

from __future__ import annotations

from hvdsl.compiler.diagnostics import spec
from hvdsl.grammar.diagnostics import Code, Severity

_CELL = "cell c { conv(3x3, 8) }\n"
_WITH_C = spec(top='use "cells.hv"', encoder="8: c -> tap")
_BASE = "# file: base.hv\n" + spec(encoder="8: conv(3x3, 8) -> tap")
_DERIVED = '# file: model.hv\nhv 1\nmodel other\nextends "base.hv"\n'

FILE_NOT_FOUND = Code(
    "HV0201",
    "no such file",
    "`use` and `extends` name a file relative to the one that says it. What is not found there is looked "
    "for among the shipped files: `specs/lib/` for `use`, the shipped specs for `extends`.",
    bad=_WITH_C.replace("cells.hv", "cels.hv") + "# file: cells.hv\n" + _CELL,
    good=_WITH_C + "# file: cells.hv\n" + _CELL,
)
UNSAFE_PATH = Code(
    "HV0202",
    "a path that leads out of the folder",
    "A spec may be somebody else's text, so that it can name only files in its own folder or below it: no "
    "absolute path, no `..`, no link that leads elsewhere.",
    bad=_WITH_C.replace("cells.hv", "../cells.hv"),
    good=_WITH_C + "# file: cells.hv\n" + _CELL,
)
CIRCULAR_USE = Code(
    "HV0203",
    "files that name each other in a circle",
    "A file that is used cannot, directly or through others, use the file that uses it; likewise `extends`.",
    bad=_WITH_C + '# file: cells.hv\nhv 1\nuse "more.hv"\n' + _CELL + '# file: more.hv\nhv 1\nuse "cells.hv"\n',
    good=_WITH_C + '# file: cells.hv\nhv 1\nuse "more.hv"\n' + _CELL + "# file: more.hv\nlet k = 3\n",
)
USED_FILE_HOLDS_MORE = Code(
    "HV0204",
    "a used file that is no library",
    "A file brought in by `use` holds cells, groups, `let`s and further `use`s, and nothing else: everything about "
    "the model itself stands in its own file. To start from a whole spec, `extends` it.",
    bad=_WITH_C + "# file: cells.hv\nhv 1\nlikelihood mse\n" + _CELL,
    good=_WITH_C + "# file: cells.hv\n" + _CELL,
)
UNKNOWN_VARIANT = Code(
    "HV0205",
    "no such variant",
    "`model.hv@NAME` takes the `variant NAME { … }` of the file, or of what the file extends.",
    bad="# @smal\n" + spec(tail="variant small { evaluate { samples = 1 } }\n"),
    good="# @small\n" + spec(tail="variant small { evaluate { samples = 1 } }\n"),
)
DUPLICATE = Code(
    "HV0206",
    "said twice",
    "A file says each thing once: each name, section, row label, setting, `default` of an operation. "
    "Other files, variants and `--set` are how something is replaced.",
    bad=spec(tail="objective { unit = nats_per_dim }\n"),
    good=spec(),
)
AMBIGUOUS_USE = Code(
    "HV0207",
    "a name from two used files",
    "Two used files define the same name, and the spec itself does not say which is meant by defining its own.",
    bad=spec(top='use "cells.hv"\nuse "more.hv"', encoder="8: c -> tap")
    + f"# file: cells.hv\n{_CELL}# file: more.hv\n{_CELL}",
    good=_WITH_C + f"# file: cells.hv\n{_CELL}# file: more.hv\n{_CELL}",
)
BAD_OVERRIDE = Code(
    "HV0208",
    "an override that sets nothing",
    "`--set` takes `name=value` for a top-level `let`, and `section.key=value` for a setting. The value "
    "is an expression, as in the spec.",
    bad="# --set width\n" + spec(top="let width = 8"),
    good="# --set width=16\n" + spec(top="let width = 8"),
)
UNKNOWN_OVERRIDE = Code(
    "HV0209",
    "an override of something that is not there",
    "`--set name=value` changes a top-level `let` that the spec has; `--set section.key=value` a setting "
    "of `data`, `objective`, `train`, `evaluate` or `sample`, or an argument of the likelihood.",
    bad="# --set wdith=16\n" + spec(top="let width = 8"),
    good="# --set width=16\n" + spec(top="let width = 8"),
)
MISSING_ITEM = Code(
    "HV0210",
    "a part that every spec needs",
    "A whole spec has a model name, data, an encoder, a decoder, a likelihood and an objective, of its "
    "own or from what it extends.",
    bad=spec().replace("likelihood bernoulli\n", ""),
    good=spec(),
)
NOT_IN_VARIANT = Code(
    "HV0211",
    "what a variant cannot hold",
    "A variant changes parts of its spec. What identifies the file (`hv`, `model`, `use`, `extends`) and "
    "other variants stand at its top.",
    bad=spec(tail="variant small { model smaller }\n"),
    good=spec(tail='variant small { title "smaller" }\n'),
)
BAD_LABEL = Code(
    "HV0212",
    "a row label that is no resolution",
    "A row is labelled with the resolution of the map that it works on: a whole number for a square one, "
    "`HxW` for an oblong one, or an expression that gives either.",
    bad=spec(encoder="-8: conv(3x3, 8) -> tap"),
    good=spec(encoder="8: conv(3x3, 8) -> tap"),
)
NO_ROW_TO_REMOVE = Code(
    "HV0213",
    "no row to remove",
    "`64: none` removes the row at 64 from what a spec extends, or from the spec of a variant.",
    bad=_BASE + _DERIVED + "encoder { 4: none }\n",
    good=_BASE + _DERIVED + "encoder { 8: conv(3x3, 4) -> tap }\n",
)

_NEEDY = "# file: cells.hv\nneeds width\ncell c { conv(3x3, width) }\n"
NEEDS_MISSING = Code(
    "HV0214",
    "a used file needs what the spec does not say",
    "A file that others use says in `needs` what it takes from them: names of `let`s or recipes, or settings of a "
    "`default`. The recipes that the spec reaches cannot be built without them.",
    bad=_WITH_C + _NEEDY,
    good=_WITH_C.replace('use "cells.hv"', 'use "cells.hv"\nlet width = 8') + _NEEDY,
)
NEEDS_DEFAULT = Code(
    "HV0921",
    "a used file is written for a default that the spec does not say",
    "`needs default conv { bias_init }` says that a file's recipes mean what they should only where the spec sets that "
    "default; without it they work, with the operation's own.",
    bad=_WITH_C + "# file: cells.hv\nneeds default conv { bias_init }\n" + _CELL,
    good=_WITH_C.replace('use "cells.hv"', 'use "cells.hv"\ndefault conv { bias_init = zeros }')
    + "# file: cells.hv\nneeds default conv { bias_init }\n"
    + _CELL,
    severity=Severity.WARNING,
)

CODES = (
    FILE_NOT_FOUND,
    UNSAFE_PATH,
    CIRCULAR_USE,
    USED_FILE_HOLDS_MORE,
    UNKNOWN_VARIANT,
    DUPLICATE,
    AMBIGUOUS_USE,
    BAD_OVERRIDE,
    UNKNOWN_OVERRIDE,
    MISSING_ITEM,
    NOT_IN_VARIANT,
    BAD_LABEL,
    NO_ROW_TO_REMOVE,
    NEEDS_MISSING,
    NEEDS_DEFAULT,
)
