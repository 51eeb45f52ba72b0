"""What a template is given is in the prompt, and what it adds of its own is the same every day."""

import datetime

import pytest

from dart_jax.model.chat_template import switches_thinking
from dart_jax.model.config import ModelConfig

BODY = (
    "{% for m in messages %}<head>{{ m.role }}</head>{{ m.content | trim }}<eot>{% endfor %}"
    "{% if add_generation_prompt %}<head>assistant</head>{% endif %}"
)
DATED = "{{ 'Today: ' + strftime_now('%d %b %Y') + '\n' }}" + BODY
SYSTEM = {"role": "system", "content": "It is so."}
USER = {"role": "user", "content": " is it so\n"}
DAY = datetime.date(2025, 3, 7)


def test_white_space_around_a_message_may_be_missing(chat_tokenizer):
    tokenizer = chat_tokenizer(BODY)
    text = tokenizer.decode(tokenizer.encode_prompt([SYSTEM, USER]))
    assert text == "systemIt is so.useris it soassistant"


def test_a_template_that_leaves_the_system_message_out(chat_tokenizer):
    only_users = "{% for m in messages if m.role != 'system' %}" + BODY.partition("%}")[2]
    tokenizer = chat_tokenizer(only_users)
    assert tokenizer.encode_prompt([USER])
    with pytest.raises(
        ValueError,
        match=r"^D1-7: here: the chat template leaves out message 1 of system, user; use",
    ):
        tokenizer.encode_prompt([SYSTEM, USER], row="D1-7")
    # Its text is in the prompt, in another's.
    with pytest.raises(ValueError, match=r"leaves out message 1"):
        tokenizer.encode_prompt([{"role": "system", "content": "it"}, USER])


def test_a_template_that_leaves_a_later_turn_out(chat_tokenizer):
    tokenizer = chat_tokenizer(BODY.replace("messages %}", "messages[-1:] %}", 1))
    with pytest.raises(ValueError, match=r"leaves out message 1 of user, assistant, user"):
        tokenizer.encode_prompt([USER, {"role": "assistant", "content": "so"}, USER])


def test_a_template_that_changes_a_text(chat_tokenizer):
    tokenizer = chat_tokenizer(BODY.replace("| trim", "| replace('<b>', '')"))
    assert tokenizer.encode_prompt([USER])
    with pytest.raises(ValueError, match=r"changes the text of message 2 \(user\), 'a <b> c'"):
        tokenizer.encode_prompt([SYSTEM, {"role": "user", "content": "a <b> c"}])


@pytest.mark.parametrize(
    "refusal", ["{{ raise_exception('System role not supported') }}", "{{ nothing.there }}"]
)
def test_a_template_that_refuses_a_system_message(refusal, chat_tokenizer):
    """Gemma's and some of Mistral's: a message that says what to do, and no traceback."""
    checked = f"{{% if messages[0].role == 'system' %}}{refusal}{{% endif %}}" + BODY
    tokenizer = chat_tokenizer(checked)
    assert tokenizer.encode_prompt([USER])
    with pytest.raises(
        ValueError, match=r"here: the chat template refuses messages of system, user"
    ) as raised:
        tokenizer.encode_prompt([SYSTEM, USER])
    assert "change chat_template in its tokenizer_config.json" in str(raised.value)


def test_a_template_with_an_error_in_it(chat_tokenizer):
    with pytest.raises(ValueError, match="here: the chat template refuses messages of user"):
        chat_tokenizer("{% for m in messages %}").encode_prompt([USER])


def test_the_day_is_the_one_that_was_given(chat_tokenizer):
    first, again, later = (
        chat_tokenizer(DATED, date=day) for day in (DAY, DAY, DAY + datetime.timedelta(1))
    )
    prompt = first.encode_prompt([SYSTEM, USER])
    assert first.decode(prompt).startswith("Today: 07 Mar 2025\n")
    assert again.encode_prompt([SYSTEM, USER]) == prompt
    assert later.encode_prompt([SYSTEM, USER]) != prompt
    assert chat_tokenizer(DATED).date == datetime.date.today()


