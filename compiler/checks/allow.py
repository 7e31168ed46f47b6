"""Warnings that a spec allows: `# hv: allow HV0905` at the end of the line that they speak of."""

from __future__ import annotations

import re

from hvdsl.grammar.diagnostics import Diagnostic, Severity

_ALLOW = re.compile(r"#\s*hv:\s*allow\s+(HV\d{4}(?:[\s,]+HV\d{4})*)")


def allowed(diagnostic: Diagnostic) -> bool:
    """Whether a comment on the line where a warning begins names its code. Errors cannot be allowed."""
    span = diagnostic.span
    if span is None or diagnostic.severity is not Severity.WARNING:
        return False
    found = _ALLOW.search(span.source.line(span.line))
    return found is not None and diagnostic.code.id in found[1]
