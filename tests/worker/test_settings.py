"""What a process is told by its environment: defaults, files, and one sentence for everything that is wrong."""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from worker.settings import SECRETS, Merchant, Settings, SettingsError, load_settings, setting_names

CANARY = "canary-1f9b07"

TEST_ENDPOINT = "https://payment.preprod.direct.worldline-solutions.com"

# The contract: other people's files name these.
DEFAULTS = {
    "DATABASE_URL": "sqlite:///payhook.db",
    "BROKER_URL": "memory://",
    "RESULT_BACKEND": None,
    "KEY_STORE": "database:",
    "WEBHOOK_KEYS": None,
    "ENCRYPTION_KEYS": None,
    "MERCHANT_ID": None,
    "API_KEY_ID": None,
    "API_SECRET": None,
    "API_ENDPOINT": TEST_ENDPOINT,
    "SDK_PROPERTIES": None,
    "MERCHANTS_FILE": None,
    "POLICY": "manual",
    "LOG_FORMAT": None,
}

ONE_MERCHANT = {"MERCHANT_ID": "acme", "API_KEY_ID": "key", "API_SECRET": "secret"}

Environment = Callable[..., None]


@pytest.fixture(autouse=True)
def _a_folder_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor a ``.env`` of the machine the tests run on."""
    import os

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("PAYHOOK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Sets names of ours, without their prefix."""

    def set_names(**values: object) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"PAYHOOK_{name}", str(value))

    return set_names


@pytest.fixture
def refusal() -> Callable[[], str]:
    """What is said when the settings are read, merchants included, and refused."""

    def read() -> str:
        with pytest.raises(SettingsError) as told:
            load_settings().merchants  # noqa: B018
        return str(told.value)

    return read


def shown(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def write_merchants(text: str) -> None:
    Path("merchants.toml").write_text(text)


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items())
def test_each_setting_has_its_default(name: str, default: str | None) -> None:
    """With nothing set, payhook is one process on SQLite that reaches the platform's test endpoint."""
    settings = load_settings()

    assert shown(getattr(settings, name.lower())) == default


def test_every_setting_carries_the_prefix(environment: Environment) -> None:
    """``PAYHOOK_`` goes before every name, and a name without it is not ours."""
    environment(MERCHANT_ID="acme")

    assert load_settings().merchant_id == "acme"
    assert all(name.startswith("PAYHOOK_") for name in setting_names())
    assert {f"PAYHOOK_{name}" for name in DEFAULTS} <= set(setting_names())


def test_a_name_without_the_prefix_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program's DATABASE_URL is not ours."""
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://other@host/name")

    assert shown(load_settings().database_url) == DEFAULTS["DATABASE_URL"]


def test_settings_are_read_from_a_file_beside_the_process() -> None:
    """``.env`` needs no export."""
    Path(".env").write_text("PAYHOOK_MERCHANT_ID=from-file\nOTHER=thing\n")

    assert load_settings().merchant_id == "from-file"


def test_the_environment_goes_before_the_file(environment: Environment) -> None:
    """What an operator sets for one start holds for that start."""
    Path(".env").write_text("PAYHOOK_MERCHANT_ID=from-file\nPAYHOOK_API_KEY_ID=file-key\n")
    environment(MERCHANT_ID="from-environment")

    settings = load_settings()

    assert (settings.merchant_id, settings.api_key_id) == ("from-environment", "file-key")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("DATABASE_URI", "PAYHOOK_DATABASE_URL"),
        ("BROKERURL", "PAYHOOK_BROKER_URL"),
        ("MERCHANTID", "PAYHOOK_MERCHANT_ID"),
        ("API_SECRETFILE", "PAYHOOK_API_SECRET_FILE"),
        ("POLICYY", "PAYHOOK_POLICY"),
        ("merchant_idd", "PAYHOOK_MERCHANT_ID"),
    ],
)
def test_an_unknown_name_stops_the_start_and_the_right_one_is_named(
    environment: Environment, refusal: Callable[[], str], wrong: str, right: str
) -> None:
    """A misspelt setting would otherwise be a default nobody chose."""
    environment(**{wrong: CANARY})

    told = refusal()

    assert told == f"PAYHOOK_{wrong.upper()} is not a setting; did you mean {right}?"


