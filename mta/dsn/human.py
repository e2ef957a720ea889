"""The part of a report that a person reads: what happened, what is being done about it, what they can do. Pure.

Text of peers stands in it as a quotation, made harmless; addresses as they are written, in UTF-8 where they need it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from mta.dsn.fields import shown_text, wire_text
from mta.dsn.report import Action, ReportedRecipient, ReportFrame
from mta.dsn.subject import original_subject
from mta.dsn.words import what_happened, what_to_do
from mta.mail.envelope import Content, Message
from mta.mail.identifiers import format_id
from mta.mail.trace import format_date
from mta.smtp.xtext import decode_utf8_xtext

WIDTH = 76

SUBJECTS: Mapping[Action, str] = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message is delayed; you need do nothing",
    Action.DELIVERED: "Your message was delivered",
    Action.RELAYED: "Your message was passed on",
    Action.EXPANDED: "Your message was passed on to several addresses",
}
_NEWS: Mapping[Action, str] = {
    Action.FAILED: "could not be delivered to {whom} below, and will not be tried again.",
    Action.DELAYED: "could not be delivered to {whom} below yet. You need do nothing: it is tried further{until}. You will hear if"
    " that fails; do not send it again.",
    Action.DELIVERED: "was delivered to {whom} below. You hear of it because your message asked for it.",
    Action.RELAYED: "was passed on to a mail system that does not tell of deliveries. Of {whom} below you will hear only if it"
    " fails. You hear this because your message asked for news.",
    Action.EXPANDED: "was passed on to all addresses that {whom} below stands for. Of each of them you will hear only if it fails."
    " You hear this because your message asked for news.",
}
_RETURNED = {"message": "Your message follows.", "header": "The header of your message follows.", "": ""}


def human_text(
    message: Message, content: Content, told: Sequence[ReportedRecipient], frame: ReportFrame, returned: str
) -> str:
    """With LF ends of line. `returned` says what of the message follows: "message", "header" or ""."""
    subject = original_subject(content.header)
    what = f'Your message "{subject}"' if subject else "Your message"
    until = f" until {format_date(int(message.expires_at))}" if message.expires_at > frame.now else ""
    whom = "the recipients" if len(told) > 1 else "the recipient"
    news = _NEWS[frame.action].format(whom=whom, until=until)
    paragraphs = [
        f"This is the mail system at {frame.hostname}.",
        _wrapped(f"{what} of {format_date(int(message.received_at))} {news}"),
        *(_of_one(each, frame) for each in told),
        _wrapped(
            f"For help, write to <{frame.postmaster}> and name the queue ID {format_id(message.id)}. "
            + _RETURNED[returned]
        ),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _of_one(told: ReportedRecipient, frame: ReportFrame) -> str:
    name = f"<{told.address}>"
    written = told.original or decode_utf8_xtext(told.orcpt.partition(";")[2])
    if written and written != str(told.address):
        name += f", which you wrote as <{shown_text(written)}>"
    return "\n".join([name, *(_wrapped(line, "    ") for line in _sentences(told, frame.action))])


def _sentences(told: ReportedRecipient, action: Action) -> Iterator[str]:
    heard = told.heard or told.status
    if action is Action.FAILED and told.expired:
        yield f"It was tried until its time was over. {what_happened(heard)} {what_to_do(told.status)}"
    elif action is Action.FAILED:
        yield f"{what_happened(heard)} {what_to_do(heard)}"
    elif action is Action.DELAYED:
        yield what_happened(heard)
    said = wire_text(told.diagnostic)
    if told.host:
        yield f"{wire_text(told.host, 255)} said: {said}"
    elif action in {Action.FAILED, Action.DELAYED}:
        yield f"In detail: {said}"
    if told.uncertain and action is not Action.DELIVERED and action is not Action.RELAYED:
        yield "It may have arrived nevertheless: an earlier connection broke before the answer came."


@lru_cache(maxsize=256)  # a hundred recipients of one message mostly share their fate
def _wrapped(text: str, indent: str = "") -> str:
    """In lines of WIDTH, broken at spaces alone. textwrap took more than half of a report's time."""
    room = WIDTH - len(indent)
    lines: list[str] = []
    line = ""
    for word in text.split():
        if not line:
            line = word
        elif len(line) + 1 + len(word) <= room:
            line += " " + word
        else:
            lines.append(line)
            line = word
    return "\n".join([indent + each for each in (*lines, line)])
