"""`python -m ti_engine` is `textual-inversion`."""

import sys

from .cli import main

sys.exit(main())
