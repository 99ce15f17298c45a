"""Vault kinds as a reader of events sees them: who announces a vault, who speaks for it, in which words."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Protocol

from harness.errors import SyncRefused
from harness.syncers.protocol import Target
from harness.syncers.reference.decoding import (
    ACCESSOR_SET,
    DEPOSIT,
    NEW_FUND_CREATED,
    SHARES_BOUGHT,
    SHARES_REDEEMED,
    VAULT_CREATED,
    WITHDRAW,
    Flow,
    Log,
    checksum,
    decode_accessor_set,
    decode_deposit,
    decode_new_fund,
    decode_shares_bought,
    decode_shares_redeemed,
    decode_vault_created,
    decode_withdraw,
)
from harness.syncers.reference.reading import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Whose events count from which place on, in (block, log index) order; the first place is before all logs."""

    places: tuple[tuple[int, int], ...]
    emitters: tuple[str, ...]

    def counts(self, log: Log) -> bool:
        """Tell whether the log's emitter had the say when it spoke."""
        return log.address == self.emitters[bisect.bisect_right(self.places, log.place) - 1]


class Kind(Protocol):
    """What tells one vault kind from another."""

    @property
    def deployment_topic(self) -> bytes:
        """The first topic of what the deployer emits for a new vault."""

    @property
    def flow_topics(self) -> tuple[bytes, ...]:
        """The first topics of flows."""

    def deployed_vault(self, log: Log) -> str:
        """The vault that a deployment event announces."""

    def say(self, reader: Reader, target: Target, deployed_at: int, start_block: int, end_block: int) -> Say:
        """Who emits flows in a range."""

    def decode(self, log: Log, target: Target) -> Flow:
        """A flow's event."""


class Enzyme:
    """A fund whose accessor (comptroller) emits the flows; the accessor may be replaced."""

    deployment_topic = NEW_FUND_CREATED
    flow_topics = (SHARES_BOUGHT, SHARES_REDEEMED)

    def deployed_vault(self, log: Log) -> str:
        """The vault proxy that a ``NewFundCreated`` announces."""
        return decode_new_fund(log)[0]

    def say(self, reader: Reader, target: Target, deployed_at: int, start_block: int, end_block: int) -> Say:
        """The accessor that stood before the range, and those set in it."""
        if start_block > deployed_at:
            accessor = checksum(reader.call(target.vault, "getAccessor()(address)", block=start_block - 1))
        else:
            accessor = self._first_accessor(reader, target, deployed_at)
        changes = list(reader.logs([target.vault], [ACCESSOR_SET], start_block, end_block))
        say = Say(
            places=((-1, -1), *(log.place for log in changes)),
            emitters=(accessor, *(decode_accessor_set(log) for log in changes)),
        )
        last = checksum(reader.call(target.vault, "getAccessor()(address)", block=end_block))
        if say.emitters[-1] != last:
            raise SyncRefused(f"{last} speaks for the vault at block {end_block}, but no log says since when")
        return say

    def _first_accessor(self, reader: Reader, target: Target, deployed_at: int) -> str:
        for log in reader.logs([target.deployer], [NEW_FUND_CREATED], deployed_at, deployed_at):
            vault, accessor = decode_new_fund(log)
            if vault == checksum(target.vault):
                return accessor
        if not reader.is_proved(deployed_at):
            reader.prove(deployed_at)
            return self._first_accessor(reader, target, deployed_at)
        raise SyncRefused(f"no deployment of vault {target.vault} in block {deployed_at}, where the books have it")

    def decode(self, log: Log, target: Target) -> Flow:
        """``SharesBought`` or ``SharesRedeemed``."""
        return decode_shares_bought(log) if log.topics[0] == SHARES_BOUGHT else decode_shares_redeemed(log)


class Erc4626:
    """A vault that emits its flows itself and holds one asset."""

    deployment_topic = VAULT_CREATED
    flow_topics = (DEPOSIT, WITHDRAW)

    def deployed_vault(self, log: Log) -> str:
        """The vault that a ``VaultCreated`` announces."""
        return decode_vault_created(log)

    def say(self, reader: Reader, target: Target, deployed_at: int, start_block: int, end_block: int) -> Say:
        """The vault, always."""
        return Say(places=((-1, -1),), emitters=(checksum(target.vault),))

    def decode(self, log: Log, target: Target) -> Flow:
        """``Deposit`` or ``Withdraw``."""
        return decode_deposit(log) if log.topics[0] == DEPOSIT else decode_withdraw(log, target.reserve.address)


KINDS: dict[str, Kind] = {"enzyme": Enzyme(), "erc4626": Erc4626()}
