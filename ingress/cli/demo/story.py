"""The demo from its first line to its exit code."""

import hashlib
import hmac
import json
import shutil
import subprocess
import tempfile
import time
import uuid
from base64 import b64encode
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import requests

from ingress.cli.demo.children import ChildFailed, Children, free_port
from ingress.cli.demo.interruptions import Ended, Interruptions
from ingress.cli.demo.screen import Screen
from ingress.cli.demo.shop import ACTS, KEPT, ORDERS, Shop
from ingress.cli.demo.verdict import Claim, Fake, Look, Outage, claims, read_record
from ingress.signatures import KEY_ID_HEADER, SIGNATURE_HEADER
from sandbox import SandboxClient, SandboxRefused
from worker.database import Database

#: The usual run takes about 20 s. Then the verdict is given on what there is; a little later all is broken off.
VERDICT_SECONDS = 38.0
DEADLINE_SECONDS = 41.0

#: Between two acts of the shop, and between two looks: quick, and slow enough to be followed.
PACE_SECONDS = 0.1
CALL_SECONDS = 5.0
DATABASE_SECONDS = 5.0

#: What happens before which of the shop's acts: payhook is dead for a quarter of them, with webhooks under way.
FAKES_AT, KILL_AT, AGAIN_AT = ACTS // 4, ACTS // 2, ACTS * 3 // 4
ASK_AT = KILL_AT + 1

#: Each webhook twice, up to a second late and in no order; what is not acknowledged comes again within seconds, where
#: the platform takes ten minutes.
RETRY_SECONDS = [1.5] * 25
UNRULY = {"copies": 2, "delay_seconds": 1.0, "shuffle": True}


class Story:
    """What is going on: the processes, what is shown, and what has happened so far."""

    _payhook: subprocess.Popen[bytes]

    def __init__(self, children: Children, screen: Screen):
        self._children = children
        self._screen = screen
        self._sandbox = SandboxClient(f"http://127.0.0.1:{free_port()}")
        self._address = f"http://127.0.0.1:{free_port()}"
        self._webhooks = f"{self._address}/webhooks"
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy between us and this machine
        database = f"sqlite:///{children.folder / 'payhook.db'}"
        self._database = Database(database, connections=1, seconds=DATABASE_SECONDS, revision=None)
        self._env: dict[str, str] = {}
        self._key = ("", "")
        self._fakes: list[Fake] = []
        self._outage: Outage | None = None
        self._asking: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        self._http.close()
        self._database.close()
        self._sandbox.close()

    def play(self) -> list[Claim]:
        """All of it; what can be said of payhook afterwards."""
        merchant = self._set_up()
        self._screen.say("payhook up", "takes the webhooks, and asks the platform how each payment really stands.")
        self._start_payhook()
        self._children.wait_until(self._payhook, lambda: self._answers(f"{self._address}/health/ready"))
        with closing(Shop(self._sandbox, merchant)) as shop:
            self._trade(shop)
            return self._settle(shop)

    def _set_up(self) -> dict[str, str]:
        """The sandbox, the database and the webhook key; the merchant as the sandbox knows it."""
        self._screen.say("payhook sandbox", "plays the payment platform: its API, its webhooks, its ledger.")
        platform = self._children.start("sandbox", "sandbox", "--port", self._sandbox.url.rpartition(":")[2])
        self._screen.say("payhook migrate", "makes the database, one SQLite file: what is in it survives.")
        self._children.run("migrate", "migrate")
        self._children.wait_until(platform, lambda: self._answers(f"{self._sandbox.url}/sandbox"))
        about = self._sandbox.about()
        self._key = about["settings"]["webhooks"]["key_id"], about["settings"]["webhooks"]["secret"]
        self._sandbox.settings(retry_seconds=RETRY_SECONDS, webhooks={**UNRULY, "urls": [self._webhooks]})
        self._screen.say("payhook keys add", "keeps the secret that genuine webhooks are signed with, encrypted.")
        secret_file = self._children.folder / "webhook-secret"
        secret_file.write_text(self._key[1])
        self._children.run("keys", "keys", "add", self._key[0], "--secret-file", str(secret_file))
        merchant: dict[str, str] = about["merchants"][0]
        self._env = {
            "PAYHOOK_MERCHANT_ID": merchant["id"],
            "PAYHOOK_API_KEY_ID": merchant["api_key_id"],
            "PAYHOOK_API_SECRET": merchant["api_secret"],
            "PAYHOOK_API_ENDPOINT": self._sandbox.url,
        }
        return merchant

    def _start_payhook(self) -> None:
        port = self._address.rpartition(":")[2]
        self._payhook = self._children.start("payhook", "up", "--port", port, env=self._env)

    def _trade(self, shop: Shop) -> None:
        self._screen.say(
            f"{len(ORDERS)} payments",
            "through Worldline's SDK, then captures, refunds and cancellations as in the merchant's portal. Of every"
            " change a webhook tells, twice, late and out of order: the platform promises no better.",
        )
        at_act = {
            FAKES_AT: self._send_fakes,
            KILL_AT: self._kill,
            ASK_AT: lambda: self._ask(shop.made[KEPT]),
            AGAIN_AT: self._start_again,
        }
        for number, done in enumerate(shop.acts()):
            at_act.get(number, self._check)()
            self._screen.show(self._look(), len(shop.made), done)
            time.sleep(PACE_SECONDS)

    def _send_fakes(self) -> None:
        """Two webhooks that anyone could send who has found the address."""
        key_id, secret = self._key
        for what, signed_as, signed_with in (
            ("A forged webhook", key_id, "a guess"),
            ("A webhook signed with an unknown key", "a-key-nobody-added", secret),
        ):
            event_id = str(uuid.uuid4())
            body = _captured(event_id, self._env["PAYHOOK_MERCHANT_ID"])
            signature = b64encode(hmac.digest(signed_with.encode(), body, hashlib.sha256)).decode()
            headers = {"Content-Type": "application/json", KEY_ID_HEADER: signed_as, SIGNATURE_HEADER: signature}
            answer = self._http.post(self._webhooks, data=body, headers=headers, timeout=CALL_SECONDS)
            self._fakes.append(Fake(what, event_id, answer.status_code))
            self._screen.say(what, f"is answered {answer.status_code}. The address is public; the key is what counts.")

    def _kill(self) -> None:
        self._check()
        killed_at = self._screen.seconds
        exit_code = self._children.kill(self._payhook)
        look = self._look()
        open_events = len(look.stored - look.reconciled)
        self._outage = Outage(killed_at, exit_code, open_events)
        self._screen.say(
            "SIGKILL for payhook,",
            f"as in a power cut: {open_events} webhooks are stored and not yet worked off, "
            f"{look.deliveries['queued']} are on their way to a closed door. The shop goes on.",
        )

    def _ask(self, payment_id: str) -> None:
        """Two commands that ask for the same capture; nobody waits for them here."""
        self._screen.say(
            "payhook operations capture,",
            "twice, under one request id. It is stored, and waits for payhook to come back.",
        )
        words = ("operations", "capture", payment_id, "--request-id", "order-1-capture")
        self._asking = [self._children.start(f"capture-{number}", *words, env=self._env) for number in (1, 2)]

    def _start_again(self) -> None:
        assert self._outage is not None
        self._screen.say(
            "payhook up",
            "again, on the same file. What it had acknowledged it finds there; the platform sends the rest.",
        )
        self._outage = replace(self._outage, started_at=self._screen.seconds)
        self._start_payhook()

    def _settle(self, shop: Shop) -> list[Claim]:
        """Wait until every claim holds, or until there is no more time to wait."""
        assert self._outage is not None
        self._screen.say("The shop is done.", "payhook catches up by itself; nobody has to tell it what it missed.")
        while True:
            look = self._look()
            self._screen.show(look, len(shop.made), "catching up")
            asked = [child.poll() for child in self._asking]
            found = claims(look, self._fakes, self._outage, asked, len(ORDERS))
            if all(claim.holds for claim in found) or self._screen.seconds > VERDICT_SECONDS:
                return found
            self._check()
            time.sleep(PACE_SECONDS)

    def _look(self) -> Look:
        deliveries, ledger = self._sandbox.deliveries(), self._sandbox.ledger()
        return Look(ledger, deliveries, read_record(self._database))

    def _check(self) -> None:
        """Make sure that payhook lives, except while it lies killed."""
        if self._outage is None or self._outage.started_at is not None:
            self._children.check(self._payhook)

    def _answers(self, url: str) -> bool:
        try:
            return self._http.get(url, timeout=CALL_SECONDS).ok
        except (requests.ConnectionError, requests.Timeout):
            return False


