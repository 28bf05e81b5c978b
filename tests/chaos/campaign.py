"""A campaign from the first process to the verdict."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from chaos.evidence import Evidence, gather, pending
from chaos.history import history
from chaos.killer import Killer
from chaos.plan import BROKER, Plan
from chaos.site import START_S, Site
from chaos.summary import Course, Summary, summed_up
from chaos.terminal import OPEN_MAX, Terminal
from chaos.trade import Trade
from chaos.verdict import Finding, judge

PROGRESS_S: Final = 5.0
TICK_S: Final = 0.02
RECHECKED: Final = 30
"""Requests of long ago that each terminal repeats at the end."""

LEAVE_S: Final = 15.0
RETURN_S: Final = 30.0
HISTORIES_MAX: Final = 10

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict, with everything that led to it."""

    summary: Summary
    findings: list[Finding]
    evidence: Evidence
    histories: list[str]


def run(plan: Plan, directory: Path, tell: Tell) -> Report:
    """Start a shop in this directory, break it as planned, heal it, and judge. Nothing is left running."""
    with Site(plan, directory) as site:
        site.start()
        terminals = open_terminals(plan, site)
        try:
            return _run(plan, site, terminals, tell)
        finally:
            for terminal in terminals:
                terminal.leave()


def open_terminals(plan: Plan, site: Site) -> list[Terminal]:
    """Let every terminal begin."""
    terminals = []
    for pos_id in plan.tills:
        rng = plan.rng_for(pos_id)
        trade = Trade(pos_id, f"{site.bridge.branch}/pos/{pos_id}", plan.kkts, rng)
        terminals.append(Terminal(pos_id, site.bridge.branch, (site.broker.host, site.broker.port), trade, rng))
    for terminal in terminals:
        terminal.start()
    return terminals


def _run(plan: Plan, site: Site, terminals: list[Terminal], tell: Tell) -> Report:
    began = time.monotonic()
    killer = Killer(plan, site)
    fire(plan, site, killer, terminals, tell, plan.impatient_kills)
    if plan.losses and not site.deaths:
        began_at = time.monotonic()
        lose_the_journal(plan, site, terminals, tell)
        killer.allow(time.monotonic() - began_at)
    if not site.deaths:
        spare_the_broker(site, killer, terminals, tell)
        fire(plan, site, killer, terminals, tell, plan.kills)
    fire_ended = time.monotonic()
    site.heal()
    calm_down(plan, site, terminals, tell)
    stop_s, stop = stop_bridge(site)
    dismiss(terminals)
    evidence = gather(site, tuple(terminal.till for terminal in terminals), stop)
    findings = judge(evidence)
    answered_at = [at for terminal in terminals for at in terminal.answered_at]
    course = Course(began, fire_ended, answered_at, stop_s)
    summary = summed_up(evidence, findings, course, seed=plan.seed, kills=site.kills, faults=killer.faults)
    return Report(summary, findings, evidence, histories(site, evidence, findings))


def fire(plan: Plan, site: Site, killer: Killer, terminals: Iterable[Terminal], tell: Tell, kills: int) -> None:
    """Kill until there are so many kills, the time is over, or a process ends by itself."""
    told_at = time.monotonic()
    while killer.kills < kills and not killer.is_late and not site.deaths:
        time.sleep(min(killer.step(), TICK_S))  # until the next fault is due; the plan and its end decide, not this
        site.watch()
        if time.monotonic() - told_at > PROGRESS_S:
            told_at = time.monotonic()
            answered = sum(terminal.answered for terminal in terminals)
            waiting = sum(terminal.waiting for terminal in terminals)
            tell(f"{killer.kills} of {plan.kills} kills, {answered} verdicts, {waiting} requests open")


def lose_the_journal(plan: Plan, site: Site, terminals: list[Terminal], tell: Tell) -> None:
    """The journal goes back to a backup, later to nothing; then the shop repeats all that it ever sent."""
    for what, lose in (("is put back to a backup", site.restore), ("is gone, its lock too", site.lose_journal)):
        site.heal()
        site.back_up()
        since = [terminal.answered for terminal in terminals]
        site.expect(partial(have_sold, terminals, since), RETURN_S, "sales after a backup")
        for terminal in terminals:
            terminal.stop_sales()
        if not served(plan, site, terminals, "a final reply for everybody"):
            return
        tell(f"the journal {what}; everything is repeated")
        lose()
        site.expect(site.bridge.is_ready, START_S, "a bridge that is up")
        for printed in (True, False):
            for terminal in terminals:
                terminal.ask_everything_again(printed=printed)
            served(plan, site, terminals, "the same replies for all repeats")
        for terminal in terminals:
            terminal.resume_sales()


def spare_the_broker(site: Site, killer: Killer, terminals: list[Terminal], tell: Tell) -> None:
    """From here on what the broker has is safe there: whatever does not come through, the bridge has lost."""
    tell("the broker is spared from now on, and the terminals send everything once")
    site.heal()
    # The broker knows the bridge's session again when an answer to something new has come through.
    since = [terminal.answered for terminal in terminals]
    site.expect(partial(have_sold, terminals, since), RETURN_S, "an answer for each terminal")
    killer.spare(BROKER)
    for terminal in terminals:
        terminal.be_patient()


def have_sold(terminals: list[Terminal], since: list[int]) -> bool:
    """Return whether each terminal has had more verdicts since then than it can have had open."""
    return all(terminal.answered > before + OPEN_MAX for terminal, before in zip(terminals, since, strict=True))


def calm_down(plan: Plan, site: Site, terminals: list[Terminal], tell: Tell) -> None:
    """Let everything come to its end, then have a part of it asked for once more: nothing may have changed."""
    tell("healed: waiting until every receipt has come to its end")
    for terminal in terminals:
        terminal.stop_sales()
    if served(plan, site, terminals, "a final reply for everybody"):
        for terminal in terminals:
            terminal.ask_all_again(RECHECKED)
        served(plan, site, terminals, "the same replies to repeats of long ago")
    site.watch()


def served(plan: Plan, site: Site, terminals: list[Terminal], what: str) -> bool:
    """Return whether all terminals have what they wait for, and the bridge owes nobody anything."""
    return site.expect(lambda: not any(terminal.waiting for terminal in terminals), plan.calm_s, what) and site.expect(
        lambda: pending(site.journal) == 0, plan.calm_s, "an empty buffer and outbox"
    )


def stop_bridge(site: Site) -> tuple[float | None, str | None]:
    """SIGTERM: the seconds it took, or what was wrong with it."""
    try:
        return round(site.bridge.terminate(), 2), None
    except AssertionError as error:
        return None, str(error)


def dismiss(terminals: Iterable[Terminal]) -> None:
    """End the terminals, which by then have heard everything."""
    for terminal in terminals:
        terminal.leave()
    for terminal in terminals:
        terminal.join(LEAVE_S)


def histories(site: Site, evidence: Evidence, findings: Iterable[Finding]) -> list[str]:
    """Return what happened to the first receipts that something is wrong with."""
    keys = dict.fromkeys(finding.key for finding in findings if finding.key is not None)
    return [line for key in list(keys)[:HISTORIES_MAX] for line in history(site, evidence, key)]
