"""What a blinded text keeps of a model's words on the conclusion."""

import pytest

from dart_jax.prompts.echo import without_echo


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('Nepal.\n\nThe conclusion line is: "Conclusion: YES"', "Nepal."),
        (
            'They differ. The conclusion line is "Conclusion: YES" as we vote.',
            "They differ. as we vote.",
        ),
        ('The conclusion line is: "No."', ""),
        ("My final conclusion line: **NO**\nSo.", "So."),
        ('The conclusion line is "No, neither is."', '"No, neither is."'),
        ('The answer is "Conclusion: NO" since all may.', "The answer is since all may."),
        ('"Conclusion: Neither group."', '"Neither group."'),
    ],
)
def test_the_prompts_words_go_and_the_models_own_stay(text, shown):
    assert without_echo(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "This conclusion is a logical fallacy. In conclusion: both may.",
        "A line of no conclusion.\n\n  No, they may not.",
        "Both may vote: yes, both.",
    ],
)
def test_a_text_without_an_echo_is_left_as_it_is(text):
    assert without_echo(text) == text
