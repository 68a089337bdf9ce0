"""The setting POLICY picks policies, a merchant's own among them; what it names must be there."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from worker.policies import open_policies, policies_of
from worker.settings import Settings, SettingsError
from worker.settings.policies import PLAIN


def names_of(text: str) -> list[str]:
    return [policy.name for policy in open_policies(text)]


def settings_of(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


@pytest.mark.parametrize("name", PLAIN)
def test_every_name_that_the_settings_know_is_a_policy(name: str) -> None:
    """And it is the policy's own name."""
    assert names_of(name) == [name]


def test_several_are_opened_in_their_order() -> None:
    """White space around them does not count; `manual` among them adds nothing."""
    assert names_of("capture-when-authorised, manual ,capture-after:2d") == [
        "capture-when-authorised",
        "manual",
        "capture-after",
    ]


def test_what_is_not_written_as_it_should_be_is_refused_here_too() -> None:
    """With the sentence that the settings would say."""
    with pytest.raises(ValueError, match=r"it is manual, capture-when-authorised, capture-after:DELAY"):
        open_policies("capture-when-captured")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("no.such.module:function", "no.such.module:function cannot be imported (ModuleNotFoundError)"),
        ("json:no_such_name", "json:no_such_name cannot be imported (AttributeError)"),
        ("json:__name__", "json:__name__ must be a function of a payment"),
    ],
)
def test_a_function_that_is_not_there_is_told_by_its_path(path: str, told: str) -> None:
    """A name that leads nowhere, or to no function."""
    with pytest.raises(ValueError, match=r"cannot be imported|must be a function") as error:
        open_policies(f"manual,{path}")

    assert str(error.value) == told


def test_each_merchant_has_its_own(tmp_path: Path) -> None:
    """Those of the file; one that names none has `manual`, whatever the setting says."""
    merchants = tmp_path / "merchants.toml"
    merchants.write_text(
        '[[merchant]]\nid = "one"\napi_key_id = "k"\napi_secret = "s"\n'
        '[[merchant]]\nid = "two"\napi_key_id = "k"\napi_secret = "s"\npolicy = "capture-after:36h"\n'
    )

    policies = policies_of(settings_of(merchants_file=merchants, policy="capture-when-authorised"))

    assert {merchant: [policy.name for policy in own] for merchant, own in policies.items()} == {
        "one": ["manual"],
        "two": ["capture-after"],
    }


def test_what_a_merchant_names_in_vain_stops_the_start(tmp_path: Path) -> None:
    """The message says where it stands: the setting, or the merchant of the file."""
    merchants = tmp_path / "merchants.toml"
    table = '[[merchant]]\nid = "one"\napi_key_id = "k"\napi_secret = "s"\n'
    merchants.write_text(f'{table}policy = "no.such.module:function"\n')
    one = settings_of(merchant_id="one", api_key_id="k", api_secret=SecretStr("s"), policy="no.such.module:function")

    with pytest.raises(SettingsError) as of_the_setting:
        policies_of(one)
    with pytest.raises(SettingsError) as of_the_file:
        policies_of(settings_of(merchants_file=merchants))

    said = "no.such.module:function cannot be imported (ModuleNotFoundError)"
    assert str(of_the_setting.value) == f"PAYHOOK_POLICY: {said}"
    assert str(of_the_file.value) == f"merchant one: policy: {said}"


def test_settings_alone_import_nobodys_module() -> None:
    """The ingress reads the same settings, and has no business with what they name."""
    settings = settings_of(
        merchant_id="one", api_key_id="k", api_secret=SecretStr("s"), policy="no.such.module:function"
    )

    assert settings.merchants["one"].policy == "no.such.module:function"