def tell() -> int:
    """Play it, give the verdict, tidy up; the exit code."""
    screen = Screen(len(ORDERS))
    folder, code = Path(tempfile.mkdtemp(prefix="payhook-demo-")), 1
    with Interruptions(DEADLINE_SECONDS) as interruptions:
        children = Children(folder, interruptions)
        try:
            code = _give_verdict(children, screen)
        except (ChildFailed, SandboxRefused, requests.RequestException) as error:
            screen.head(f"FALSE: the demo could not be played to its end: {error}")
        except Ended as ended:
            screen.head(f"FALSE: not done within {DEADLINE_SECONDS:g} s" if ended.out_of_time else f"Ended by {ended}.")
            code = 1 if ended.out_of_time else 128 + ended.number
        finally:
            interruptions.stop()
            children.end()
            if code == 1:
                screen.head(f"Logs and database are kept in {folder}")
            else:
                shutil.rmtree(folder)
    return code


def _give_verdict(children: Children, screen: Screen) -> int:
    screen.head("payhook takes a payment platform's webhooks and keeps a true record of every payment.")
    screen.head("Here it is killed in the middle of its work. Nothing leaves this machine.")
    with screen, closing(Story(children, screen)) as story:
        found = story.play()
    screen.table(found)
    if not all(claim.holds for claim in found):
        return 1
    screen.head(f"All of it is true, after {screen.seconds:.0f} s.")
    return 0


def _captured(event_id: str, merchant_id: str) -> bytes:
    """A body as the platform sends them, for a payment that never was."""
    payment = {"id": "3999999999_0", "status": "CAPTURED", "statusOutput": {"statusCode": 9}}
    event = {"apiVersion": "v1", "id": event_id, "merchantId": merchant_id, "type": "payment.captured"}
    return json.dumps({**event, "payment": payment}).encode()