def test_an_unknown_name_in_the_file_stops_the_start_too(refusal: Callable[[], str]) -> None:
    """Where a name was misspelt makes no difference."""
    Path(".env").write_text(f"PAYHOOK_API_SECRETS={CANARY}\n")

    assert refusal() == "PAYHOOK_API_SECRETS is not a setting; did you mean PAYHOOK_API_SECRET?"


def test_a_name_like_no_other_points_to_the_list(environment: Environment, refusal: Callable[[], str]) -> None:
    """No suggestion is better than a wrong one."""
    environment(QQQQQQQQQQQQ="1")

    assert refusal() == "PAYHOOK_QQQQQQQQQQQQ is not a setting; docs/settings.md lists every name"


def test_everything_that_is_wrong_is_told_at_once(environment: Environment, refusal: Callable[[], str]) -> None:
    """Three mistakes are mended in one go, not in three starts."""
    environment(POLICYY="x", BROKER_URL="kafka://host", API_ENDPOINT="ftp://host")

    lines = refusal().splitlines()

    assert [line.split(" ")[0].rstrip(":") for line in lines] == [
        "PAYHOOK_POLICYY",
        "PAYHOOK_BROKER_URL",
        "PAYHOOK_API_ENDPOINT",
    ]


FITTING = {
    "database_url": "postgresql+psycopg://payhook:{}@host/payhook",
    "broker_url": "amqp://payhook:{}@host//",
    "result_backend": "redis://:{}@host/1",
    "webhook_keys": "id={}",
    "encryption_keys": "{}",
    "api_secret": "{}",
}


def test_every_value_that_may_carry_a_password_is_a_secret() -> None:
    """The list of those that can also be given as a file."""
    assert set(SECRETS) == set(FITTING)


@pytest.mark.parametrize("field", SECRETS)
def test_every_secret_can_be_a_file(environment: Environment, tmp_path: Path, field: str) -> None:
    """``…_FILE`` names a file; the line end that an editor leaves is no part of the secret."""
    value = FITTING[field].format(CANARY)
    (tmp_path / "secret").write_text(value + "\n")
    environment(**{f"{field.upper()}_FILE": tmp_path / "secret"})

    assert shown(getattr(load_settings(), field)) == value


@pytest.mark.parametrize("field", SECRETS)
def test_a_secret_given_twice_is_an_error(
    environment: Environment, refusal: Callable[[], str], tmp_path: Path, field: str
) -> None:
    """Which of the two was meant cannot be told."""
    name = field.upper()
    (tmp_path / "secret").write_text(FITTING[field].format(CANARY))
    environment(**{name: FITTING[field].format("other"), f"{name}_FILE": tmp_path / "secret"})

    assert refusal() == f"PAYHOOK_{name} and PAYHOOK_{name}_FILE are both set; keep one of them"


@pytest.mark.parametrize("field", SECRETS)
@pytest.mark.parametrize(("content", "error"), [(None, "FileNotFoundError"), (b"\xff\xfe", "UnicodeDecodeError")])
def test_a_secret_file_that_cannot_be_read_is_a_sentence(
    environment: Environment, refusal: Callable[[], str], field: str, content: bytes | None, error: str
) -> None:
    """The name, the path and the kind of trouble; never a traceback."""
    if content is not None:
        Path("secret").write_bytes(content)
    environment(**{f"{field.upper()}_FILE": "secret"})

    assert refusal() == f"PAYHOOK_{field.upper()}_FILE: secret cannot be read ({error})"


