"""What scenarios allow beside the rules, in the words of every report: laws off, tolerances, known breaks."""

from __future__ import annotations

from harness.reconcile.rules import ToleranceUse
from harness.report.results import RunResult, printable, usd


def amount_text(use: ToleranceUse, raw: int, worth: float) -> str:
    """Put an amount of a tolerance's token in one line: base units, tokens, money."""
    tokens = f"{use.token.format(raw)} {use.token.symbol}"
    return printable(f"{raw:+d} raw · {tokens} · {usd(worth, signed=True)}" if raw else f"0 {use.token.symbol}")


def allowed_text(use: ToleranceUse) -> str:
    """Say how much a tolerance allows."""
    return printable(
        f"{use.tolerance.raw} raw · {use.token.format(use.tolerance.raw)} {use.token.symbol} · {usd(use.allowed_usd)}"
    )


def used_text(use: ToleranceUse) -> str:
    """Say how much of a tolerance was used: the largest difference that it covered, and how many."""
    if not use.used:
        return "unused"
    many = "1 difference" if use.differences == 1 else f"{use.differences:,} differences"
    return f"at most {amount_text(use, use.largest_raw, use.largest_usd)}, {many}"


def allowances_text(run: RunResult) -> str | None:
    """Count what the run's scenarios allow; None where none allows anything."""
    laws = sum(len(result.laws_off) for result in run.scenarios)
    uses = [use for result in run.scenarios for use in result.tolerances]
    unused = sum(1 for use in uses if not use.used)
    accepted = sum(len(result.accepted) for result in run.scenarios)
    parts = []
    if laws:
        parts.append(f"{_many(laws, 'law')} switched off")
    if uses:
        parts.append(_many(len(uses), "tolerance") + (f" ({unused:,} unused)" if unused else ""))
    if accepted:
        parts.append(f"{_many(accepted, 'known break')} accepted")
    return f"Allowed by the scenarios: {', '.join(parts)}." if parts else None


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
