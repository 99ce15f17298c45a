"""The kinds of token: which contract each is, what of a transfer arrives, and the calls of steps about a token."""

from __future__ import annotations

from collections.abc import Generator

from harness.chain import Account, Artifact, Call, Outcome, load_artifact
from harness.scenario.model import TokenKind, TokenSpec
from harness.world.vault import State, deploy, send

WAD = 10**18
FEE_COLLECTOR = "0x000000000000000000000000000000000000fEE5"
"""Who gets what a fee on transfers takes."""
BORROWED = "borrowed"
"""The ``type`` of a debt token's identifier; that of any other token is left out."""

_CONTRACTS: dict[TokenKind, str] = {
    "plain": "Erc20",
    "fee_on_transfer": "FeeToken",
    "index_rebase": "IndexToken",
    "share_rebase": "ShareToken",
    "opt_in_rebase": "OptInToken",
    "debt": "DebtToken",
}


def artifact_of(kind: TokenKind) -> Artifact:
    """The contract of a kind of token."""
    return load_artifact(_CONTRACTS[kind])


def grows(kind: TokenKind) -> bool:
    """Tell whether balances of this kind of token change by themselves, so that a transfer may round."""
    return kind not in ("plain", "fee_on_transfer")


def deploy_token(owner: Account, spec: TokenSpec, underlying: str | None, pool: str) -> Generator[Call, Outcome, str]:
    """Deploy a token; gives its address.

    Args:
        owner: Mints, pauses, rebases.
        spec: What token.
        underlying: The address of what it wraps, of a kind that grows.
        pool: Who may mint and burn a token that grows.
    """
    artifact = artifact_of(spec.kind)
    if spec.kind == "plain":
        return (yield from deploy(owner, artifact, spec.name, spec.symbol, spec.decimals))
    if spec.kind == "fee_on_transfer":
        fee = spec.fee.numerator * WAD // spec.fee.denominator
        return (yield from deploy(owner, artifact, spec.name, spec.symbol, spec.decimals, fee, FEE_COLLECTOR))
    token = yield from deploy(owner, artifact, spec.name, spec.symbol, spec.decimals, underlying)
    yield from send(owner, token, artifact.encode("set_pool", pool))
    return token


def arrives(spec: TokenSpec, token: str, state: State, raw: int) -> int:
    """What the token's own `Transfer` says arrives of ``raw`` that somebody sends.

    A fee on transfers is ``floor(raw * fee / 1e18)`` and does not arrive: Tether's ``transfer``
    (``fee = value * basisPointsRate / 10000``) in finer parts. Tokens that grow say what was asked for, as stETH's
    ``_transfer``, OUSD's ``transfer`` and aTokens do; what their shares round off shows in balances alone.
    """
    if spec.kind != "fee_on_transfer":
        return raw
    return raw - raw * state.number(artifact_of(spec.kind), token, "fee") // WAD


def rebase_by(owner: Account, spec: TokenSpec, token: str, factor_ray: int) -> Call:
    """Multiply everybody's balance."""
    return Call(sender=owner, to=token, data=artifact_of(spec.kind).encode("rebase_by", factor_ray))


def rebase_to(owner: Account, spec: TokenSpec, token: str, holder: str, raw: int) -> Call:
    """Multiply everybody's balance so that the holder's becomes ``raw``."""
    return Call(sender=owner, to=token, data=artifact_of(spec.kind).encode("rebase_to", holder, raw))


def accrue(owner: Account, spec: TokenSpec, token: str, rate_ray: int) -> Call:
    """Let balances grow with time at a yearly rate."""
    return Call(sender=owner, to=token, data=artifact_of(spec.kind).encode("accrue", rate_ray))


def pause(owner: Account, token: str, account: str | None, *, paused: bool) -> Call:
    """Stop transfers, or let them go on: everybody's, or those from and to one account."""
    artifact = load_artifact("Erc20")
    if account is None:
        return Call(sender=owner, to=token, data=artifact.encode("set_paused", paused))
    return Call(sender=owner, to=token, data=artifact.encode("set_blocked", account, paused))


def opt_in(owner: Account, token: str, account: str) -> Call:
    """Let a contract's balance rebase from here on."""
    return Call(sender=owner, to=token, data=artifact_of("opt_in_rebase").encode("opt_in", account))
