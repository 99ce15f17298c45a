"""Whose a change was: a block's change of balances and share supply, told apart into the calls of investors.

State says how much came and went; logs say through whom. The two must meet in every block: the share supply moves
by just what is seen minted and burned, a balance by just what is seen transferred. Where they do not, nothing
is booked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from harness.books.records import BalanceUpdateCause
from harness.syncers.balances.asking import Doubt
from harness.syncers.balances.observing import Observer, Witness, name_of
from harness.syncers.balances.words import (
    NOBODY,
    Words,
    address_bytes,
    address_text,
    as_address,
    as_topic,
    signature_hash,
)
from harness.syncers.protocol import Target

TRANSFER = signature_hash("Transfer(address,address,uint256)")
DEPLOYED = {
    "enzyme": signature_hash("NewFundCreated(address,address,address)"),
    "erc4626": signature_hash("VaultCreated(address,address)"),
}
"""By vault kind, what a deployer emits of a new vault, whose address is the first word of the data."""
ROUNDING_UNITS = 2
"""So many base units of a token that rebases are its rounding, and nobody's doing."""
_ACCESSOR_SET = signature_hash("AccessorSet(address,address)")
_SHARES_BOUGHT = signature_hash("SharesBought(address,uint256,uint256,uint256)")
_SHARES_REDEEMED = signature_hash("SharesRedeemed(address,address,uint256,address[],uint256[])")
_DEPOSIT = signature_hash("Deposit(address,address,uint256,uint256)")
_WITHDRAW = signature_hash("Withdraw(address,address,address,uint256,uint256)")


@dataclass(frozen=True, slots=True, kw_only=True)
class InvestorCall:
    """What one call of an investor moved: base units by asset, in order, positive into the vault."""

    block: int
    log_index: int
    transaction: str
    cause: BalanceUpdateCause
    owner: str
    """Whose shares were minted or burned, checksummed."""
    moved: tuple[tuple[bytes, int], ...]


@dataclass(slots=True)
class _Traces:
    """What the logs of a transaction show since the last investor's call in it."""

    arrivals: list[int] = field(default_factory=list)
    """Of the reserve, at the holder."""
    departures: Counter[bytes] = field(default_factory=Counter)
    """From the holder, by asset."""
    minted: list[tuple[bytes, int, int | None]] = field(default_factory=list)
    """Shares to somebody, not yet explained by a call, and what of the reserve had arrived last before them."""
    burned: list[tuple[bytes, int]] = field(default_factory=list)

    def forget_assets(self) -> None:
        """What a call moved is no other's."""
        self.arrivals.clear()
        self.departures.clear()