def test_a_secret_file_that_is_no_file_is_a_sentence(environment: Environment, refusal: Callable[[], str]) -> None:
    """Neither a folder nor an empty name can be read."""
    environment(API_SECRET_FILE="")

    assert refusal() == "PAYHOOK_API_SECRET_FILE:  cannot be read (IsADirectoryError)"


def test_a_secret_file_can_be_named_in_the_settings_file(tmp_path: Path) -> None:
    """``.env`` may name where the secret is, without holding it."""
    (tmp_path / "secret").write_text(CANARY)
    Path(".env").write_text("PAYHOOK_API_SECRET_FILE=secret\n")

    assert shown(load_settings().api_secret) == CANARY


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DATABASE_URL", "nonsense", "not a database URL; for example postgresql+psycopg://user@host/name"),
        ("DATABASE_URL", "", "not a database URL; for example postgresql+psycopg://user@host/name"),
        (
            "DATABASE_URL",
            "mysql://host/name",
            "a database of another kind; use sqlite:///FILE or postgresql+psycopg://…",
        ),
        (
            "BROKER_URL",
            "filesystem://",
            "a broker of another kind; use amqp://…, redis://… or memory:// (one process)",
        ),
        (
            "BROKER_URL",
            "sqla+sqlite:///x",
            "a broker of another kind; use amqp://…, redis://… or memory:// (one process)",
        ),
        ("BROKER_URL", "", "a broker of another kind; use amqp://…, redis://… or memory:// (one process)"),
        ("API_ENDPOINT", "http://payment.example", "http is for this machine only; the platform is reached by https"),
        ("API_ENDPOINT", "http://localhost.example", "http is for this machine only; the platform is reached by https"),
        ("API_ENDPOINT", "http://127.0.0.1@evil.example", "http is for this machine only"),
        ("API_ENDPOINT", "ftp://payment.example", "not scheme://host[:port] without a path"),
        ("API_ENDPOINT", "payment.example", "not scheme://host[:port] without a path"),
        ("API_ENDPOINT", "https://payment.example/", "not scheme://host[:port] without a path"),
        ("API_ENDPOINT", "https://payment.example/v2", "not scheme://host[:port] without a path"),
        ("API_ENDPOINT", "https://", "not scheme://host[:port] without a path"),
        ("API_ENDPOINT", "https://:443", "not scheme://host[:port] without a path"),
        ("LOG_FORMAT", "xml", "Input should be 'console' or 'json'"),
        ("LEASE_SECONDS", "soon", "Input should be a valid number"),
        ("LEASE_SECONDS", "0", "Input should be greater than 0"),
        ("PLATFORM_THREADS", "257", "Input should be less than or equal to 256"),
        ("SWEEP_LIMIT", "-1", "Input should be greater than 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(
    environment: Environment, refusal: Callable[[], str], name: str, value: str, told: str
) -> None:
    """One line, beginning with the name of the setting."""
    environment(**{name: value})

    assert refusal().startswith(f"PAYHOOK_{name}: {told}")
    assert "\n" not in refusal()


@pytest.mark.parametrize(
    "value",
    [
        "https://payment.preprod.direct.worldline-solutions.com",
        "https://payment.example:8443",
        "http://127.0.0.1:8081",
        "http://localhost:8081",
    ],
)
def test_the_platform_is_reached_by_https_or_on_this_machine(environment: Environment, value: str) -> None:
    """A sandbox runs on this machine; everything else is encrypted."""
    environment(API_ENDPOINT=value)

    assert load_settings().api_endpoint == value


def test_this_machine_may_be_named_by_its_ipv6_address(environment: Environment) -> None:
    """``[::1]`` is this machine."""
    environment(API_ENDPOINT="http://[::1]:8081")

    assert load_settings().api_endpoint == "http://[::1]:8081"


