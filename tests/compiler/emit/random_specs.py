"""Small valid specs of every shape that emission has to write: a hypothesis strategy."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.compiler.emit.emit_specs import HEAD

COUNTS = st.integers(1, 3)
LEAVES = (
    "gelu",
    "swish -> conv(3x3, width)",
    "conv(1x1, width)",
    "batch_norm",
    "(conv(3x3, width) if res > 4 else conv(1x1, width) -> leaky_relu(0.2))",
    "conv(1x1, 2 * width) -> glu",
    "both",
    "common",
)


@st.composite
def flows(draw: st.DrawFn, depth: int = 2) -> str:
    """What keeps the width: operations, blocks, residuals, repeats and copies side by side, one after the other."""
    parts = []
    for _ in range(draw(COUNTS)):
        kind = draw(
            st.sampled_from(("leaf", "leaf", "block", "residual", "repeat", "parallel") if depth else ("leaf",))
        )
        if kind == "leaf":
            parts.append(draw(st.sampled_from(LEAVES)))
            continue
        body = draw(flows(depth - 1))
        n = draw(COUNTS)
        join = draw(st.sampled_from(("sum", "mean", "delta")))
        forms = {
            "block": f"{{ {body} }}",
            "residual": f"residual(scale = 0.5) {{ {body} }}",
            "repeat": f"({body}) * {n}",
            "parallel": f"parallel({n}, join = {join}) {{ {body} }}",
        }
        parts.append(forms[kind])
    return " -> ".join(parts)


@st.composite
def specs(draw: st.DrawFn) -> str:
    sizes = [8, 4, 2][: draw(COUNTS)]
    cells = "\n".join(f"cell c{i}(n = 1) {{ {draw(flows())} -> affine * n }}" for i in range(2))
    prior = draw(st.sampled_from(("conv(1x1, 2 * zdim)", "c0 -> conv(1x1, 2 * zdim)", "standard(zdim)")))
    posterior = draw(st.sampled_from(("normal(q)", "relative(normal(q), t)", "product(normal(q), t)")))
    encoder, decoder = [], []
    for size in sizes:
        steps = [draw(st.sampled_from(("c0", "c1", "c1(2)", "c0(2)"))) for _ in range(draw(COUNTS))]
        readers = draw(COUNTS)
        taps = f"(c1 -> tap) * {readers}" if draw(st.booleans()) else "tap"
        first = ["conv(3x3, width)"] if size == 8 else []
        last = ["avg_pool(2)"] if size != sizes[-1] else []
        encoder.append(f"  {size}: {' -> '.join([*first, *steps, taps, *last])}")
        start = "learned(zeros, width)" if size == sizes[-1] else "nearest(2) -> add(learned(ones))"
        end = " -> conv(1x1, logits)" if size == 8 else ""
        decoder.append(f"  {size}: {start} -> {draw(st.sampled_from(('c0 * 2 -> ', '')))}level * {readers}{end}")
    body = draw(flows(1))
    return (
        HEAD.format(name="random")
        + f"""
let zdim = 2
shared common = conv(1x1, width) -> gelu
cell both {{
  a, b = conv(1x1, 2 * width) -> split(width, width)
  a + (b -> gelu)
}}
{cells}
group level {{
  t = normal({prior})
  q = concat(x, skip) -> conv(1x1, width) -> {body} -> conv(1x1, 2 * zdim)
  z ~ t posterior {posterior}
  x + (z -> conv(1x1, width, init = scaled(0.5)))
}}
encoder {{
"""
        + "\n".join(encoder)
        + "\n}\ndecoder {\n"
        + "\n".join(reversed(decoder))
        + "\n}\n"
    )
