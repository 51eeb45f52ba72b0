"""Counters of a decode run: tokens, shapes, and how full its batches were."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class DecodeStats:
    """Counters that `decode` adds to.

    Attributes:
        shapes: Kind (`prefix`, `prefill`, `slots`, `pages`), rows and tokens of every shape run.
            Each prefill, and each number of slots with its number of pages, is compiled once.
        prompt_tokens: Tokens prefilled, without padding; a shared prefix counts once per model.
        padded_tokens: Tokens prefilled, with padding.
        new_tokens: Tokens in the rows' texts.
        row_steps: Rows times steps decoded, idle and ended rows included.
    """

    shapes: set[tuple[str, int, int]] = field(default_factory=set)
    prompt_tokens: int = 0
    padded_tokens: int = 0
    new_tokens: int = 0
    row_steps: int = 0

    def shape(self, kind: str, rows: int, tokens: int) -> None:
        """Note a shape that is run."""
        self.shapes.add((kind, rows, tokens))

    def prefilled(self, kind: str, rows: int, tokens: int, not_padding: int) -> None:
        """Count a prefill of rows x tokens, of which `not_padding` are a prompt's."""
        self.shape(kind, rows, tokens)
        self.prompt_tokens += not_padding
        self.padded_tokens += rows * tokens

    def decoded(self, rows: int, steps: int) -> None:
        """Count a block of decode steps."""
        self.row_steps += rows * steps

    def finished(self, tokens: int) -> None:
        """Count a row that has ended with so many tokens."""
        self.new_tokens += tokens

    @property
    def occupancy(self) -> float:
        """Share of the decoded row steps whose token is part of a text.

        It may exceed 1, since a row's first token comes with its prefill.
        """
        return self.new_tokens / self.row_steps if self.row_steps else 1.0

    def report(self) -> str:
        """The counters in two lines, with every shape that was run."""
        shapes = ", ".join(
            f"{kind} {rows} x {tokens}" for kind, rows, tokens in sorted(self.shapes)
        )
        return (
            f"{self.new_tokens} new tokens, {self.occupancy:.0%} of the slots' steps; "
            f"{self.prompt_tokens} prompt tokens, {self.padded_tokens} with padding\n"
            f"{len(self.shapes)} shapes (rows x tokens): {shapes}"
        )
