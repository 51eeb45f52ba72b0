"""Load the tokenizer of a Hugging Face folder as its tokenizer.json describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dart_jax.extras import without_advice_on_torch

# Classes that take tokenizer.json as it is; the second is transformers 5's name for the first.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


def read_folder_tokenizer(folder: Path) -> Any:
    """Load a tokenizer of `transformers`, whatever class the folder names for it.

    A folder's tokenizer_config.json may name a class, such as SmolLM2's `GPT2Tokenizer`. From
    transformers 5 on such a class takes vocabulary and merges from tokenizer.json but replaces the
    file's splitting and normalisation by its own, so that ordinary prompts get other ids than the
    model was trained with. So the class is ignored where there is a tokenizer.json; a folder
    without one is left to `transformers`.
    """
    without_advice_on_torch()
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    has_file = (folder / "tokenizer.json").is_file()
    reader = PreTrainedTokenizerFast if has_file else AutoTokenizer
    return reader.from_pretrained(folder, local_files_only=True)