def test_a_template_without_a_date_is_the_same_on_all_days(chat_tokenizer):
    """Llama 3.1's, too, which has a date of its own where nobody sets `date_string`."""
    fixed = (
        "{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
        "{{ date_string }}" + BODY
    )
    for template in (BODY, fixed):
        first, later = (
            chat_tokenizer(template, date=day) for day in (DAY, DAY + datetime.timedelta(1))
        )
        assert first.encode_prompt([USER]) == later.encode_prompt([USER])


@pytest.mark.parametrize(
    "form",
    [
        "%d %b %Y",
        "%Y-%m-%d",
        "%B %-d, %Y",
        "%A, %d.%m.%y",
        "%H:%M:%S",
        "%j %U %% %a",
        "no date",
        "",
    ],
)
def test_every_directive_is_strftimes(form, chat_tokenizer):
    template = (
        "{% if strftime_now is defined %}" + f"{{{{ strftime_now({form!r}) }}}}" + "{% endif %}"
    )
    tokenizer = chat_tokenizer(template + BODY, date=DAY)
    moment = datetime.datetime(2025, 3, 7)
    expected = f"{moment.strftime(form)}useris it soassistant"
    assert tokenizer.decode(tokenizer.encode_prompt([USER])) == expected


@pytest.mark.parametrize("lead", ["", "\n", "  ", "  {%- if true %}{% endif %}\n\n", "{# so #}\n"])
def test_what_surrounds_the_date_is_as_without_a_fixed_one(lead, chat_tokenizer):
    """As transformers renders it by its own clock, whose day is in no case this one."""
    template = f"{lead}{DATED}\n"
    tokenizer = chat_tokenizer(template, date=DAY)
    by_the_clock = tokenizer._tokenizer.apply_chat_template(
        [SYSTEM, USER], tokenize=False, add_generation_prompt=True
    )
    today = datetime.date.today().strftime("%d %b %Y")
    assert tokenizer._template.prompt([SYSTEM, USER]) == by_the_clock.replace(today, "07 Mar 2025")


@pytest.mark.parametrize("given", ["today", "2025-13-01", "2025-3-7", "07.03.2025", "20250307", ""])
def test_a_date_that_is_none(given):
    with pytest.raises(ValueError, match=r"model\.date: .*give "):
        ModelConfig(date=given)


THINKS = "<think>\n\n</think>\n\n"
# Of Qwen3's form: an empty block before the last answer, and in a prompt where the switch is off.
SWITCHED = (
    "{% for m in messages %}{{ '<head>' + m.role + '\n' }}"
    f"{{% if m.role == 'assistant' and loop.last %}}{{{{ {THINKS!r} }}}}{{% endif %}}"
    "{{ m.content }}{{ '<eot>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<head>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    f"{{{{ {THINKS!r} }}}}{{% endif %}}{{% endif %}}"
)


def test_a_switch_for_thinking_is_off(chat_tokenizer, ids_of, tmp_path):
    """Prompt and completion are the template's whole conversation, up to the end of turn."""
    tokenizer = chat_tokenizer(SWITCHED, added=["<think>", "</think>"])
    tokenizer.save(tmp_path)
    assert switches_thinking(tmp_path)
    talk = [{"role": "user", "content": "is it so"}]
    whole = f"<head>user\nis it so<eot>\n<head>assistant\n{THINKS}It is so.<eot>"
    parts = tokenizer.encode_prompt(talk) + tokenizer.encode_completion("It is so.")
    assert parts == ids_of(tokenizer, whole)
    assert tokenizer.end_of_turn == tokenizer.control_tokens["<eot>"]

    # In a text the tags are ordinary characters, as every name of a control token is.
    tags = {tokenizer.control_tokens[name] for name in ("<think>", "</think>")}
    assert not tags & set(tokenizer.encode_completion("<think>so</think> It is so."))
    assert tags <= set(tokenizer.encode_prompt(talk))


def test_a_template_that_can_only_think_is_refused(chat_tokenizer):
    """It opens a block in every prompt, and closes one in front of the answer that it is given."""
    opening = "{% if add_generation_prompt %}{{ '<head>assistant\n<think>\n' }}{% endif %}"
    always = SWITCHED.partition("{% if add_generation_prompt %}")[0] + opening
    with pytest.raises(ValueError, match="the chat template rewrites the assistant's answer"):
        chat_tokenizer(always, added=["<think>", "</think>"]).check()
