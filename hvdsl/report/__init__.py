"""The report of runs: what their logs say as bounded curves, charts as SVG, one page of HTML."""
