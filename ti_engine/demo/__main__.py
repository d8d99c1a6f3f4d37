"""`make demo` is `python -m ti_engine.demo`."""

import importlib
import sys

from ..cli.early_interrupt import interrupt_ends_the_program

with interrupt_ends_the_program():  # importing torch takes seconds
    learn = importlib.import_module(".learn", __package__)

if __name__ == "__main__":
    try:
        sys.exit(learn.main())
    except (ValueError, OSError) as error:
        sys.exit(f"The demo did not run: {error}")
