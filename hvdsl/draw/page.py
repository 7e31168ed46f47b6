"""A drawing as one self-contained page: the SVG, and what an item stands for on hovering."""

from __future__ import annotations

from html import escape

_STYLE = """
body { margin: 0; font: 14px/1.45 Inter, "Helvetica Neue", Helvetica, Arial, sans-serif;
       color: #1d2226; background: #fff; }
main { padding: 12px; }
svg { max-width: 100%; height: auto; }
.item { cursor: default; }
.item:hover { filter: brightness(0.94) saturate(1.25); stroke-width: 2.4; }
#about { position: fixed; display: none; max-width: 420px; padding: 8px 12px; border-radius: 6px; pointer-events: none;
         background: #1d2226; color: #fff; font-size: 12.5px; white-space: pre-line; box-shadow: 0 4px 16px #0003; }
"""

_SCRIPT = """
const about = document.getElementById('about');
for (const item of document.querySelectorAll('.item')) {
  const title = item.querySelector('title');
  const words = title.textContent;
  title.remove();
  item.addEventListener('mousemove', event => {
    about.textContent = words;
    about.style.display = 'block';
    const right = event.clientX + about.offsetWidth + 24 > window.innerWidth;
    about.style.left = (right ? event.clientX - about.offsetWidth - 14 : event.clientX + 14) + 'px';
    about.style.top = Math.min(event.clientY + 14, window.innerHeight - about.offsetHeight - 8) + 'px';
  });
  item.addEventListener('mouseleave', () => { about.style.display = 'none'; });
}
"""


def page(title: str, svg: str) -> str:
    """Return an HTML document that needs nothing else."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f'<body>\n<main>\n{svg}</main>\n<div id="about"></div>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n'
    )
