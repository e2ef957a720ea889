"""A message's journal in plain words. Pure; text from the wire is escaped here, where it is shown.

Takes what the verb `why` answers, so it serves every face: the command now, a web page later. Light to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mta.telemetry.lines import escaped

When = Callable[[float], str]  # a time as this face shows it
Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened. `recipient` is "" where it was to the whole message."""

    at: float
    recipient: str
    text: str


def tell(story: Data, when: When) -> Iterator[Line]:
    """A message of `why`'s answer, line by line, oldest first."""
    names = {each["recipient_id"]: escaped(each["recipient"]) for each in story["recipients"]}
    for entry in story["entries"]:
        recipient = names.get(entry["recipient_id"], "")
        word = _WORDS.get(entry["kind"], _something)
        data = {**story["message"], **entry["data"]} if entry["kind"] == "accepted" else entry["data"]
        yield Line(entry["at"], recipient, word(_Entry(entry["kind"], data), when))
        yield from _tries(entry, recipient)


def headline(story: Data) -> str:
    """`from <a@b> to 3 recipients, 10 KiB: 2 delivered, 1 queued`."""
    message, recipients = story["message"], story["recipients"]
    states: dict[str, int] = {}
    for each in recipients:
        state = "held" if each["held"] and each["state"] == "queued" else each["state"]
        states[state] = states.get(state, 0) + 1
    to = f"<{escaped(recipients[0]['recipient'])}>" if len(recipients) == 1 else f"{len(recipients)} recipients"
    summary = (
        ", ".join(f"{number} {state}" for state, number in states.items()) if len(recipients) != 1 else "".join(states)
    )
    return f"from <{escaped(message['sender'])}> to {to}, {octets(message['size'])}: {summary}"


def refusal(note: Data) -> Line:
    """A note of refused mail, as the session wrote it."""
    parts = [f"refused {_text(note, 'client') or 'a client'}"]
    if note.get("helo"):
        parts.append(f"(hello {_text(note, 'helo')})")
    if note.get("mechanism"):  # a login that failed: the name is only what was claimed
        parts.append(f"a login as {_text(note, 'auth') or 'nobody'} by {_text(note, 'mechanism')}")
    elif note.get("auth"):
        parts.append(f"logged in as {_text(note, 'auth')}")
    if note.get("listener"):
        parts.append(f"on {_text(note, 'listener')}")
    if "sender" in note:
        parts.append(f"from <{_text(note, 'sender').strip('<>')}>")
    if note.get("recipient"):
        parts.append(f"to <{_text(note, 'recipient')}>")
    text = " ".join(parts) + f": {_text(note, 'reply')}"
    rule = _text(note, "rule")
    return Line(float(note.get("at") or 0), "", f"{text} [{rule}]" if rule else text)


