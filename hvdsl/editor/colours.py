"""A Pygments lexer of the text form, for documentation, notebooks and terminals: ```` ```hv ````."""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

DECLARATIONS = ("cell", "group", "variant", "prior", "model", "let", "shared", "default")
SECTIONS = (
    *("hv", "title", "use", "needs", "extends", "data", "objective", "evaluate", "sample", "train"),
    *("encoder", "decoder", "likelihood"),
)
WORDS = ("posterior", "given", "classes", "as", "if", "else", "and", "or", "not")
CONSTANTS = ("yes", "no", "none")
CONTEXT = ("x", "skip", "channels", "res", "height", "width_px", "index", "count", "latents", "logits", "label")


class HvLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """Colours of `.hv` files. Words of the language are coloured where the language can read them as such."""

    name = "HV"
    aliases: ClassVar[list[str]] = ["hv"]
    filenames: ClassVar[list[str]] = ["*.hv"]
    tokens: ClassVar = {
        "root": [
            (r"\s+", Whitespace),
            (r"#.*$", Comment.Single),
            (r'"[^"\n]*"', String.Double),
            (
                rf"\b({'|'.join(DECLARATIONS)})(\s+)([A-Za-z_]\w*)",
                bygroups(Keyword.Declaration, Whitespace, Name.Function),
            ),
            (rf"^([ \t]*)({'|'.join(SECTIONS)})\b(?!\s*[=(.])", bygroups(Whitespace, Keyword.Declaration)),
            (words(WORDS, prefix=r"\b", suffix=r"\b"), Keyword),
            (words(CONSTANTS, prefix=r"\b", suffix=r"\b"), Keyword.Constant),
            (r"\d+(x\d+)+\b", Number.Integer),
            (r"\d[\d_]*(\.\d+)?([eE][+-]?\d+)?", Number),
            (words(CONTEXT, prefix=r"\b", suffix=r"\b(?!\s*\()"), Name.Builtin),
            (r"[A-Za-z_]\w*(?=\()", Name.Function),
            (r"[A-Za-z_]\w*", Name),
            (r"->|~|\*\*|//|==|!=|<=|>=|[-+*/%<>=]", Operator),
            (r"[{}()\[\],:;.@]", Punctuation),
        ]
    }
