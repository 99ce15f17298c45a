"""Enzyme v4, as far as its readers rely on it: vault proxy, comptroller, fund deployer."""

from __future__ import annotations

from collections.abc import Generator

from harness.chain import Account, Call, Outcome, load_artifact
from harness.chain.backend import contract_address
from harness.chain.chain import as_address, checksummed
from harness.ledger.facts import Leg
from harness.scenario.model import Deposit, FlowStep, Mint, Redeem, VaultSpec, Withdraw
from harness.units import Rounding, mul_div
from harness.world import tokens
from harness.world.vault import (
    SECOND_FUND_DEPOSIT_TOKENS,
    SECOND_FUND_REDEMPTION_SHARES,
    SETUP_GAS,
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
VAULT = load_artifact("EnzymeVault")
COMPTROLLER = load_artifact("Comptroller")
FUND_DEPLOYER = load_artifact("FundDeployer")
INTERPRETER = load_artifact("ValueInterpreter")
FIRST_ACCESSOR_NONCE = 4
"""Of the fund deployer's creations: vault and comptroller of the second fund, then those of ours."""


class EnzymeKind:
    """A fund whose vault proxy is the share token and holds the assets.

    Which accessor the vault listens to is read from state wherever it matters: worlds outlive scenarios and branches.
    """

    def __init__(self, spec: VaultSpec, surroundings: Surroundings) -> None:
        self._spec = spec
        self._around = surroundings
        self._reserve = surroundings.tokens[spec.reserve]
        self._symbols = {address: symbol for symbol, address in surroundings.tokens.items()}
        self._fund_deployer = ""
        self._vault = ""
        self._second_vault = ""
        self._second_comptroller = ""

    def deploy_factory(self) -> Calls:
        deployer = self._around.deployer
        interpreter = yield from deploy(deployer, INTERPRETER)
        for symbol, feed in self._around.feeds.items():
            yield from send(deployer, interpreter, INTERPRETER.encode("set_feed", self._around.tokens[symbol], feed))
        vault_blueprint = yield from deploy_blueprint(deployer, VAULT)
        comptroller_blueprint = yield from deploy_blueprint(deployer, COMPTROLLER)
        self._fund_deployer = yield from deploy(
            deployer, FUND_DEPLOYER, vault_blueprint, comptroller_blueprint, interpreter
        )

    def deploy(self) -> Generator[Call, Outcome, Deployed]:
        tracked = [] if self._spec.tracked is None else [self._around.tokens[symbol] for symbol in self._spec.tracked]
        # The second fund stands first: a syncer that takes the deployer's first fund, whosever it is, is seen.
        _, self._second_vault, self._second_comptroller = yield from self._create("Second Fund", "SECOND", [])
        transaction, self._vault, comptroller = yield from self._create(self._spec.name, self._spec.symbol, tracked)
        if comptroller != self._accessor(1):
            raise RuntimeError("the fund deployer's creations are not numbered as they should be")
        stranger = self._around.stranger
        approve = ERC20.encode("approve", self._second_comptroller, 2**256 - 1)
        yield from send(stranger, self._reserve, approve)
        outcome = yield self.second_fund_flow(0)
        if not outcome.succeeded:
            raise RuntimeError(f"the second fund's deposit failed: {outcome.revert_reason}")
        return Deployed(
            vault=self._vault,
            deployer=self._fund_deployer,
            holder=self._vault,
            second_vault=self._second_vault,
            deployment_transaction=transaction,
        )

    def _create(self, name: str, symbol: str, tracked: list[str]) -> Generator[Call, Outcome, tuple[str, str, str]]:
        manager = self._around.manager
        data = FUND_DEPLOYER.encode("create_fund", manager.address, name, symbol, self._reserve, tracked)
        outcome = yield from send(manager, self._fund_deployer, data)
        vault, comptroller = FUND_DEPLOYER.decode("create_fund", outcome.output)
        return outcome.transaction_hash, vault, comptroller

    def prepare(self, step: FlowStep, state: State) -> Prepared:
        match step:
            case Deposit():
                return self._deposit(step, state)
            case Redeem():
                return self._redeem(step, state)
            case Mint() | Withdraw():
                raise TypeError("the loader lets no mint or withdraw through for enzyme")

    def _deposit(self, step: Deposit, state: State) -> Prepared:
        caller = self._around.actors[step.caller]
        receiver = self._around.actors[step.receiver]
        raw = share(step.assets, state.balance(self._reserve, caller.address))
        data = COMPTROLLER.encode("buySharesOnBehalf", receiver.address, raw, 0)
        reserve = self._spec.reserve
        text = f"{step.caller} deposits {self._around.decimals[reserve].format(raw)} {reserve}" + (
            f" for {step.receiver}" if step.receiver != step.caller else ""
        )
        if step.second_vault:
            call = Call(sender=caller, to=self._second_comptroller, data=data)
            return Prepared(call=call, text=f"{text} into the second fund", asked={})
        accessor = self._current(state)
        arrived = tokens.arrives(self._around.specs[reserve], self._reserve, state, raw)
        return Prepared(
            call=Call(sender=caller, to=accessor, data=data),
            text=text,
            flow=FlowIntent(
                cause="deposit",
                owner=receiver.address,
                legs=(Leg(symbol=reserve, raw=arrived),),
                mark=Mark(emitter=accessor, topic=COMPTROLLER.topic("SharesBought")),
                short=raw - arrived,
            ),
            asked={reserve: arrived},
        )

    def _redeem(self, step: Redeem, state: State) -> Prepared:
        caller = self._around.actors[step.caller]
        receiver = self._around.actors[step.receiver]
        held = self.second_share_balance if step.second_vault else self.share_balance
        raw = share(step.shares, held(state, caller.address))
        chosen = None if step.assets is None else [self._around.tokens[symbol] for symbol in step.assets]
        if chosen is None:
            data = COMPTROLLER.encode("redeemSharesInKind", receiver.address, raw, [], [])
        else:
            data = COMPTROLLER.encode("redeemSharesForSpecificAssets", receiver.address, raw, chosen)
        text = (
            f"{step.caller} redeems {format_shares(raw)} shares"
            + (" of the second fund" if step.second_vault else "")
            + (f" for {', '.join(step.assets)} alone" if step.assets is not None else "")
            + (f", paid to {step.receiver}" if step.receiver != step.caller else "")
        )
        if step.second_vault:
            return Prepared(call=Call(sender=caller, to=self._second_comptroller, data=data), text=text, asked={})
        supply = self.share_supply(state)
        legs = tuple(
            Leg(
                symbol=self._symbols[token], raw=-mul_div(state.balance(token, self._vault), raw, supply, Rounding.DOWN)
            )
            for token in (self._tracked(state) if chosen is None else chosen)
            if supply
        )
        accessor = self._current(state)
        return Prepared(
            call=Call(sender=caller, to=accessor, data=data),
            text=text,
            flow=FlowIntent(
                cause="redemption",
                owner=caller.address,
                legs=legs,
                mark=Mark(emitter=accessor, topic=COMPTROLLER.topic("SharesRedeemed")),
            ),
            asked={leg.symbol: leg.raw for leg in legs},
        )

    # -- accessors

    def _accessor(self, number: int) -> str:
        """The vault's n-th accessor, whether it stands already or not: addresses follow from the deployer's nonce."""
        nonce = FIRST_ACCESSOR_NONCE + number - 1
        return checksummed(contract_address(as_address(self._fund_deployer), nonce))

    def _current(self, state: State) -> str:
        accessor = state.read(VAULT, self._vault, "getAccessor")
        if not isinstance(accessor, str):
            raise TypeError("getAccessor gives no address")
        return accessor

    def replace_accessor(self, state: State) -> Call:
        data = FUND_DEPLOYER.encode("replace_accessor", self._vault)
        return Call(sender=self._around.manager, to=self._fund_deployer, data=data, gas=SETUP_GAS)

    def charge_fee(self, state: State, receiver: str, shares_raw: int, event: bool) -> Call:
        data = COMPTROLLER.encode("charge_fee", receiver, shares_raw, event)
        return Call(sender=self._around.manager, to=self._current(state), data=data)

    def emit(self, state: State, caller: Account, accessor: int, assets_raw: int, shares_raw: int) -> Call:
        current = self._current(state)
        had = [self._accessor(1)]
        while had[-1] != current:
            had.append(self._accessor(len(had) + 1))
        if not 1 <= accessor <= len(had):
            raise ValueError(f"the vault has had {len(had)} accessors, and no accessor {accessor}")
        return Call(sender=caller, to=had[accessor - 1], data=COMPTROLLER.encode("announce", assets_raw, shares_raw))

    def emitted_mark(self, call: Call) -> Mark:
        if call.to is None:
            raise TypeError("a call that emits goes to an accessor")
        return Mark(emitter=call.to, topic=COMPTROLLER.topic("SharesBought"))

    def _tracked(self, state: State) -> list[str]:
        tracked = state.read(VAULT, self._vault, "getTrackedAssets")
        if not isinstance(tracked, (list, tuple)):
            raise TypeError("getTrackedAssets gives no list")
        return list(tracked)

    def transfer_shares(self, caller: Account, receiver: str, raw: int) -> Call:
        return Call(sender=caller, to=self._vault, data=ERC20.encode("transfer", receiver, raw))

    def share_balance(self, state: State, holder: str) -> int:
        return state.balance(self._vault, holder)

    def share_supply(self, state: State) -> int:
        return state.number(ERC20, self._vault, "totalSupply")

    def gross_assets(self, state: State) -> int:
        return state.number(COMPTROLLER, self._current(state), "calcGav")

    def counted_assets(self, state: State) -> tuple[str, ...]:
        return tuple(self._symbols[token] for token in self._tracked(state))

    def approve_shares(self, owner: Account, spender: str) -> Call:
        return Call(sender=owner, to=self._vault, data=ERC20.encode("approve", spender, 2**256 - 1))

    def spenders(self) -> tuple[str, ...]:
        return tuple(self._accessor(number + 1) for number in range(self._around.accessors))

    def second_spender(self) -> str:
        return self._second_comptroller

    def second_share_balance(self, state: State, holder: str) -> int:
        return state.balance(self._second_vault, holder)

    def second_fund_flow(self, turn: int) -> Call:
        if turn % 2 == 0:
            decimals = self._around.decimals[self._spec.reserve].decimals
            data = COMPTROLLER.encode("buyShares", SECOND_FUND_DEPOSIT_TOKENS * 10**decimals, 0)
        else:
            data = COMPTROLLER.encode(
                "redeemSharesInKind", self._around.stranger.address, SECOND_FUND_REDEMPTION_SHARES * 10**18, [], []
            )
        return Call(sender=self._around.stranger, to=self._second_comptroller, data=data)

    def trade(self, sell: str, sell_raw: int, buy: str, buy_raw: int) -> Call:
        tokens = self._around.tokens
        return self._manage(VAULT.encode("trade", self._around.venue, tokens[sell], sell_raw, tokens[buy], buy_raw))

    def supply(self, raw: int, into: str) -> Call:
        return self._manage(VAULT.encode("supply", self._around.pool, self._reserve, raw, self._around.tokens[into]))

    def unsupply(self, raw: int, token: str) -> Call:
        return self._manage(VAULT.encode("unsupply", self._around.pool, self._around.tokens[token], raw))

    def borrow(self, raw: int, debt: str) -> Call:
        return self._manage(VAULT.encode("borrow", self._around.pool, self._around.tokens[debt], raw))

    def repay(self, raw: int, debt: str) -> Call:
        return self._manage(VAULT.encode("repay", self._around.pool, self._reserve, raw, self._around.tokens[debt]))

    def take(self, symbol: str, raw: int, receiver: str) -> Call:
        return self._manage(VAULT.encode("take", self._around.tokens[symbol], raw, receiver))

    def _manage(self, data: bytes) -> Call:
        return Call(sender=self._around.manager, to=self._vault, data=data)


def format_shares(raw: int) -> str:
    """Enzyme's shares have 18 decimals; print them without trailing zeros."""
    whole, part = divmod(raw, 10**18)
    return f"{whole}.{part:018d}".rstrip("0").rstrip(".")
