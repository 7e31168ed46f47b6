"""How a report looks, in light and in dark."""

from __future__ import annotations

# Of the curves of each run: on white, on black.
_COLOURS = (
    ("#2f6fb3", "#6fb1f2"),
    ("#d1671f", "#f29a5c"),
    ("#2e8b57", "#63c78f"),
    ("#b03a5b", "#ee7f9e"),
    ("#7a56b0", "#b394ea"),
    ("#8a6d1d", "#d9b850"),
    ("#1f8a8a", "#57c9c9"),
    ("#6b6b6b", "#b5b5b5"),
)
_LIGHT, _DARK = ("".join(f"--c{i}: {pair[k]}; " for i, pair in enumerate(_COLOURS)) for k in (0, 1))
_CLASSES = "\n".join(f".c{i} {{ color: var(--c{i}); }}" for i in range(len(_COLOURS)))

STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1d2226; --faint: #68717a; --paper: #fff; --grid: #e4e7ea; --band: #f3f5f7;
  --mark: #c62828; {_LIGHT}}}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ec; --faint: #9aa4ad; --paper: #15181b; --grid: #2c3238; --band: #1d2226;
    --mark: #ff6b6b; {_DARK}}}
}}
body {{ margin: 0; font: 14px/1.45 system-ui, "Helvetica Neue", Helvetica, Arial, sans-serif; color: var(--ink);
  background: var(--paper); }}
main {{ max-width: 1240px; margin: 0 auto; padding: 16px 20px 48px; }}
h1 {{ font-size: 22px; overflow-wrap: anywhere; }}
h2 {{ font-size: 17px; margin: 32px 0 8px; border-bottom: 1px solid var(--grid); padding-bottom: 4px; }}
h3 {{ font-size: 14px; margin: 16px 0 6px; overflow-wrap: anywhere; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(460px, 100%), 1fr)); gap: 18px 24px; }}
figure {{ margin: 0; min-width: 0; }}
figcaption {{ font-weight: 600; margin-bottom: 2px; overflow-wrap: anywhere; }}
.charts svg {{ width: 100%; height: auto; display: block; }}
.grid {{ stroke: var(--grid); }}
.axis {{ stroke: var(--faint); fill: none; }}
.band {{ fill: var(--band); }}
.mark {{ stroke: var(--mark); stroke-width: 1.4; }}
.level {{ stroke: var(--mark); stroke-dasharray: 5 4; }}
.tick {{ font-size: 11px; fill: var(--faint); }}
.over {{ paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }}
.name {{ font-size: 12px; fill: var(--ink); }}
.line {{ fill: none; stroke: currentColor; stroke-width: 1.5; stroke-linejoin: round; }}
.dashed {{ stroke-dasharray: 6 4; }}
.thin {{ stroke-width: .8; stroke-dasharray: 2 3; }}
.dots circle {{ fill: currentColor; }}
.legend {{ margin: 2px 0 0; display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12px; color: var(--faint); }}
.legend span {{ overflow-wrap: anywhere; }}
.charts .key {{ width: 20px; height: 10px; display: inline-block; margin-right: 5px; }}
.none, .missing {{ color: var(--faint); }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ text-align: left; padding: 4px 14px 4px 0; vertical-align: top; border-bottom: 1px solid var(--grid); }}
th {{ font-weight: 600; color: var(--faint); white-space: nowrap; }}
td {{ overflow-wrap: break-word; max-width: 34em; }}
.short {{ white-space: nowrap; }}
.differs td, td.swatch {{ font-weight: 600; }}
.swatch::before {{ content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 2px;
  margin-right: 7px; background: currentColor; }}
.notes {{ color: var(--mark); }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 18px 24px; }}
.pictures img {{ max-width: 100%; display: block; image-rendering: pixelated; background: #fff; }}
pre {{ font: 12px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--band);
  padding: 10px 12px; border-radius: 6px; overflow-x: auto; max-height: 560px; }}
summary {{ cursor: pointer; font-weight: 600; }}
.plus {{ color: var(--c2); }}
.minus {{ color: var(--mark); }}
.place {{ color: var(--c0); }}
.same {{ color: var(--faint); }}
{_CLASSES}
"""
