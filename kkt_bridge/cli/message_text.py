"""Messages as lines for people, by the topic below the bridge's branch.

Messages are read as plain JSON, field by field: this may be an older or a newer program than the bridge.
"""

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from rich.text import Text

from kkt_bridge.cli.output import BAD, FAINT, GOOD, PLAIN, WARNING, line

Message = Mapping[str, Any]
Part = tuple[object, str]

RAW_SHOWN_MAX: Final = 300
"""Characters of a payload of an unknown kind."""

_STYLES: Final = MappingProxyType(
    {
        **dict.fromkeys(("healthy", "printed", "synced", "online", "closed"), GOOD),
        **dict.fromkeys(("degraded", "half_open", "buffered", "printing", "unknown"), WARNING),
        **dict.fromkeys(("unhealthy", "rejected", "dead", "offline", "open"), BAD),
    }
)


def message_lines(below: str, payload: bytes) -> list[Text]:
    """Return the text of a payload on this topic below the branch: a line, or one for each step in it."""
    try:
        lines = _parts_of(below, json.loads(payload))
    except (ValueError, RecursionError):
        lines = [[(payload[:RAW_SHOWN_MAX].decode(errors="replace"), PLAIN)]]
    return [line((f"{below:<22} ", FAINT), *parts) for parts in lines]


def state_line(name: str, content: Any) -> Text:
    """Return a line of the overview for `state/{name}`."""
    return line((f"{name.removeprefix('kkt/'):<9} ", FAINT), *_parts_of(f"state/{name}", content)[0])


def reply_lines(content: Message) -> list[Text]:
    """Return a reply as a line, and below it each field that was wrong."""
    fields = (content.get("error") or {}).get("fields") or []
    return [
        line(*_reply(content)),
        *(line((f"    {field['path'] or '(the whole)'}: ", BAD), (field["message"], PLAIN)) for field in fields),
    ]


def moment(text: str | None) -> str:
    """Return a time of the contract as people read it: the bridge's own, to the second."""
    return "never" if text is None else text[:19].replace("T", " ")


def coloured(word: str) -> Part:
    """Return a status in its colour."""
    return word, _STYLES.get(word, PLAIN)


def _parts_of(below: str, content: Any) -> list[list[Part]]:
    """Return the parts of each line."""
    try:
        if below == "event/receipt":
            return [_step(step) for step in content["steps"]]
        formatter = next(formatter for pattern, formatter in _FORMATTERS.items() if re.fullmatch(pattern, below))
        return [formatter(content)]
    except (StopIteration, LookupError, TypeError, ValueError, AttributeError):
        return [_anything(content)]


def _anything(content: Any) -> list[Part]:
    """Return a message of an unknown kind, or shape, field by field."""
    if not isinstance(content, dict):
        return [(json.dumps(content, ensure_ascii=False)[:RAW_SHOWN_MAX], PLAIN)]
    facts = (
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in content.items()
    )
    return [(", ".join(facts)[:RAW_SHOWN_MAX], PLAIN)]


# -- state -------------------------------------------------------------------------------------------------------


def _online(state: Message) -> list[Part]:
    word = "online" if state["online"] else "offline"
    return [coloured(word), (f", started {moment(state['since'])}, version {state['version']}", PLAIN)]


def _health(state: Message) -> list[Part]:
    reasons = [
        f"{name}: {part.get('reason') or part['status']}"
        for name, part in state["components"].items()
        if part["status"] != "healthy"
    ]
    return [coloured(state["status"]), (f": {'; '.join(reasons)}" if reasons else "", PLAIN)]


def _buffer(state: Message) -> list[Part]:
    parts: list[Part] = [(f"{state['pending']} of {state['capacity']} ({state['percent_full']:g} %)", PLAIN)]
    if state["oldest_pending_at"]:
        parts.append((f", the oldest since {moment(state['oldest_pending_at'])}", PLAIN))
    if state.get("full_at"):
        parts.append((f", full about {moment(state['full_at'])}", WARNING))
    if state["dlq_size"]:
        parts.append((f", dead letters: {state['dlq_size']}", WARNING))
    if not state["accepting"]:
        parts.append((", paused" if state.get("paused") else ", refusing receipts", BAD))
    return parts


def _breaker(state: Message) -> list[Part]:
    parts = [coloured(state["state"])]
    if state["failures"]:
        parts.append((f", {state['failures']} of {state['fail_max']} failures", PLAIN))
    if state["next_probe_at"]:
        parts.append((f", next probe {moment(state['next_probe_at'])}", PLAIN))
    if state["last_error"] and state["state"] != "closed":
        parts.append((f", last error: {state['last_error']}", PLAIN))
    return parts


def _sync(state: Message) -> list[Part]:
    doing = ", sending now" if state["in_progress"] else ""
    figures = f"{state['sent_total']} sent and {state['failed_total']} failed since its start"
    last = f", last success {moment(state['last_success_at'])}" if state["last_success_at"] else ""
    return [coloured(state["network"]), (f", {figures}{last}{doing}", PLAIN)]


def _alerts(state: Message) -> list[Part]:
    raised = state["alerts"]
    if not raised:
        return [("none", GOOD)]
    worst = BAD if any(alert["severity"] == "critical" for alert in raised) else WARNING
    names = (f"{alert['code']} ({alert['kkt']})" if alert.get("kkt") else str(alert["code"]) for alert in raised)
    return [(", ".join(names), worst)]


