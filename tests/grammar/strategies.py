"""Hypothesis strategies for syntax trees. Spans are dummies: they take no part in equality."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hvdsl.grammar import tree
from hvdsl.grammar.source import Source, Span

SPAN = Span(Source("<generated>", ""), 0, 0)
WORDS = ["x", "q", "z_top", "conv", "model", "sample", "train", "data", "given", "cell", "_", "k2", "title"]

names = st.builds(tree.Name, st.sampled_from(WORDS), span=st.just(SPAN))
numbers = st.builds(tree.Number, st.sampled_from(["0", "12", "1_000", "0.5", "2e-4", "1E3"]), span=st.just(SPAN))
dims = st.builds(tree.Dim, st.lists(st.integers(0, 300), min_size=2, max_size=3).map(tuple), span=st.just(SPAN))
plain_text = st.text(
    st.characters(codec="utf-8", exclude_characters='"\n\r\0', exclude_categories=["C", "Z"]), max_size=8
)
strings = st.builds(tree.String, plain_text, span=st.just(SPAN))
qualified = st.just(tree.Name("cells.layer", span=SPAN))
leaves = st.one_of(names, numbers, dims, strings, qualified)
comments = st.lists(st.sampled_from(["", "# a note", "# another"]), max_size=2).map(tuple)
beside = st.sampled_from(["", "# beside"])
OPERATORS = ["or", "and", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "//", "%", "**"]


def _lists(of: SearchStrategy, low: int, high: int = 3) -> SearchStrategy:
    return st.lists(of, min_size=low, max_size=high).map(tuple)


def _node(kind: type, *fields: SearchStrategy, **more: SearchStrategy) -> SearchStrategy:
    return st.builds(kind, *fields, span=st.just(SPAN), **more)


def _commented(kind: type, *fields: SearchStrategy) -> SearchStrategy:
    return st.builds(kind, *fields, span=st.just(SPAN), before=comments, after=beside)


def settings(e: SearchStrategy) -> SearchStrategy:
    setting = _commented(tree.Setting, names, e.filter(lambda v: not isinstance(v, tree.Tuple)))
    return st.lists(setting, max_size=3, unique_by=lambda s: s.key.id).map(tuple)


def latent_settings(e: SearchStrategy) -> SearchStrategy:
    keys = st.sampled_from(["weight", "free", "temperature"]).map(lambda word: tree.Name(word, span=SPAN))
    setting = _commented(tree.Setting, keys, e.filter(lambda v: not isinstance(v, tree.Tuple)))
    return st.lists(setting, min_size=1, max_size=3, unique_by=lambda s: s.key.id).map(tuple)


def definitions(e: SearchStrategy) -> list[SearchStrategy]:
    return [
        _commented(tree.Let, names, e),
        _commented(tree.Shared, names, e),
        _commented(tree.Default, names, settings(e)),
    ]


def statements(e: SearchStrategy) -> SearchStrategy:
    tap = names.map(
        lambda n: tree.Call(tree.Name("tap", span=SPAN), (tree.ArgumentNode(None, n, span=SPAN),), span=SPAN)
    )
    targets = st.one_of(_lists(names, 1), tap.map(lambda t: (t,)))
    return st.one_of(
        _commented(tree.Bare, e),
        _commented(tree.Bind, targets, e),
        _commented(tree.Latent, _lists(names, 1), e, st.none() | e),
        _commented(tree.Latent, _lists(names, 1), e, st.none() | e, latent_settings(e)),
        _commented(tree.Latent, _lists(names, 1), st.none(), e),
        *definitions(e),
    )


def blocks(e: SearchStrategy) -> SearchStrategy:
    return _node(tree.Block, _lists(statements(e), 0, 2))


def _larger(e: SearchStrategy) -> SearchStrategy:
    argument = _node(tree.ArgumentNode, st.none() | st.sampled_from(WORDS), e)
    entry = _node(tree.MapEntry, st.none() | e, e)
    return st.one_of(
        _node(tree.Unary, st.sampled_from(["-", "not"]), e),
        _node(tree.Binary, st.sampled_from(OPERATORS), e, e),
        _node(tree.Choose, e, e, e),
        _node(tree.Flow, _lists(e, 2)),
        _node(tree.Tuple, _lists(e, 2)),
        _node(tree.Call, e, _lists(argument, 0)),
        _node(tree.ItemNode, e, e),
        _node(tree.List, _lists(e, 0)),
        _node(tree.MapNode, _lists(entry, 1)),
        _node(tree.WithBlock, e, blocks(e)),
        blocks(e),
    )


expressions = st.recursive(leaves, _larger, max_leaves=8)


@st.composite
def specs(draw: st.DrawFn) -> tree.Spec:
    e = expressions
    row = _commented(tree.Row, names | numbers, e)
    rows = st.lists(row, max_size=3, unique_by=lambda r: repr(r.label)).map(tuple)
    parameter = _node(tree.ParameterNode, names, st.none() | e)
    body = blocks(e)

    def header(kind: str, value: SearchStrategy) -> SearchStrategy:
        return _commented(tree.HeaderNode, st.just(kind), value)

    version = tree.Version(tree.Number("1", span=SPAN), span=SPAN)
    kinds = [
        header("model", names),
        header("title", strings),
        header("use", strings),
        _commented(tree.HeaderNode, st.just("use"), strings, names),
        _commented(tree.NeedsNode, _lists(names, 1), st.none() | names),
        *definitions(e),
        _commented(tree.RecipeNode, st.sampled_from(["cell", "group"]), names, _lists(parameter, 0, 2), body),
        _commented(tree.Section, st.sampled_from(["encoder", "decoder"]), rows),
        _commented(tree.LikelihoodNode, e),
        _commented(tree.SettingsNode, st.just("data"), names | strings, settings(e)),
        _commented(tree.SettingsNode, st.sampled_from(["objective", "evaluate", "sample"]), st.none(), settings(e)),
        _commented(tree.SettingsNode, st.just("train"), st.none() | names, settings(e)),
        _commented(tree.Prior, names, _lists(names, 0, 2), body),
    ]
    items = draw(st.lists(st.one_of(kinds), max_size=4))
    inner = draw(st.lists(st.one_of(kinds), max_size=2))
    if inner:
        items.append(tree.Variant(tree.Name("v", span=SPAN), tuple(inner), span=SPAN))
    return tree.Spec((version, *items), draw(comments), span=SPAN)
