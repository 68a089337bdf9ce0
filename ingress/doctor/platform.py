"""Lines about the platform, for each merchant: whether it knows us, its clock, and what keeps us from asking it."""

from functools import partial

from ingress.doctor.installation import Installation
from ingress.doctor.lines import Finding, Line, NotAsked, failed, ok, unknown, warning
from worker.gateways.gateway import CredentialsRefused
from worker.settings import PREFIX

#: How far our clock may be from the platform's, in seconds. It refuses every request beyond 5 minutes.
SKEWED_SECONDS, REFUSED_SECONDS = 60.0, 300.0

SET_THE_CLOCK = "set this machine's clock: `timedatectl set-ntp true`"


def lines(of: Installation) -> list[Line]:
    told = []
    for merchant_id in of.merchants or (None,):
        told += [
            Line("credentials", partial(credentials, of, merchant_id), merchant_id, late=_late(of, merchant_id)),
            Line("clock", partial(clock, of, merchant_id), merchant_id),
            Line("circuit", partial(circuit, of, merchant_id), merchant_id),
            Line("budget", partial(budget, of, merchant_id), merchant_id),
        ]
    return told


def credentials(of: Installation, merchant_id: str | None) -> Finding:
    """Whether the platform knows us."""
    at = known(of, merchant_id)
    contact = of.contact(at)
    if contact.refusal is None:
        return ok(f"{_host(of, at)} knows us")
    if isinstance(contact.refusal, CredentialsRefused):
        told = f"{_host(of, at)} refuses us: {contact.refusal.told}"
        is_clock = contact.skew_seconds is not None and abs(contact.skew_seconds) >= REFUSED_SECONDS
        return failed(told, SET_THE_CLOCK if is_clock else _right_credentials(of, at))
    return failed(f"{_host(of, at)} gives no answer: {contact.refusal.told}", _reach(of, at))


def clock(of: Installation, merchant_id: str | None) -> Finding:
    """Whether our clock is the platform's."""
    at = known(of, merchant_id)
    contact = of.contact(at)
    if contact.skew_seconds is None:
        if contact.refusal is not None:
            raise NotAsked("the platform gives no answer", f"credentials {at}")
        return unknown("its answer did not tell the time", "compare this machine's clock with another: `timedatectl`")
    off = abs(contact.skew_seconds)
    told = f"{off:.0f} s {'ahead of' if contact.skew_seconds > 0 else 'behind'} the platform's"
    if off >= REFUSED_SECONDS:
        return failed(f"{told}: it refuses every request", SET_THE_CLOCK)
    if off >= SKEWED_SECONDS:
        return warning(f"{told}: beyond {REFUSED_SECONDS:.0f} s it refuses every request", SET_THE_CLOCK)
    return ok(told if off >= 2 else "as the platform's")  # its time has whole seconds, and took its time to come


def circuit(of: Installation, merchant_id: str | None) -> Finding:
    """Whether the workers ask the platform at all."""
    at = known(of, merchant_id)
    found = [one for one in of.standing().circuits if one.merchant_id == at]
    if not found:
        return ok("closed: the platform is asked")
    since, next_try = (f"{time:%Y-%m-%d %H:%M:%S} UTC" for time in (found[0].since, found[0].next_try))
    return failed(
        f"open since {since}, next try {next_try}: {found[0].why}",
        f'mend what "credentials {at}" says; the first request that gets through closes it',
    )


def budget(of: Installation, merchant_id: str | None) -> Finding:
    """Whether the platform has asked for fewer requests."""
    at = known(of, merchant_id)
    factor = of.standing().slowed.get(at)
    whole = of.settings.budget_per_second
    if factor is None:
        return ok(f"{whole:g} requests a second")
    pace = whole * factor
    return warning(
        f"{pace:.3g} requests a second in place of {whole:g}: the platform answered 429",
        f"set {PREFIX}BUDGET_PER_SECOND={max(1.0, whole / 2):g} if it goes on; by itself it doubles every minute",
    )


def known(of: Installation, merchant_id: str | None) -> str:
    """The merchant a line is about.

    Raises:
        NotAsked: there is none that can be read.
    """
    if merchant_id is None:
        raise NotAsked("no merchant can be read from the settings", "settings")
    return merchant_id


def _host(of: Installation, merchant_id: str) -> str:
    return of.gateways()[merchant_id].host


def _right_credentials(of: Installation, merchant_id: str) -> str:
    where = "the platform's portal (test and live have different ones)"
    if of.settings.merchants_file is not None:
        return f"set api_key_id and api_secret of {merchant_id} in {of.settings.merchants_file} to those of {where}"
    return f"set {PREFIX}API_KEY_ID and {PREFIX}API_SECRET to those of {where}"


def _reach(of: Installation, merchant_id: str) -> str:
    return f"see that this machine reaches {_host(of, merchant_id)}, or correct {PREFIX}API_ENDPOINT"


def _late(of: Installation, merchant_id: str | None) -> Finding | None:
    if merchant_id is None:
        return None
    endpoint = of.merchants[merchant_id].api_endpoint
    return failed(f"{endpoint} gives no answer in time", f"see that this machine reaches {endpoint}")
