"""A plain ERC-4626 vault (snekmate's, offset 0) and the factory that deploys it."""

from __future__ import annotations

from collections.abc import Generator

from harness.chain import Account, Call, Outcome, load_artifact
from harness.ledger.facts import Leg
from harness.scenario.model import Deposit, FlowStep, Mint, Redeem, VaultSpec, Withdraw
from harness.units import Rounding, mul_div
from harness.world import tokens
from harness.world.vault import (
    SECOND_FUND_DEPOSIT_TOKENS,
    SECOND_FUND_REDEMPTION_SHARES,
    Calls,
    Deployed,
    FlowIntent,
    Mark,
    Prepared,
    State,
    Surroundings,
    deploy,
    deploy_blueprint,
    send,
    share,
)

ERC20 = load_artifact("Erc20")
VAULT = load_artifact("Erc4626Vault")
FACTORY = load_artifact("Erc4626Factory")


class Erc4626Kind:
    """A vault that holds nothing but its reserve."""

    def __init__(self, spec: VaultSpec, surroundings: Surroundings) -> None:
        self._spec = spec
        self._around = surroundings
        self._reserve = surroundings.tokens[spec.reserve]
        self._token = surroundings.decimals[spec.reserve]
        self._factory = ""
        self._vault = ""
        self._second_vault = ""

    def deploy_factory(self) -> Calls:
        blueprint = yield from deploy_blueprint(self._around.deployer, VAULT)
        self._factory = yield from deploy(self._around.deployer, FACTORY, blueprint)

    def deploy(self) -> Generator[Call, Outcome, Deployed]:
        # The second vault stands first: a syncer that takes the factory's first vault, whosever it is, is seen.
        _, self._second_vault = yield from self._create("Second Fund", "SECOND")
        transaction, self._vault = yield from self._create(self._spec.name, self._spec.symbol)
        yield from send(self._around.stranger, self._reserve, ERC20.encode("approve", self._second_vault, 2**256 - 1))
        outcome = yield self.second_fund_flow(0)
        if not outcome.succeeded:
            raise RuntimeError(f"the second fund's deposit failed: {outcome.revert_reason}")
        return Deployed(
            vault=self._vault,
            deployer=self._factory,
            holder=self._vault,
            second_vault=self._second_vault,
            deployment_transaction=transaction,
        )

    def _create(self, name: str, symbol: str) -> Generator[Call, Outcome, tuple[str, str]]:
        manager = self._around.manager
        data = FACTORY.encode("create_vault", self._reserve, name, symbol, manager.address)
        outcome = yield from send(manager, self._factory, data)
        return outcome.transaction_hash, FACTORY.decode("create_vault", outcome.output)

    def prepare(self, step: FlowStep, state: State) -> Prepared:
        reserve = self._spec.reserve
        actors = self._around.actors
        caller = actors[step.caller]
        sent = 0
        second = isinstance(step, Deposit | Redeem) and step.second_vault
        match step:
            case Deposit():
                raw = share(step.assets, state.balance(self._reserve, caller.address))
                data = VAULT.encode("deposit", raw, actors[step.receiver].address)
                sent, moved = raw, self._arrives(state, raw)
                text = f"deposits {self._token.format(raw)} {reserve}"
            case Mint():
                raw = share(step.shares, 0)
                sent = self._assets(state, raw, Rounding.UP)
                moved = self._arrives(state, sent)
                data = VAULT.encode("mint", raw, actors[step.receiver].address)
                text = f"mints {self._token.format(raw)} shares"
            case Withdraw():
                owner = actors[step.owner].address
                raw = share(step.assets, state.number(VAULT, self._vault, "maxWithdraw", owner))
                moved, data = -raw, VAULT.encode("withdraw", raw, actors[step.receiver].address, owner)
                text = f"withdraws {self._token.format(raw)} {reserve}"
            case Redeem():
                owner = actors[step.owner].address
                held = self.second_share_balance if second else self.share_balance
                raw = share(step.shares, held(state, owner))
                moved = -self._assets(state, raw, Rounding.DOWN)
                data = VAULT.encode("redeem", raw, actors[step.receiver].address, owner)
                text = f"redeems {self._token.format(raw)} shares"
        text = f"{step.caller} {text}{_roles(step)}"
        if second:
            call = Call(sender=caller, to=self._second_vault, data=data)
            return Prepared(call=call, text=f"{text}, in the second fund", asked={})
        return Prepared(
            call=Call(sender=caller, to=self._vault, data=data),
            text=text,
            flow=self._intent(step, moved, sent),
            asked={reserve: moved},
        )

    def _intent(self, step: FlowStep, moved: int, sent: int) -> FlowIntent:
        legs = (Leg(symbol=self._spec.reserve, raw=moved),)
        if isinstance(step, Deposit | Mint):
            mark = Mark(emitter=self._vault, topic=VAULT.topic("Deposit"))
            owner = self._around.actors[step.receiver].address
            return FlowIntent(cause="deposit", owner=owner, legs=legs, mark=mark, short=sent - moved)
        mark = Mark(emitter=self._vault, topic=VAULT.topic("Withdraw"))
        return FlowIntent(cause="redemption", owner=self._around.actors[step.owner].address, legs=legs, mark=mark)

    def _arrives(self, state: State, raw: int) -> int:
        return tokens.arrives(self._around.specs[self._spec.reserve], self._reserve, state, raw)

    def _assets(self, state: State, shares: int, rounding: Rounding) -> int:
        """Value shares as the vault does: one virtual share and one virtual asset (OpenZeppelin's offset 0)."""
        total = state.balance(self._reserve, self._vault)
        return mul_div(shares, total + 1, self.share_supply(state) + 1, rounding)

    def transfer_shares(self, caller: Account, receiver: str, raw: int) -> Call:
        return Call(sender=caller, to=self._vault, data=ERC20.encode("transfer", receiver, raw))

    def share_balance(self, state: State, holder: str) -> int:
        return state.balance(self._vault, holder)

    def share_supply(self, state: State) -> int:
        return state.number(ERC20, self._vault, "totalSupply")

    def gross_assets(self, state: State) -> int:
        return state.number(VAULT, self._vault, "totalAssets")

    def counted_assets(self, state: State) -> tuple[str, ...]:
        return (self._spec.reserve,)

    def approve_shares(self, owner: Account, spender: str) -> Call:
        return Call(sender=owner, to=self._vault, data=ERC20.encode("approve", spender, 2**256 - 1))

    def spenders(self) -> tuple[str, ...]:
        return (self._vault,)

    def second_spender(self) -> str:
        return self._second_vault

    def second_share_balance(self, state: State, holder: str) -> int:
        return state.balance(self._second_vault, holder)

    def charge_fee(self, state: State, receiver: str, shares_raw: int, event: bool) -> Call:
        data = VAULT.encode("charge_fee", receiver, shares_raw, event)
        return Call(sender=self._around.manager, to=self._vault, data=data)

    def replace_accessor(self, state: State) -> Call:
        raise TypeError("the loader lets no replace_accessor through for erc4626")

    def emit(self, state: State, caller: Account, accessor: int, assets_raw: int, shares_raw: int) -> Call:
        raise TypeError("the loader lets no emit through for erc4626")

    def emitted_mark(self, call: Call) -> Mark:
        raise TypeError("the loader lets no emit through for erc4626")

    def second_fund_flow(self, turn: int) -> Call:
        stranger = self._around.stranger
        unit = 10**self._token.decimals
        if turn % 2 == 0:
            data = VAULT.encode("deposit", SECOND_FUND_DEPOSIT_TOKENS * unit, stranger.address)
        else:
            data = VAULT.encode("redeem", SECOND_FUND_REDEMPTION_SHARES * unit, stranger.address, stranger.address)
        return Call(sender=stranger, to=self._second_vault, data=data)

    def trade(self, sell: str, sell_raw: int, buy: str, buy_raw: int) -> Call:
        raise TypeError("the loader lets no trade through for erc4626")

    def supply(self, raw: int, into: str) -> Call:
        raise TypeError("the loader lets no supply through for erc4626")

    def unsupply(self, raw: int, token: str) -> Call:
        raise TypeError("the loader lets no unsupply through for erc4626")

    def borrow(self, raw: int, debt: str) -> Call:
        raise TypeError("the loader lets no borrow through for erc4626")

    def repay(self, raw: int, debt: str) -> Call:
        raise TypeError("the loader lets no repay through for erc4626")

    def take(self, symbol: str, raw: int, receiver: str) -> Call:
        data = VAULT.encode("transfer_out", self._around.tokens[symbol], raw, receiver)
        return Call(sender=self._around.manager, to=self._vault, data=data)


def _roles(step: FlowStep) -> str:
    owner = getattr(step, "owner", step.caller)
    words = f" of {owner}" if owner != step.caller else ""
    return words + (f" for {step.receiver}" if step.receiver not in (step.caller, owner) else "")