def octets(number: float) -> str:
    """1234 → `1.2 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


_SILENT = frozenset({None, "DNS", "connect"})  # phases in which nothing was said yet


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    data: Data


def _text(data: Data, key: str) -> str:
    value = data.get(key)
    return "" if value is None else escaped(str(value))


def _reply(data: Data) -> str:
    code = data.get("code") or ""
    return " ".join(part for part in (str(code), _text(data, "status"), _text(data, "text")) if part)


def _accepted(entry: _Entry, when: When) -> str:
    data = entry.data
    kind = data.get("kind")
    if kind == "report":
        on = _text(data, "reports_on") or _text(data, "cause_message")
        return f"written here as a report on {on}" if on else "written here as a report"
    if kind == "local":
        return f"handed in on this machine by {_text(data, 'authcid') or _text(data, 'auth') or 'an administrator'}"
    client = _text(data, "client_ip") or "this machine"
    parts = [f"accepted from {client}"]
    if data.get("helo"):
        parts.append(f"(hello {_text(data, 'helo')})")
    login = _text(data, "authcid") or _text(data, "auth")
    if login:
        parts.append(f"logged in as {login}" + (f" by {_text(data, 'mechanism')}" if data.get("mechanism") else ""))
    else:
        parts.append("without login")
    parts.append(f"over {_text(data, 'tls')}" if data.get("tls") else "in clear text")
    if data.get("listener"):
        parts.append(f"on {_text(data, 'listener')}")
    return " ".join(parts) + f", {octets(data.get('size') or 0)}"


def _queued(entry: _Entry, when: When) -> str:
    data = entry.data
    text = f"queued for {_text(data, 'destination')}" if data.get("destination") else "queued"
    if data.get("rule"):
        text += f" by {_text(data, 'rule')}"
    return text + (", held" if data.get("held") else "")


def _ended(word: str) -> Callable[[_Entry, When], str]:
    def told(entry: _Entry, when: When) -> str:
        data = entry.data
        where = _host(data)
        reply = _reply(data)
        text = f"{word}{' ' + where if where else ''}" + (f": {reply}" if reply else "")
        if data.get("expired"):
            text += "; its lifetime is over"
        if data.get("uncertain"):
            text += "; it may have been delivered"
        if data.get("next"):
            text += f"; next attempt {when(float(data['next']))}"
        return text + _particulars(data)

    return told


def _particulars(data: Data) -> str:
    """Which attempt it was, where it ended and how long it took, and in what form the content went."""
    parts = [f"attempt {data['attempt']}"] if data.get("attempt", 0) > 1 and not _never_tried(data) else []
    tries = data.get("tries")
    if isinstance(tries, list) and tries and isinstance(tries[-1], dict):
        last = tries[-1]
        if data.get("next") or data.get("expired"):
            parts.append(f"ended at {_text(last, 'phase')}")
        parts.append(f"{float(last.get('seconds') or 0):.1f} s")
    if data.get("rendition"):
        parts.append(f"content {_text(data, 'rendition')}")
    return f" ({'; '.join(parts)})" if parts else ""


def _never_tried(data: Data) -> bool:
    """It expired behind a suspended destination, without an attempt of its own."""
    return bool(data.get("expired")) and "tries" not in data


def _host(data: Data) -> str:
    """Where the attempt ended: the last host tried, else the destination."""
    tries = data.get("tries")
    if isinstance(tries, list) and tries and isinstance(tries[-1], dict):
        last = tries[-1]
        host, address = _text(last, "host"), _text(last, "address")
        name = f"{host} [{address}]" if host and address and host != address else host or f"[{address}]"
        return (
            f"{'at' if data.get('next') or data.get('expired') else 'by'} {name}" + _safety(last) + _circumstances(last)
        )
    return f"({_text(data, 'destination')})" if data.get("destination") else ""


def _safety(tried: Data) -> str:
    """What protected the conversation, where there was one."""
    if tried.get("tls"):
        return f" over {_text(tried, 'tls')}"
    return "" if tried.get("phase") in _SILENT else " in clear text"


def _circumstances(tried: Data) -> str:
    """How well the host was known, and what went wrong on the way there and did not end it."""
    verified = ", certificate verified" if tried.get("verified") else ""
    login = f", logged in by {_text(tried, 'login')}" if tried.get("login") else ""
    return verified + login + (f", {_text(tried, 'note')}" if tried.get("note") else "")


def _tries(entry: Data, recipient: str) -> Iterator[Line]:
    """The hosts before the last one of an attempt, each with what it said."""
    tries = entry["data"].get("tries")
    if not isinstance(tries, list):
        return
    for each in tries[:-1]:
        if isinstance(each, dict):
            name = _text(each, "host") or _text(each, "address")
            text = f"    tried {name} [{_text(each, 'address')}] before: {_text(each, 'reply')} (at {_text(each, 'phase')})"
            text += _safety(each) + _circumstances(each)
            yield Line(float(each.get("at") or entry["at"]), recipient, text)


def _by(word: str) -> Callable[[_Entry, When], str]:
    def told(entry: _Entry, when: When) -> str:
        by = _text(entry.data, "by")
        return f"{word} by {by}" if by else word

    return told


def _reported(entry: _Entry, when: When) -> str:
    data = entry.data
    return f"a report ({_text(data, 'kind') or 'failed'}) was sent to <{_text(data, 'to')}> as {_text(data, 'report')}"


def _not_owed(entry: _Entry, when: When) -> str:
    return f"no report is owed: {_text(entry.data, 'reason')}"


def _recovered(entry: _Entry, when: When) -> str:
    text = "found in flight at a start after a crash; may have been delivered"
    following = float(entry.data.get("next") or entry.data.get("next_attempt") or 0)
    return f"{text}; next attempt {when(following)}" if following else text


def _something(entry: _Entry, when: When) -> str:
    told = " ".join(f"{escaped(str(key))}={escaped(str(value))}" for key, value in entry.data.items())
    return f"{entry.kind} {told}".rstrip()


_WORDS: Mapping[str, Callable[[_Entry, When], str]] = {
    "accepted": _accepted,
    "queued": _queued,
    "recovered": _recovered,
    "delivered": _ended("delivered"),
    "relayed": _ended("taken"),
    "deferred": _ended("deferred"),
    "failed": _ended("failed"),
    "discarded": _ended("discarded"),
    "expanded": _ended("expanded"),
    "removed": _by("removed from the queue"),
    "held": _by("held"),
    "released": _by("released"),
    "retried": _by("made due at once"),
    "reported": _reported,
    "report-not-owed": _not_owed,
}
