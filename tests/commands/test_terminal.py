"""A person at a terminal: lines, commands, history and Ctrl-C, at a real pseudo-terminal."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the models would do: remember the lines; "long" is answered until Ctrl-C.
PROGRAM = """
import fcntl, signal, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
# Tests in the background of a shell (`&`) start with Ctrl-C ignored, and so do their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
from dart_jax.commands.terminal import talk, typed_lines, undisturbed

def ask(said, line):
    with undisturbed() as pressed:
        print("asked", repr(line), said, flush=True)
        while line == "long" and not pressed():
            time.sleep(0.01)
        print("stopped" if pressed() else "answered", flush=True)
    return (*said, line)

talk(typed_lines(), ask, ())
print("left", flush=True)
"""


class Typist:
    """Types at the terminal of a program, and reads what is shown there."""

    def __init__(self):
        self._controller, terminal = os.openpty()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment,
            start_new_session=True,
        )
        os.close(terminal)
        self._unseen = ""

    def see(self, text):
        """Wait until a text is shown, behind the one that was waited for before."""
        assert self._is_shown(text, 60), f"{text!r} is not in {self._unseen!r}"
        self._unseen = self._unseen.partition(text)[2]

    def _is_shown(self, text, seconds):
        patience = time.monotonic() + seconds
        while text not in self._unseen:
            left = max(0, patience - time.monotonic())
            ready, _, _ = select.select([self._controller], [], [], left)
            if not ready:
                return False
            self._unseen += os.read(self._controller, 4096).decode()
        return True

    def type(self, keys, text):
        """Press keys, and wait until a text is shown."""
        os.write(self._controller, keys.encode())
        self.see(text)

    def interrupt(self, text):
        """Press Ctrl-C until a text is shown, as a person would.

        Between showing a key and waiting for the next, readline can lose a signal.
        """
        for _ in range(3):
            time.sleep(0.5)
            os.write(self._controller, b"\x03")
            if self._is_shown(text, 5):
                break
        self.see(text)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._controller)


@pytest.fixture
def typist():
    pytest.importorskip("readline")
    typist = Typist()
    typist.see("> ")
    yield typist
    typist.close()


def test_a_conversation(typist):
    typist.type("one\r", "asked 'one' ()")
    typist.see("> ")
    typist.type("long\r", "asked 'long' ('one',)")
    typist.type("\x03", "stopped")  # ends the answer, and what was said stays
    typist.see("> ")
    typist.type("\x1b[A\x1b[A\r", "asked 'one' ('one', 'long')")  # twice up in the history
    typist.see("> ")
    typist.type("\x1b[200~a\n(b) c\x1b[201~\r", "asked 'a\\n(b) c'")  # pasted
    typist.see("> ")
    typist.type("/rest\r", "no command /rest; did you mean /reset?")
    typist.see("> ")
    typist.type("/reset\r", "a new conversation")
    typist.see("> ")
    typist.type(" /etc\r", "asked '/etc' ()")
    typist.see("> ")
    typist.type("half", "half")
    typist.interrupt("> ")  # clears the line
    typist.interrupt("left")
    assert typist.process.wait(10) == 0


@pytest.mark.parametrize("keys", ["/quit\r", "\x04"])
def test_ways_to_leave(typist, keys):
    typist.type(keys, "left")
    assert typist.process.wait(10) == 0