class Watch:
    """Follows one vault from block to block, forward only."""

    def __init__(self, observer: Observer, target: Target, start_block: int) -> None:
        """Begin before a block: with state as the block before it left it."""
        self._observer = observer
        self._target = target
        self._vault = address_bytes(target.vault)
        self._holder = address_bytes(target.holder)
        self._deployer = address_bytes(target.deployer)
        self._reserve = address_bytes(target.reserve.address)
        known = {address_bytes(asset.address): asset for asset in (target.reserve, *target.feeds)}
        self._symbols = {address: asset.token_symbol for address, asset in known.items()}
        self._still = {address for address, asset in known.items() if not asset.is_rebase()}
        """Assets whose balances move through transfers alone."""
        self._supply = observer.supply(target.vault, start_block - 1)
        self._cash = self._cash_at(start_block - 1)
        self._speaker = self._speaker_at(start_block - 1)
        self._seen = start_block - 1

    def concerns(self, block: int) -> bool:
        """Tell whether anything can have happened to the vault in a block, by its header; False is certain.

        An investor's call mints or burns shares, of which the vault tells, even if there are none to mint; and
        what reaches or leaves the holder by transfer names the holder.
        """
        return self._observer.may_have_logs(block, self._vault) or self._observer.may_have_logs(
            block, TRANSFER, as_topic(self._holder)
        )

    def read(self, block: int) -> list[InvestorCall]:
        """The investors' calls of a block, in order.

        Raises:
            Doubt: If state and logs contradict each other.
        """
        self.check_unmoved(block - 1)
        net: Counter[bytes] = Counter()
        issued = 0
        calls: list[InvestorCall] = []
        traces, transaction = _Traces(), ""
        for witness in self._observer.witnesses(block):
            if witness.transaction != transaction:
                self._check_explained(transaction, traces)
                traces, transaction = _Traces(), witness.transaction
            if witness.topics[:1] == (TRANSFER,):
                issued += self._trace_transfer(witness, traces, net)
            else:
                call = self._hear(witness, traces)
                calls += [call] if call is not None else []
        self._check_explained(transaction, traces)
        self._check_supply(block, issued)
        self._check_balances(block, net)
        self._seen = block
        return calls

    def check_unmoved(self, block: int) -> None:
        """Refuse if state at the end of a block is not what it was when last seen.

        Raises:
            Doubt: If shares, cash or accessor moved in blocks whose headers say that they did not.
        """
        if block == self._seen:
            return
        supply, cash = self._observer.supply(self._target.vault, block), self._cash_at(block)
        if supply != self._supply:
            raise Doubt(f"the share supply is {supply} at block {block}, and no log tells why not {self._supply}")
        if cash != self._cash:
            symbol = self._target.reserve.token_symbol
            raise Doubt(f"the {symbol} held are {cash} at block {block}, and no log tells why not {self._cash}")
        if self._speaker_at(block) != self._speaker:
            raise Doubt(f"the vault's accessor at block {block} is one that no log names")

    def _cash_at(self, block: int) -> int:
        """What is held of the reserve; of one that moves by itself nothing can be said."""
        if self._reserve not in self._still:
            return 0
        return self._observer.balance(self._target.reserve.address, self._target.holder, block)

    def _speaker_at(self, block: int) -> bytes | None:
        """Who emits the events of investors' calls."""
        if self._target.kind == "enzyme":
            return self._observer.accessor(self._target.vault, block)
        return self._vault

    # -- one log

    def _trace_transfer(self, witness: Witness, traces: _Traces, net: Counter[bytes]) -> int:
        """Note a transfer; how much it adds to the share supply is returned."""
        if witness.emitter != self._vault and witness.emitter not in self._symbols:
            return 0
        if len(witness.topics) != 3:
            raise Doubt(f"{witness.where} is a Transfer with {len(witness.topics) - 1} indexed fields, not 2")
        sender, receiver = (as_address(topic, witness.where) for topic in witness.topics[1:])
        raw = Words(witness.data, witness.where).number(0)
        if witness.emitter == self._vault:
            return self._trace_shares(sender, receiver, raw, traces)
        if receiver == self._holder:
            net[witness.emitter] += raw
            if witness.emitter == self._reserve:
                traces.arrivals.append(raw)
        if sender == self._holder:
            net[witness.emitter] -= raw
            traces.departures[witness.emitter] += raw
        return 0

    def _trace_shares(self, sender: bytes, receiver: bytes, raw: int, traces: _Traces) -> int:
        if sender == NOBODY:
            traces.minted.append((receiver, raw, traces.arrivals[-1] if traces.arrivals else None))
        if receiver == NOBODY:
            traces.burned.append((sender, raw))
        return raw * ((sender == NOBODY) - (receiver == NOBODY))

    def _hear(self, witness: Witness, traces: _Traces) -> InvestorCall | None:
        """What an event other than a transfer tells: who speaks for the vault, or whose call it was."""
        if not witness.topics:
            return None
        event, words = witness.topics[0], Words(witness.data, witness.where)
        if self._target.kind == "enzyme":
            self._note_speaker(witness, words)
        if witness.emitter != self._speaker:
            return None
        match self._target.kind, event:
            case "enzyme", _ if event == _SHARES_BOUGHT:
                (owner,) = self._indexed(witness, 1)
                return self._paid_in(witness, traces, owner, shares=words.number(1))
            case "enzyme", _ if event == _SHARES_REDEEMED:
                owner, _ = self._indexed(witness, 2)
                legs = self._legs(witness, words)
                return self._paid_out(witness, traces, owner, shares=words.number(0), legs=legs)
            case "erc4626", _ if event == _DEPOSIT:
                _, owner = self._indexed(witness, 2)
                return self._paid_in(witness, traces, owner, shares=words.number(1))
            case "erc4626", _ if event == _WITHDRAW:
                *_, owner = self._indexed(witness, 3)
                legs = [(self._reserve, words.number(0))]
                return self._paid_out(witness, traces, owner, shares=words.number(1), legs=legs)
        return None

    def _note_speaker(self, witness: Witness, words: Words) -> None:
        event, emitter = witness.topics[0], witness.emitter
        created = (event, emitter) == (DEPLOYED["enzyme"], self._deployer) and words.address(0) == self._vault
        if created or (event, emitter) == (_ACCESSOR_SET, self._vault):
            self._speaker = words.address(1)

    def _legs(self, witness: Witness, words: Words) -> list[tuple[bytes, int]]:
        assets, quantities = words.array(1), words.array(2)
        if len(assets) != len(quantities):
            raise Doubt(f"{witness.where} names {len(assets)} assets and {len(quantities)} quantities")
        return [
            (words.address(asset), words.number(quantity)) for asset, quantity in zip(assets, quantities, strict=True)
        ]

    def _indexed(self, witness: Witness, count: int) -> list[bytes]:
        if len(witness.topics) != count + 1:
            raise Doubt(f"{witness.where} has {len(witness.topics) - 1} indexed fields, not {count}")
        return [as_address(topic, witness.where) for topic in witness.topics[1:]]

    # -- one call

    def _paid_in(self, witness: Witness, traces: _Traces, owner: bytes, *, shares: int) -> InvestorCall | None:
        """A deposit, if shares were minted for it, and something of the reserve had just arrived before them.

        An event alone moves nothing, and shares minted for nothing are a fee. What arrived earlier in the same
        transaction is somebody's gift.
        """
        minted = next((one for one in reversed(traces.minted) if one[:2] == (owner, shares)), None)
        if minted is None:
            return None
        traces.minted.remove(minted)
        *_, arrived = minted
        traces.forget_assets()
        if arrived is None:
            return None
        return InvestorCall(
            block=witness.block,
            log_index=witness.number,
            transaction=witness.transaction,
            cause=BalanceUpdateCause.deposit,
            owner=address_text(owner),
            moved=((self._reserve, arrived),),
        )

    def _paid_out(
        self, witness: Witness, traces: _Traces, owner: bytes, *, shares: int, legs: list[tuple[bytes, int]]
    ) -> InvestorCall:
        """A redemption: shares were burned for it, and each leg left the holder."""
        if (owner, shares) not in traces.burned:
            raise Doubt(f"{witness.where} tells of {shares} shares redeemed, and they were not burned")
        traces.burned.remove((owner, shares))
        for asset, raw in legs:
            if raw > traces.departures[asset] + (0 if asset in self._still else ROUNDING_UNITS):
                symbol, left = name_of(asset, self._symbols), traces.departures[asset]
                raise Doubt(f"{witness.where} tells of {raw} raw {symbol} paid out, and {left} left the holder")
            traces.departures[asset] -= raw
        traces.forget_assets()
        return InvestorCall(
            block=witness.block,
            log_index=witness.number,
            transaction=witness.transaction,
            cause=BalanceUpdateCause.redemption,
            owner=address_text(owner),
            moved=tuple((asset, -raw) for asset, raw in legs),
        )

    # -- a transaction, a block

    def _check_explained(self, transaction: str, traces: _Traces) -> None:
        """Refuse what looks like an investor's call of which the event is missing.

        Shares minted alone are fees, and assets that come or go alone are somebody's gift, or taken; a trade moves
        assets both ways. Shares one way and assets the other are a call.
        """
        if any(raw for _, raw, _ in traces.minted) and any(traces.arrivals) and not any(traces.departures.values()):
            raise Doubt(f"{transaction} minted shares and paid assets in, and no event tells of the deposit")
        if any(raw for _, raw in traces.burned) and any(traces.departures.values()) and not any(traces.arrivals):
            raise Doubt(f"{transaction} burned shares and paid assets out, and no event tells of the redemption")

    def _check_supply(self, block: int, issued: int) -> None:
        before, self._supply = self._supply, self._observer.supply(self._target.vault, block)
        if self._supply - before != issued:
            raise Doubt(
                f"the share supply moved by {self._supply - before} in block {block}, "
                f"and the logs tell of {issued} minted or burned"
            )

    def _check_balances(self, block: int, net: Counter[bytes]) -> None:
        for asset in sorted({self._reserve, *net} & self._still):
            address, holder = address_text(asset), self._target.holder
            held = self._observer.balance(address, holder, block)
            moved = held - self._observer.balance(address, holder, block - 1)
            if moved != net[asset]:
                raise Doubt(
                    f"the {self._symbols[asset]} held moved by {moved} in block {block}, "
                    f"and the logs tell of {net[asset]}"
                )
        self._cash = self._cash_at(block)
