"""The tokenizer of a Hugging Face folder, as its tokenizer.json describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Classes that take tokenizer.json as it is; the second is transformers 5's name for the first.
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


def read_folder_tokenizer(folder: Path) -> Any:
    """A tokenizer of `transformers`.

    A folder's tokenizer_config.json may name a class, such as SmolLM2's `GPT2Tokenizer`. From
    transformers 5 on such a class takes vocabulary and merges from tokenizer.json and puts its own
    splitting and normalisation in the place of the file's, so that ordinary prompts get other ids
    than the model was trained with. Whatever class is named, the file is read as it is; a folder
    that has none is left to `transformers`.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    has_file = (folder / "tokenizer.json").is_file()
    reader = PreTrainedTokenizerFast if has_file else AutoTokenizer
    return reader.from_pretrained(folder, local_files_only=True)
