"""What is wrong with a configuration, and where: the form of every complaint, and the catalogue of their codes.

A code never changes its meaning. E: the configuration is refused. W: it is taken, and does something that few people want.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning"]

CODES = {
    # the file itself
    "E001": "The configuration file can't be read.",
    "E002": "The configuration file is not UTF-8.",
    "E003": "The configuration file is not TOML.",
    # its keys and values
    "E010": "A key is unknown.",
    "E011": "A key that must be there is missing.",
    "E012": "A value has the wrong type.",
    "E013": "A value is out of its range or not one of those that are known.",
    "E014": "[test_only] is used without MTA_TEST_ONLY=1 in the environment.",
    # listeners
    "E101": "An endpoint can't be understood.",
    "E102": "Two listeners have the same name.",
    "E103": "Two endpoints take the same port.",
    "E104": "A listener offers TLS, but there is no certificate.",
    "E105": "A kind of endpoint that does not fit here.",
    "W106": "A submission listener has no TLS, so logins and mail cross the network in the clear.",
    "W107": "A key of a listener is without effect.",
    # TLS
    "E201": "A certificate file is missing or can't be read.",
    "E202": "A certificate file holds no certificate.",
    "E203": "A private key file is missing or can't be read.",
    "E204": "A private key file holds no private key without a passphrase.",
    "E205": "A private key does not belong to its certificate.",
    "E206": "A certificate has expired.",
    "W207": "A certificate expires within 14 days.",
    "W208": "A certificate is not valid for the name it is used for.",
    "E209": "A certificate is not valid yet.",
    "E210": "The same name is given to two certificates.",
    "E211": "The file of authorities is missing or holds no certificate.",
    # files
    "E301": "Others can read or change a file that holds secrets.",
    "E302": "A file that holds secrets belongs to somebody who is neither root nor mta.",
    "E303": "Others can replace a file that holds secrets, because they can write a directory on the way to it.",
    "W304": "The user that the daemon runs as can't read a file.",
    "E305": "A directory can't be written or made.",
    "E306": "A directory is a file, or a file is a directory.",
    "E307": "The path of a socket is too long.",
    "W308": "The spool is on a network file system.",
    "W309": "The directory of a log or a socket can't be written or made.",
    # logins
    "E401": "Mechanisms are named, but no password store that could check them.",
    "W402": "A listener asks for logins, but nobody can log in.",
    "E403": "A listener without TLS has no mechanism that is safe there.",
    "W404": "A user database does not exist yet.",
    "W405": "A password store or mechanism is named twice.",
    "E406": "An administrator is not a user of this system.",
    "E407": "The password of a credential can't be read.",
    "E408": "Two credentials are for the same host and port.",
    "W409": "No route goes to the host of a credential.",
    "E410": "A credential needs TLS to a host whose route has none.",
    # routes
    "E501": "`via` can't be understood.",
    "E502": "A maildir path holds no {local}: all mail of the route would lie in one box.",
    "E503": 'A route takes its recipients from "users", but there is no such password store.',
    "E504": "A table of recipients is missing or can't be read.",
    "E505": "A route makes an open relay.",
    "W506": 'No route has the domain "*": mail for elsewhere is refused.',
    "W507": "A route or a domain of it is never reached.",
    "W508": "Anybody can have any number of mailboxes made.",
    "E509": "A next hop is a listener of this configuration: mail would go in circles.",
    "W510": "A key of a route is without effect.",
    # relaying
    "W601": "The whole internet may relay.",
    "W602": "Everybody on this machine may relay, also through a proxy or tunnel.",
    # limits, queue
    "E701": "Two limits contradict each other.",
    "W702": "A limit is far from what the RFCs ask for.",
    # metrics
    "W801": "Metrics can be read from other machines.",
    # name servers
    "W901": "Name servers of the whole internet are trusted with DNSSEC.",
    "W902": "A name server that is trusted is never asked, or a name server is named twice.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint. `line` counts from 1; 0 is the file as a whole. `key` is a path such as `route.0.via`, indexes from 0."""

    file: str
    line: int
    key: str
    message: str
    hint: str = ""
    code: str = ""

    @property
    def severity(self) -> Severity:
        return "warning" if self.code.startswith("W") else "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        shown = ".".join(part for part in self.key.split(".") if not part.isdecimal())  # the line tells which of them
        return ": ".join(filter(None, (place, f"{self.severity} {self.code}".strip(), shown, self.message)))


class ConfigurationError(Exception):
    """The configuration is refused. `problems` holds all that was found, errors and warnings, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = in_order(problems)
        super().__init__(format_problems(self.problems))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """As the file has them, each once; what speaks of the file as a whole comes last."""
    return sorted(dict.fromkeys(problems), key=lambda each: (not each.line, each.line, each.key, each.code))


def has_errors(problems: Iterable[Problem]) -> bool:
    return any(each.severity == "error" for each in problems)


def format_problems(problems: Iterable[Problem], json: bool = False) -> str:
    """A line a problem with its hint below; or a JSON array. No newline at the end; "" (or []) when there is none."""
    if json:
        return _json(problems)
    return "\n".join(f"{each}\n    {each.hint}" if each.hint else str(each) for each in problems)


def _json(problems: Iterable[Problem]) -> str:
    return json.dumps([{**asdict(each), "severity": each.severity} for each in problems], ensure_ascii=False, indent=2)
