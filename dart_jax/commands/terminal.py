"""Read a person's lines at a terminal, and what Ctrl-C means there."""

from __future__ import annotations

import importlib.util
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import TypeVar

from dart_jax.suggestions import did_you_mean

Said = TypeVar("Said")

COMMANDS = {
    "/reset": "begin a new conversation",
    "/help": "show this",
    "/quit": "leave; so do Ctrl-D, and Ctrl-C at the empty prompt",
}
HELP = "\n".join(
    [
        *(f"{name:8}{meaning}" for name, meaning in COMMANDS.items()),
        f"{'Ctrl-C':8}end the answers that are being written; what is there stays",
        "A blank before a line that begins with / makes it no command.",
    ]
)


def typed_lines() -> Iterator[str]:
    """Yield lines until Ctrl-D, or Ctrl-C at the empty prompt.

    Where Python has readline, lines are edited with it: arrow keys, history, search with Ctrl-R,
    and a text of several lines that is pasted is one.
    """
    readline = None
    if importlib.util.find_spec("readline") is not None:
        import readline  # `input` uses it once it is imported

        readline.parse_and_bind("set enable-bracketed-paste on")

    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()
            # Ctrl-C clears a line that was begun.
            if readline is None or not readline.get_line_buffer():
                return
            continue
        yield line


def talk(lines: Iterator[str], ask: Callable[[Said, str], Said], nothing: Said) -> None:
    """Hand each line on, until /quit; a line that begins with / is a command.

    Args:
        ask: Puts a line to the models, given what was said before; returns all that was said.
        nothing: What was said before a conversation begins.
    """
    said = nothing
    for line in lines:
        command = line.rstrip() if line.startswith("/") else ""
        if command == "/quit":
            return
        if command == "/reset":
            said = nothing
            print("a new conversation\n")
        elif command == "/help":
            print(f"{HELP}\n")
        elif command:
            print(f"there is no command {command}{did_you_mean(command, COMMANDS)} (/help)\n")
        elif line.strip():
            said = ask(said, line.strip())
            print()


@contextmanager
def undisturbed() -> Iterator[Callable[[], bool]]:
    """Within it, Ctrl-C ends nothing, and what is typed is not shown before the next prompt.

    Yields:
        A function that tells whether Ctrl-C was pressed.
    """
    pressed = Event()
    # Noted, not raised: the caller acts on it between two blocks of tokens.
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    shown = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None

    try:
        if shown is not None:
            # Shown, it would move the cursor from where rows are drawn again.
            hidden = [*shown[:3], shown[3] & ~termios.ECHO, *shown[4:]]
            termios.tcsetattr(sys.stdin, termios.TCSANOW, hidden)
        yield pressed.is_set
    finally:
        if shown is not None:
            termios.tcsetattr(sys.stdin, termios.TCSANOW, shown)
        signal.signal(signal.SIGINT, before)
