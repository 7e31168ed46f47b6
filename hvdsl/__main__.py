"""`python -m hvdsl`: the command line."""

import sys

from hvdsl.cli.main import main

sys.exit(main())
