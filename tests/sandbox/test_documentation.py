"""docs/sandbox.md names everything there is."""

import re
from pathlib import Path

import pytest

from sandbox import control, faults, platform_api, settings, triggers
from sandbox.payments import MOVES

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()


@pytest.mark.parametrize("route", [f"{method} {path}" for method, path in control.ROUTES])
def test_every_route_is_documented(route):
    """The control surface's routes stand in the page as they are called."""
    assert f"`{route}`" in PAGE


@pytest.mark.parametrize(("route", "endpoint"), platform_api.ROUTES.items())
def test_every_platform_call_is_documented(route, endpoint):
    """With its path and the name under which it is counted."""
    method, *segments = route

    assert f"| `{method} {'/'.join(segments).replace('*', '{id}')}` | `{endpoint.__name__}` |" in PAGE


@pytest.mark.parametrize(("kind", "amount"), triggers.OUTCOMES)
def test_every_amount_with_a_known_end_is_documented(kind, amount):
    """With the code it ends with."""
    code = getattr(MOVES[kind], triggers.OUTCOMES[kind, amount])
    lines = [line for line in PAGE.splitlines() if f"{kind} of {amount}" in line]

    assert any(re.search(rf"\b{code}\b", line) for line in lines)


@pytest.mark.parametrize("name", settings.names(settings.Settings()))
def test_every_setting_is_documented(name):
    """Those inside others with a dot, as the error messages call them."""
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", sorted(control.ORDER_NAMES))
def test_every_part_of_an_order_is_documented(name):
    """What POST /sandbox/payments takes."""
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", [*faults.Fault.model_fields, *faults.NAMED])
def test_every_fault_is_documented(name):
    """Its name, and each part of a rule."""
    assert f"`{name}`" in PAGE
