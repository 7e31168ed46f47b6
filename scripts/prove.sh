#!/usr/bin/env bash
# Run the commands that stand behind the figures of README.md and docs/: quick ones, or with --all the long ones, too.
cd "$(dirname "$0")/.."
python=.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" scripts/prove.py "$@"
