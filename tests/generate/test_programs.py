"""A call of the decoder compiles few programs, and calls in a row share them."""

from dataclasses import replace

from dart_jax.generate.config import DecodeConfig
from dart_jax.generate.decode import decode
from dart_jax.generate.engine import Programs, programs
from dart_jax.generate.plan import Request

# No other test has six slots, and with them its programs.
CONFIG = DecodeConfig(temperature=0.8, top_p=0.95, max_new_tokens=20, slots=6)
PROMPTS = [Request(f"q{n}", tuple(range(5 + n, 9 + 3 * n))) for n in range(8)]


def test_m0_beside_an_adapter_that_nobody_asks_runs_the_programs_of_the_pair(model, lora_params):
    """The audit has such calls: it asks M0 once more under another seed."""
    run = programs(model.mesh)

    def compiled():
        return Programs(*(program._cache_size() for program in run))

    pair = {"M_int": (lora_params, 3.0)}
    asked = [replace(prompt, adapter=name) for prompt in PROMPTS for name in ("M0", "M_int")]
    before = compiled()
    decode(model, pair, asked, CONFIG, seed=5)
    after = compiled()
    new = Programs(*(now - was for now, was in zip(after, before, strict=True)))
    assert new == Programs(
        empty_slots=1, prefill_prefix=0, prefill=1, admit=1, decode_block=1, move=0
    )

    beside = decode(model, pair, PROMPTS, CONFIG, seed=6)
    assert compiled() == after
    assert beside == decode(model, {}, PROMPTS, CONFIG, seed=6)
    assert compiled() != after, "the base alone has programs of its own"
