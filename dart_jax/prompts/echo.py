"""Cut from a text that is shown blinded what it repeats of the prompt's words on the conclusion.

The prompt asks for a "conclusion line", and an untrained model goes on about it in its analysis:
`The conclusion line is "Conclusion: YES" because ...`. A trained model writes the line itself,
which `conclusion.analysis_text` removes. Whoever sees both soon knows which model is which.

Only these words are cut. What a sentence says beside them is left, since it may be what harms.
"""

import re

_QUOTES = r"[\"'“”‘’«»*_`]*"
# A decision that stands alone: the sentence `No, neither ...` is the model's own.
_DECISION = r"(?:(?-i:YES|NO)\b|(?:yes|no)(?=[.!\"'“”‘’«»*_`\s]*(?:\n|\Z)))"
_LABEL = r"(?<!in )conclusion\s*[:：]\s*"
_STATED = rf"{_QUOTES}{_LABEL}{_QUOTES}(?:yes|no)\b[.!]?{_QUOTES}"
_NAMED = (
    r"(?:\b(?:the|your|my|this|its|a)\s+)?(?:\b(?:one|last|final)\s+)*\bconclusion line\b"
    r"(?:\s+(?:is|reads|says|states|(?:should|would|must|will) be)\b)?\s*[:：]?\s*"
    rf"(?:{_STATED}|{_QUOTES}{_DECISION}[.!]?{_QUOTES})?"
)
_ECHO = re.compile(rf"{_NAMED}|{_STATED}|{_LABEL}", re.IGNORECASE)


def without_echo(text: str) -> str:
    """Cut the prompt's words on the conclusion, and a conclusion that stands among others.

    Example:
        `They differ. The conclusion line is "Conclusion: YES" because one may vote.` becomes
        `They differ. because one may vote.`
    """
    lines = []
    for line in text.splitlines():
        cut = _ECHO.sub("", line)
        if cut == line:
            lines.append(line)
        elif cut.strip(" .:;,-"):
            lines.append(re.sub(r" {2,}", " ", cut).strip())
    return "\n".join(lines).strip()
