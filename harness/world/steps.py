"""Steps that need no books: what each comes to as a call, at one moment in the block being built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar, assert_never

from harness.chain import Call
from harness.scenario.model import (
    Accrue,
    Amount,
    ChargeFee,
    Deposit,
    Donate,
    Emit,
    FlowStep,
    Mint,
    OptIn,
    Pause,
    Price,
    Rebase,
    Redeem,
    ReplaceAccessor,
    Scenario,
    Take,
    TransferShares,
    Withdraw,
)
from harness.units import PRICE_DECIMALS, format_units
from harness.world import tokens
from harness.world.setup import ERC20, PRICE_FEED, World
from harness.world.vault import Prepared, State, share

SINK = "0x000000000000000000000000000000000000dEaD"
"""Where taken tokens go."""
RAY_ONE = 10**27

PlainStep = (
    FlowStep
    | TransferShares
    | Donate
    | Take
    | ChargeFee
    | ReplaceAccessor
    | Emit
    | Pause
    | Rebase
    | Accrue
    | OptIn
    | Price
)
"""Chain steps but the manager's, and a transaction of several calls."""
_Step = TypeVar("_Step", bound=PlainStep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """Turns plain steps into calls in one world."""

    scenario: Scenario
    world: World

    def settled(self, step: _Step, state: State) -> _Step:
        """The step with every percentage and ``all`` counted out by what stands just before it.

        What is mined again after a reorganisation is the transaction that was signed: its amounts stay.
        """
        match step:
            case Deposit() | Donate():
                token = self.world.around.tokens[step.assets.token]
                held = state.balance(token, self.world.around.actors[step.caller].address)
                return replace(step, assets=_exact(step.assets, held))
            case Redeem() if not step.second_vault:
                owner = self.world.around.actors[step.owner].address
                return replace(step, shares=_exact(step.shares, self.world.kind.share_balance(state, owner)))
            case TransferShares():
                caller = self.world.around.actors[step.caller].address
                return replace(step, shares=_exact(step.shares, self.world.kind.share_balance(state, caller)))
            case Take():
                token = self.world.around.tokens[step.assets.token]
                return replace(step, assets=_exact(step.assets, state.balance(token, self.world.deployed.holder)))
            case _:
                return step

    def prepare(self, step: PlainStep, state: State) -> Prepared:
        """Turn a step into a call and what it should move in the holder's balances."""
        around, kind = self.world.around, self.world.kind
        match step:
            case Deposit() | Mint() | Withdraw() | Redeem():
                return kind.prepare(step, state)
            case TransferShares():
                caller = around.actors[step.caller]
                raw = share(step.shares, kind.share_balance(state, caller.address))
                call = kind.transfer_shares(caller, around.actors[step.receiver].address, raw)
                text = f"{step.caller} hands {self.scenario.share.format(raw)} shares to {step.receiver}"
                return Prepared(call=call, text=text, asked={})
            case Donate():
                caller = around.actors[step.caller]
                token = around.tokens[step.assets.token]
                raw = share(step.assets, state.balance(token, caller.address))
                call = Call(sender=caller, to=token, data=ERC20.encode("transfer", self.world.deployed.holder, raw))
                text = f"{step.caller} donates {self._format(step.assets, raw)}"
                return Prepared(call=call, text=text, asked={}, rest="donated")
            case Take():
                raw = share(step.assets, state.balance(around.tokens[step.assets.token], self.world.deployed.holder))
                call = kind.take(step.assets.token, raw, SINK)
                text = f"{self._format(step.assets, raw)} is taken out, unbooked"
                return Prepared(call=call, text=text, asked={}, rest="taken")
            case ChargeFee():
                raw = share(step.shares, 0)
                call = kind.charge_fee(state, around.actors[step.receiver].address, raw, step.event)
                shown = " with an event like a deposit's" if step.event else ""
                text = f"a fee of {self.scenario.share.format(raw)} shares is minted to {step.receiver}{shown}"
                return Prepared(call=call, text=text, asked={}, fee_shares=raw)
            case ReplaceAccessor():
                return Prepared(call=kind.replace_accessor(state), text="the vault gets a new accessor", asked={})
            case Emit():
                call = kind.emit(
                    state, around.actors[step.caller], step.accessor, share(step.assets, 0), share(step.shares, 0)
                )
                text = f"accessor {step.accessor} emits a deposit event for {step.caller}; nothing moves"
                return Prepared(call=call, text=text, asked={}, extra_mark=kind.emitted_mark(call))
            case Pause() | Rebase() | Accrue() | OptIn():
                return self._prepare_token(step)
            case Price():
                call = Call(
                    sender=around.deployer,
                    to=around.feeds[step.token],
                    data=PRICE_FEED.encode("set_answer", step.price_raw),
                )
                return Prepared(call=call, text=f"{step.token} is priced at {_usd(step.price_raw)} USD", asked={})
            case _:
                assert_never(step)

    def _prepare_token(self, step: Pause | Rebase | Accrue | OptIn) -> Prepared:
        around, holder = self.world.around, self.world.deployed.holder
        token, spec = around.tokens[step.token], self.scenario.tokens[step.token]
        match step:
            case Pause():
                who = "everybody" if step.actor is None else step.actor
                account = None if step.actor is None else around.actors[step.actor].address
                call = tokens.pause(around.deployer, token, account, paused=step.paused)
                text = f"transfers of {step.token} {'stop' if step.paused else 'go on'} for {who}"
                return Prepared(call=call, text=text, asked={})
            case Rebase(balance=None):
                call = tokens.rebase_by(around.deployer, spec, token, step.factor_ray or 0)
                text = f"{step.token} rebases by {Fraction(step.factor_ray or 0, RAY_ONE)}"
            case Rebase():
                assert step.balance is not None, "it says one of the two"
                raw = share(step.balance, 0)
                call = tokens.rebase_to(around.deployer, spec, token, holder, raw)
                text = f"{step.token} rebases: the vault's balance becomes {self._format(step.balance, raw)}"
            case Accrue():
                call = tokens.accrue(around.deployer, spec, token, step.rate_ray)
                text = f"{step.token} grows by {Fraction(step.rate_ray, RAY_ONE)} a year from here on"
            case OptIn():
                call = tokens.opt_in(around.deployer, token, holder)
                text = f"the vault's {step.token} rebases from here on"
        return Prepared(call=call, text=text, asked={}, rest="rebase")

    def _format(self, amount: Amount, raw: int) -> str:
        token = self.scenario.token(amount.token)
        return f"{token.format(raw)} {token.symbol}"


def _exact(amount: Amount, whole: int) -> Amount:
    return replace(amount, raw=share(amount, whole), percent=None)


def _usd(price_raw: int) -> str:
    return format_units(price_raw, PRICE_DECIMALS).rstrip("0").rstrip(".")
