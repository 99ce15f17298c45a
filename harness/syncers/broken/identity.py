"""Mistakes about whose books these are."""

from __future__ import annotations

from harness.books.records import Books, Deployment
from harness.syncers.broken.registry import broken
from harness.syncers.reference import ReferenceSyncer
from harness.syncers.reference.decoding import Log
from harness.syncers.reference.syncer import Work


@broken("other_chain_accepted", cause=None)
class OtherChainAccepted(ReferenceSyncer):
    """Books of another chain are synced on this one."""

    def check_chain(self, deployment: Deployment) -> None:
        pass


@broken("other_vault_accepted", cause=None)
class OtherVaultAccepted(ReferenceSyncer):
    """Books of another vault are synced with this one's events."""

    def check_vault(self, deployment: Deployment) -> None:
        pass


@broken("initialised_twice", cause=None)
class InitialisedTwice(ReferenceSyncer):
    """Books that have a vault are initialised again."""

    def check_uninitialised(self, books: Books) -> None:
        pass


@broken("name_and_symbol_swapped", cause=None)
class NameAndSymbolSwapped(ReferenceSyncer):
    """The share token's name stands where its symbol should, and the other way round."""

    def fill_deployment(self, work: Work, event: Log) -> None:
        super().fill_deployment(work, event)
        deployment = work.books.sync.deployment
        deployment.vault_token_name, deployment.vault_token_symbol = (
            deployment.vault_token_symbol,
            deployment.vault_token_name,
        )
