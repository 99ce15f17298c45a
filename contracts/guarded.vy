# pragma version ~=0.4.3
"""
@title What an issuer can do to transfers: stop them all, or those from and to one address
@dev A module. Minting and burning by a pool count as transfers; rebases do not.
"""
from snekmate.auth import ownable

uses: ownable


event PausedSet:
    paused: bool


event BlockedSet:
    account: indexed(address)
    blocked: bool


paused: public(bool)
blocked: public(HashMap[address, bool])


@external
def set_paused(paused: bool):
    ownable._check_owner()
    self.paused = paused
    log PausedSet(paused=paused)


@external
def set_blocked(account: address, blocked: bool):
    ownable._check_owner()
    self.blocked[account] = blocked
    log BlockedSet(account=account, blocked=blocked)


@internal
@view
def _check(sender: address, receiver: address):
    assert not self.paused, "token: transfers are paused"
    assert not self.blocked[sender], "token: sender is blocked"
    assert not self.blocked[receiver], "token: receiver is blocked"