def test_http_to_another_machine_cannot_look_like_this_one(environment: Environment) -> None:
    """``localhost:80@evil.example`` is evil.example: API secrets would sign requests sent there in the clear."""
    environment(API_ENDPOINT="http://localhost:80@evil.example")

    with pytest.raises(SettingsError, match="http is for this machine only"):
        load_settings()


@pytest.mark.parametrize("after", ["?x=1", "#x", " ", ":99999", ":x", "\nX: y"])
def test_an_address_is_a_host_and_a_port_and_nothing_else(environment: Environment, after: str) -> None:
    """A query, a fragment, white space or a port that is none stops the start, not the first request."""
    environment(API_ENDPOINT=f"https://payment.example{after}")

    with pytest.raises(SettingsError, match="PAYHOOK_API_ENDPOINT"):
        load_settings()


@pytest.mark.parametrize(
    "value",
    [
        "manual",
        "capture-when-authorised",
        "capture-after:45s",
        "some.module:function",
        "module:function",
        "capture-when-authorised,capture-after:2d, package.module:function,manual",
        f"module:{'f' * 50}",
    ],
)
def test_a_policy_is_taken_as_it_is_written(environment: Environment, value: str) -> None:
    """Whether a function is there is found out by the worker, which calls it."""
    environment(**ONE_MERCHANT, POLICY=value)

    assert load_settings().merchants["acme"].policy == value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "it is manual, capture-when-authorised, capture-after:DELAY"),
        ("capture-when-captured", "package.module:function; or several of them with commas between"),
        ("manual,", "it is manual"),
        ("Manual", "it is manual"),
        ("package.module", "it is manual"),
        ("package..module:function", "it is manual"),
        (".module:function", "it is manual"),
        ("module:", "it is manual"),
        ("module:class.method", "it is manual"),
        ("module:function:x", "it is manual"),
        ("manual:2d", "it is manual"),
        ("capture-after", "capture-after needs its delay"),
        ("capture-after:", "capture-after needs its delay"),
        ("capture-after:0d", "capture-after needs its delay"),
        ("capture-after:2", "capture-after needs its delay"),
        ("capture-after:2w", "capture-after needs its delay"),
        ("capture-after:1.5h", "capture-after needs its delay"),
        ("capture-after:-2d", "capture-after needs its delay"),
        ("capture-after:\u0662d", "capture-after needs its delay"),
        ("capture-after:1000000d", "capture-after needs its delay"),
        ("capture-after:1d,capture-after:2d", "it names a policy twice"),
        ("manual,a.b:c,manual", "it names a policy twice"),
        (f"module:{'f' * 51}", "package.module:function has 57 characters at most"),
    ],
)
def test_a_policy_that_is_not_written_as_it_should_be_stops_the_start(
    environment: Environment, refusal: Callable[[], str], value: str, told: str
) -> None:
    """Silently not carried out, it would be money not moved."""
    environment(POLICY=value)

    said = refusal()

    assert said.startswith("PAYHOOK_POLICY: ")
    assert told in said


@pytest.mark.parametrize(
    ("call", "claim", "lease", "fits"),
    [(15, 40, 60, True), (40, 40, 60, True), (41, 40, 60, False), (15, 60, 60, False), (15, 61, 60, False)],
)
def test_a_lease_outlasts_everything_done_under_it(
    environment: Environment, call: int, claim: int, lease: int, fits: bool
) -> None:
    """Call ≤ claim < lease, or two workers may hold one payment."""
    environment(CALL_SECONDS=call, CLAIM_SECONDS=claim, LEASE_SECONDS=lease)

    if fits:
        assert load_settings().lease_seconds == lease
    else:
        with pytest.raises(SettingsError, match="CALL_SECONDS ≤ CLAIM_SECONDS < LEASE_SECONDS"):
            load_settings()


