# pragma version ~=0.4.3
"""
@title Several calls in one transaction, for accounts that delegate to it (EIP-7702)
@dev It runs as the account itself, which is therefore `msg.sender` of every call. All succeed or none does; the
     reason is that of the first call that fails.
"""

struct Step:
    target: address
    data: Bytes[8192]


@external
def execute(steps: DynArray[Step, 16]):
    assert msg.sender == self, "batch: caller is not the account itself"
    for step: Step in steps:
        succeeded: bool = False
        answer: Bytes[1024] = b""
        succeeded, answer = raw_call(step.target, step.data, max_outsize=1024, revert_on_failure=False)
        if not succeeded:
            raw_revert(answer)


@external
@payable
def __default__():
    """
    @dev An account takes what it is sent, whatever comes with it.
    """
    pass
