"""A chat server on the loopback device that answers after a given time: the bench's other side.

    python -m dart_jax.bench.slow_server SECONDS

Prints its port. It parses as little as it can, so that it takes no time from who is measured, and
ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TEXT = "Both groups have the same claim here. Nothing in the question speaks for a difference."


def _answer() -> bytes:
    message = {"role": "assistant", "content": _TEXT}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    body = json.dumps(
        {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": usage,
        }
    ).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def serve(seconds: float) -> None:
    """Answer until standard input ends, then leave without a word to the open connections."""
    answer = _answer()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                due = asyncio.get_running_loop().time() + seconds
                await reader.readexactly(int(_LENGTH.search(head)[1]))
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