@pytest.mark.parametrize("value", ["15,900", "soon", ""])
def test_a_value_of_several_parts_that_cannot_be_read_is_a_sentence(environment: Environment, value: str) -> None:
    """A pair is written ``[15, 900]``; anything else names the setting."""
    environment(POLL_MOVING_SECONDS=value)

    with pytest.raises(SettingsError, match="PAYHOOK_POLL_MOVING_SECONDS"):
        load_settings()


@pytest.mark.parametrize("value", ["[900, 15]", "[0, 900]", "[-1, 900]"])
def test_polling_goes_from_the_shorter_to_the_longer(environment: Environment, value: str) -> None:
    """A shortest wait of nothing would fetch one payment without end."""
    environment(POLL_MOVING_SECONDS=value)

    with pytest.raises(SettingsError, match="PAYHOOK_POLL_MOVING_SECONDS"):
        load_settings()


def test_a_settings_file_that_cannot_be_read_is_a_sentence() -> None:
    """It names the file."""
    Path(".env").write_bytes(b"PAYHOOK_POLICY=\xff\xfe\n")

    with pytest.raises(SettingsError, match=r"\.env"):
        load_settings()


@pytest.mark.parametrize("value", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_that_is_no_file_stops_the_start(environment: Environment, value: str) -> None:
    """What is kept in memory is lost with the process, and no other process sees it."""
    environment(DATABASE_URL=value)

    with pytest.raises(SettingsError, match="PAYHOOK_DATABASE_URL"):
        load_settings()


def test_one_merchant_comes_from_the_environment(environment: Environment) -> None:
    """Its endpoint and policy are those of the settings."""
    environment(**ONE_MERCHANT, API_ENDPOINT="https://payment.example")

    merchants = load_settings().merchants

    assert list(merchants) == ["acme"]
    assert merchants["acme"].api_endpoint == "https://payment.example"
    assert merchants["acme"].policy == "manual"
    assert shown(merchants["acme"].api_secret) == "secret"


@pytest.mark.parametrize("missing", ONE_MERCHANT)
@pytest.mark.parametrize("how", ["left out", "empty"])
def test_the_missing_part_of_a_merchant_is_named(
    environment: Environment, refusal: Callable[[], str], missing: str, how: str
) -> None:
    """Which of the three it is, and that there are three; an empty one is a missing one."""
    rest = {name: value for name, value in ONE_MERCHANT.items() if name != missing}
    environment(**rest, **({missing: ""} if how == "empty" else {}))

    told = refusal()

    assert told == f"PAYHOOK_{missing} is missing; a merchant needs its id, API key id and API secret"


def test_no_merchant_at_all_is_told_with_both_ways_to_give_one(refusal: Callable[[], str]) -> None:
    """One from the environment, several from a file."""
    assert refusal() == (
        "no merchant is set: give PAYHOOK_MERCHANT_ID, PAYHOOK_API_KEY_ID and PAYHOOK_API_SECRET, "
        "or PAYHOOK_MERCHANTS_FILE for several"
    )


@pytest.mark.parametrize("value", ["a/b", "a b", "a" * 65, "ü", "a?b"])
def test_a_merchant_id_is_fit_for_an_address(environment: Environment, refusal: Callable[[], str], value: str) -> None:
    """It becomes part of a URL, which the SDK does not escape."""
    environment(**{**ONE_MERCHANT, "MERCHANT_ID": value})

    assert refusal().startswith("the merchant's id: ")


def test_several_merchants_come_from_a_file(environment: Environment, tmp_path: Path) -> None:
    """A secret of its own or in a file of its own; endpoint and policy by default as everywhere."""
    (tmp_path / "second").write_text("second-secret\n")
    write_merchants(
        '[[merchant]]\nid = "one"\napi_key_id = "k1"\napi_secret = "first-secret"\n'
        'api_endpoint = "https://payment.example"\n'
        f'[[merchant]]\nid = "two"\napi_key_id = "k2"\napi_secret_file = "{tmp_path / "second"}"\npolicy = "manual"\n'
    )
    environment(MERCHANTS_FILE="merchants.toml")

    merchants = load_settings().merchants

    assert list(merchants) == ["one", "two"]
    assert [shown(merchant.api_secret) for merchant in merchants.values()] == ["first-secret", "second-secret"]
    assert [merchant.api_endpoint for merchant in merchants.values()] == ["https://payment.example", TEST_ENDPOINT]


FIRST = '[[merchant]]\nid = "one"\napi_key_id = "k"\napi_secret = "s"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'{FIRST}[[merchant]]\nid = "one"\napi_key_id = "k2"\napi_secret = "s2"\n', "names a merchant twice"),
        (f'{FIRST}colour = "red"\n', "merchant 1: colour: Extra inputs are not permitted"),
        (f'[[merchant]]\nid = "zero"\napi_key_id = "k"\n{FIRST}', "merchant 1: api_secret: Field required"),
        (f"{FIRST}[[merchant]]\n", "merchant 2: id: Field required"),
        (f'{FIRST}policy = "capture-at-once"\n', "merchant 1: policy: it is manual, capture-when-authorised"),
        (f'{FIRST}api_endpoint = "http://payment.example"\n', "merchant 1: api_endpoint: http is for this machine"),
        (
            '[[merchant]]\nid = "one"\napi_key_id = "k"\napi_secret_file = "none"\n',
            "api_secret_file: none cannot be read (FileNotFoundError)",
        ),
        ("", "holds no [[merchant]] tables"),
        ('[merchant]\nid = "one"\n', "holds no [[merchant]] tables"),
        (f"{FIRST}[other]\nx = 1\n", "holds no [[merchant]] tables, or something else too"),
        ("merchant = 1\n", "holds no [[merchant]] tables"),
        ("merchant = []\n", "holds no [[merchant]] tables"),
        ("not toml at all", "merchants.toml is not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_of_merchants_is_told(
    environment: Environment, refusal: Callable[[], str], text: str, told: str
) -> None:
    """Which merchant, and which part of it."""
    write_merchants(text)
    environment(MERCHANTS_FILE="merchants.toml")

    assert told in refusal()


@pytest.mark.parametrize("text", ["merchant = [1]\n", 'merchant = ["one"]\n'])
def test_a_merchant_that_is_no_table_is_told(environment: Environment, text: str) -> None:
    """A sentence, not a traceback."""
    write_merchants(text)
    environment(MERCHANTS_FILE="merchants.toml")

    with pytest.raises(SettingsError, match="merchant"):
        load_settings().merchants  # noqa: B018


def test_a_file_of_merchants_that_is_not_there_is_told(environment: Environment, refusal: Callable[[], str]) -> None:
    """Its setting and its path."""
    environment(MERCHANTS_FILE="merchants.toml")

    assert refusal() == "PAYHOOK_MERCHANTS_FILE: merchants.toml cannot be read (FileNotFoundError)"


def test_a_file_of_merchants_that_is_not_text_is_told(environment: Environment, refusal: Callable[[], str]) -> None:
    """TOML is UTF-8."""
    Path("merchants.toml").write_bytes(b"\xff")
    environment(MERCHANTS_FILE="merchants.toml")

    assert refusal() == "PAYHOOK_MERCHANTS_FILE: merchants.toml cannot be read (UnicodeDecodeError)"


def test_a_merchant_beside_a_file_of_merchants_is_an_error(environment: Environment) -> None:
    """Which of the two was meant cannot be told."""
    write_merchants(FIRST)
    environment(**ONE_MERCHANT, MERCHANTS_FILE="merchants.toml")

    with pytest.raises(SettingsError, match="PAYHOOK_MERCHANTS_FILE"):
        load_settings().merchants  # noqa: B018


def test_an_ingress_needs_no_merchant(environment: Environment) -> None:
    """Whether one is given can be asked without one; only asking for them insists."""
    assert not load_settings().names_merchants

    environment(MERCHANT_ID="acme")

    assert load_settings().names_merchants
    with pytest.raises(SettingsError):
        load_settings().merchants  # noqa: B018


@pytest.mark.parametrize(
    ("url", "embedded"), [("memory://", True), ("amqp://host", False), ("redis://host", False), ("rediss://h", False)]
)
def test_only_the_embedded_broker_stays_in_the_process(environment: Environment, url: str, embedded: bool) -> None:
    """Two processes cannot meet in it."""
    environment(BROKER_URL=url)

    assert load_settings().embedded_broker is embedded


def test_settings_do_not_change_once_read() -> None:
    """What a process was started with is what it runs with."""
    settings = load_settings()

    with pytest.raises(ValueError, match="frozen"):
        settings.merchant_id = "other"  # type: ignore[misc]


@pytest.mark.parametrize("field", SECRETS)
def test_no_secret_shows_in_any_text_of_the_settings(environment: Environment, field: str) -> None:
    """Neither printed, nor logged, nor dumped."""
    environment(**{**ONE_MERCHANT, field.upper(): FITTING[field].format(CANARY)})
    settings = load_settings()

    texts = [
        repr(settings),
        str(settings),
        f"{settings}",
        settings.model_dump_json(),
        repr(settings.model_dump()),
        repr(settings.merchants),
        str(settings.merchants["acme"]),
        settings.merchants["acme"].model_dump_json(),
        logging.Formatter().format(logging.LogRecord("x", logging.INFO, "x", 1, "%s", (settings,), None)),
    ]

    assert [text for text in texts if CANARY in text] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://user:{CANARY}@host/name"),
        ("DATABASE_URL", f"{CANARY}"),
        ("BROKER_URL", f"kafka://user:{CANARY}@host"),
        ("API_ENDPOINT", f"http://user:{CANARY}@host"),
        ("POLICY", CANARY),
        ("POLICY", f"capture-after:{CANARY}"),
        ("LOG_FORMAT", CANARY),
        ("LEASE_SECONDS", CANARY),
        ("API_SECRETT", CANARY),
        ("MERCHANT_ID", f"/{CANARY}"),
    ],
)
def test_no_value_shows_in_what_is_said_of_it(environment: Environment, name: str, value: str) -> None:
    """A secret in the wrong place would otherwise be in a log: neither in the message nor in what it came from."""
    environment(**{**ONE_MERCHANT, name: value})

    with pytest.raises(SettingsError) as told:
        load_settings().merchants  # noqa: B018

    error: BaseException | None = told.value
    while error is not None:
        assert CANARY not in str(error) + repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_no_secret_of_the_file_of_merchants_shows_in_what_is_said_of_it(
    environment: Environment, refusal: Callable[[], str]
) -> None:
    """Also when the line that holds it is what is wrong."""
    write_merchants(f'[[merchant]]\nid = "one"\napi_key_id = 7\napi_secret = ["{CANARY}"]\nextra = "{CANARY}"\n')
    environment(MERCHANTS_FILE="merchants.toml")

    assert CANARY not in refusal()


def test_a_merchant_does_not_show_its_secret() -> None:
    """A merchant is part of many log lines' reach."""
    merchant = Merchant(id="acme", api_key_id="key", api_secret=SecretStr(CANARY))

    assert CANARY not in repr(merchant) + str(merchant) + merchant.model_dump_json()
    assert shown(merchant.api_secret) == CANARY
    assert CANARY.encode() not in repr(pickle.loads(pickle.dumps(merchant))).encode()


def test_values_given_in_code_go_before_the_environment(environment: Environment) -> None:
    """A command's own option wins."""
    environment(MERCHANT_ID="from-environment")

    assert load_settings(merchant_id="given").merchant_id == "given"
    assert Settings(merchant_id="given").merchant_id == "given"