def alert_lines(state: Message) -> list[Text]:
    """Return each alert that is raised, with its time, and below it what to do."""
    lines = []
    for alert in state.get("alerts") or ():
        style = BAD if alert["severity"] == "critical" else WARNING
        lines.append(line((f"! {alert['message']}", style), (f" (since {moment(alert['since'])})", FAINT)))
        lines.append(line((f"  -> {alert['what_to_do']}", PLAIN)))
    return lines


def _kkt(state: Message) -> list[Part]:
    detail = f" ({state['detail']})" if state.get("detail") else ""
    problem = f"{state['problem'] or 'not yet reached'}{detail}"
    verdict = ("ready", GOOD) if state["ready"] else (f"not ready: {problem}", BAD)
    facts = [
        _shift_words(state.get("shift")),
        f"FN {state['fn_number']} till {state['fn_expires']}" if state["fn_number"] else None,
        f"last FD {state['last_fd_number']}" if state["last_fd_number"] else None,
        f"{state['queue']} waiting" if state["queue"] else None,
        f"{state['ofd_unsent']} not at the OFD since {moment(state['ofd_first_unsent_at'])}"
        if state["ofd_unsent"]
        else None,
        "out of paper" if state["paper"] == "out" else None,
        f"{state['doubts_total']} in doubt: settle by hand" if state.get("doubts_total") else None,
    ]
    return [verdict, *((f", {fact}", PLAIN) for fact in facts if fact)]


def _shift_words(shift: Message | None) -> str | None:
    if shift is None:
        return None
    return f"shift {shift['number']} {'open' if shift['open'] else 'closed'}"


# -- events ------------------------------------------------------------------------------------------------------


def _step(step: Message) -> list[Part]:
    document = f", FD {step['fd_number']}" if step.get("fd_number") else ""
    problem = f", {step['error']}" if step.get("error") else ""
    way = f"{step['from']} > " if step["from"] else ""
    name = f"{step['receipt_id'] or 'no receipt_id'} of {step['pos_id']}: "
    return [(f"{name}{way}", PLAIN), coloured(step["to"]), (document + problem, PLAIN)]


def _change(event: Message) -> list[Part]:
    error = f", last error: {event['last_error']}" if event.get("last_error") else ""
    return [(f"{event['from']} > ", PLAIN), coloured(event["to"]), (error, PLAIN)]


def _shift_event(event: Message) -> list[Part]:
    return [(f"{event['kkt']}: {_shift_words(event)}, FD {event['fd_number']}", PLAIN)]


def _alert(event: Message) -> list[Part]:
    raised = event["state"] == "raised"
    style = GOOD if not raised else BAD if event["severity"] == "critical" else WARNING
    advice = f"; {event['what_to_do']}" if event.get("what_to_do") else ""
    return [(f"{event['alert']} {event['state']}: ", style), (f"{event['message']}{advice}", PLAIN)]


def _command_event(event: Message) -> list[Part]:
    outcome = ("done", GOOD) if event["ok"] else (f"failed: {event['error']}", BAD)
    reason = f" ({event['reason']})" if event.get("reason") else ""
    return [(f"{event['name']} by {event['issued_by']}{reason}: ", PLAIN), outcome]


# -- what passes between POS, operators and bridge ---------------------------------------------------------------


def _reply(reply: Message) -> list[Part]:
    name = f"{reply['receipt_id'] or 'no receipt_id'} of {reply['pos_id']}"
    head = [coloured(f"{reply['status']}"), (f" {name}", PLAIN)]
    if mark := reply.get("fiscal"):
        sums = f"total {mark['total']}, change {mark['change']}"
        head.append((f": FD {mark['fd_number']} on {mark['kkt']}, {sums}, QR {mark['qr']}", PLAIN))
    elif error := reply.get("error"):
        head += [(f": {error['code']}: ", BAD), (error["message"], PLAIN)]
    elif reply["status"] == "buffered":
        head.append((": safe in the bridge, its register has not printed it yet", PLAIN))
    if reply.get("duplicate"):
        head.append((" (told again: it had been taken before)", FAINT))
    if warnings := reply.get("warnings"):
        head.append((f", warning: {', '.join(warnings)}", WARNING))
    return head


def _request(request: Message) -> list[Part]:
    return [(f"{request['receipt_id']}: {request['type']} of {len(request['items'])} positions", PLAIN)]


def _query(query: Message) -> list[Part]:
    return [(f"what became of {query['receipt_id']}?", PLAIN)]


def _command(command: Message) -> list[Part]:
    args = command.get("args")
    return [(f"by {command['issued_by']}{' ' + json.dumps(args, ensure_ascii=False) if args else ''}", PLAIN)]


def _result(result: Message) -> list[Part]:
    if result["ok"]:
        return [("done", GOOD), (f" {json.dumps(result['result'], ensure_ascii=False)[:RAW_SHOWN_MAX]}", FAINT)]
    return [(f"{result['error']['code']}: ", BAD), (result["error"]["message"], PLAIN)]


_FORMATTERS: Final[Mapping[str, Callable[[Message], list[Part]]]] = MappingProxyType(
    {
        "state/online": _online,
        "state/health": _health,
        "state/buffer": _buffer,
        "state/breaker": _breaker,
        "state/sync": _sync,
        "state/alerts": _alerts,
        "state/kkt/[^/]+": _kkt,
        "event/(breaker|network)": _change,
        "event/alert": _alert,
        "event/shift": _shift_event,
        "event/command": _command_event,
        "pos/[^/]+/receipt": _request,
        "pos/[^/]+/query": _query,
        "pos/[^/]+/reply": _reply,
        "command/[^/]+": _command,
        "command/[^/]+/result": _result,
    }
)
"""Formatters by the topic below the branch."""
