"""Weights of single tokens, from passages of a text.

A token weight multiplies its example's weight; the product is the token's loss weight. What that
means depends on `sft.loss_normalization`, with example weight w, token weights t_i and
cross-entropy CE_i:

    weighted_token_mean   sum_i w t_i CE_i / sum_i w t_i
                          Weight k is the same as k copies of the token; a common factor of all t_i
                          in the batch cancels.
    token_mean            sum_i w t_i CE_i / #{i : w t_i > 0}
                          It raises the loss; nothing cancels.
    example_mean          sum_e w_e mean_{i: t_i > 0} (t_i CE_i) / #{e : some t_i > 0}
                          The mean is over the supervised tokens: doubling all t_i of an example is
                          the same as doubling its weight.

A token of weight 0 is not supervised: it is in no sum and in no count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dart_jax.records import WeightSpan

Offsets = Sequence[tuple[int, int]]
"""Of each token, the characters `text[start:end]` that it stands for."""

# What judges put around a quote; the escapes are typographic quotation marks and an ellipsis.
_AROUND = "\"'`*_ \t\n\u2018\u2019\u201c\u201d\u2026."


def token_weights(spans: Sequence[WeightSpan], offsets: Offsets) -> tuple[float, ...]:
    """The weight of each token: of the span that holds most of its characters, 1 outside all.

    A token that a span's border cuts belongs to the span (a leading space is often part of a
    word's token); of two spans, to the one with more of its characters, then to the first. A token
    without characters, such as the end of turn, weighs 1.

        text      Not so. It is.        one span, "It is.", of weight 3
        tokens    Not| so|.| It| is|.|<end>
        weights   1   1   1 3   3   3 1
    """
    return tuple(_weight_of(start, end, spans) for start, end in offsets)


def _weight_of(start: int, end: int, spans: Sequence[WeightSpan]) -> float:
    shared = [min(end, span.end) - max(start, span.start) for span in spans]
    most = max(shared, default=0)
    return spans[shared.index(most)].weight if most > 0 else 1.0


def span_token_weights(
    text: str, passage: str, weight: float, offsets: Offsets
) -> tuple[float, ...]:
    """Weights of a text's tokens: `weight` within a quoted passage, 1 elsewhere.

    Args:
        text: What was tokenised.
        passage: As a judge quotes it, see `find_passage`; where it is not found, all weigh 1.
        weight: 0 or above.
        offsets: As of `ChatTokenizer.completion_offsets`.
    """
    found = find_passage(text, passage)
    spans = () if found is None else (WeightSpan(*found, weight),)
    return token_weights(spans, offsets)


def find_passage(text: str, passage: str) -> tuple[int, int] | None:
    """Where a quoted passage first stands in a text, as `(start, end)`, or None.

    Letter case, the kind and amount of white space, and quotation marks, dots and emphasis around
    the passage are forgiven; other words are not.
    """
    # As it stands first: a mark at its end may be the text's own.
    for quoted in (passage, passage.strip(_AROUND)):
        words = quoted.split()
        match = re.search(r"\s+".join(map(re.escape, words)), text, re.IGNORECASE)
        # The pattern of no words is empty, and matches anywhere.
        if words and match:
            return match.span()
    return None
