"""A client in a process of its own, for test_faults.py to kill.

    python -m tests.chat.client_process URL FOLDER COUNT

Asks COUNT questions with the store FOLDER/store.sqlite, and appends what it gets to
FOLDER/results.txt, one `<item> <ChatReply | ChatFailure>` a line.
"""

import sys
from pathlib import Path

from dart_jax.chat.protocol import ChatFailure, ChatReply, ChatRequest
from tests.chat.fault_proxy import item_of
from tests.chat.loopback import make_chat_at


def question(number: int) -> ChatRequest:
    messages = ({"role": "user", "content": f"question {number}"},)
    return ChatRequest(item_of(list(messages)), messages, 0.2, 64)


def main(url: str, folder: Path, count: int) -> None:
    with (folder / "results.txt").open("a") as results:

        def keep(result: ChatReply | ChatFailure) -> None:
            results.write(f"{result.id} {type(result).__name__}\n")
            results.flush()

        # Two seconds tell a fault of three from a busy machine.
        with make_chat_at(url, folder, concurrency=32, timeout=2.0, max_retries=2) as chat:
            chat.complete([question(number) for number in range(count)], keep)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
