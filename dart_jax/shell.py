"""What a command says to a shell when it cannot go on."""

import os
import sys
from collections.abc import Callable

MENDABLE = (ValueError, RuntimeError, OSError)
GOES_ON = "stopped; the same command goes on from here"


def exit_status(
    main: Callable[[], int],
    mendable: tuple[type[Exception], ...] = MENDABLE,
    stopped: str = GOES_ON,
) -> int:
    """`main` for a shell: an error that the user can mend is a message, not a traceback.

    Args:
        mendable: Errors whose message tells the user what to do. DART_JAX_TRACEBACK=1 raises them.
        stopped: What Ctrl-C means for the work; '' says nothing.
    """
    try:
        return main()
    except mendable as error:
        if os.environ.get("DART_JAX_TRACEBACK"):
            raise
        print(f"error: {error}\n(DART_JAX_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if stopped:
            print(f"\n{stopped}", file=sys.stderr)
        return 130
