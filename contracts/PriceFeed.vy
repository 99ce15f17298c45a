# pragma version ~=0.4.3
"""
@title A price feed with Chainlink's aggregator interface, whose owner sets the answer
"""
from snekmate.auth import ownable

initializes: ownable

exports: ownable.owner


event AnswerUpdated:
    current: indexed(int256)
    roundId: indexed(uint256)
    updatedAt: uint256


decimals: public(constant(uint8)) = 8
description: public(immutable(String[64]))

latestAnswer: public(int256)
_round_id: uint80
_updated_at: uint256


@deploy
def __init__(description_: String[64], answer: int256):
    ownable.__init__()
    description = description_
    self._set_answer(answer)


@external
@view
def latestRoundData() -> (uint80, int256, uint256, uint256, uint80):
    """
    @return Round id, answer, start and end of the round (the time of the block that set it), round id again.
    """
    return (self._round_id, self.latestAnswer, self._updated_at, self._updated_at, self._round_id)


@external
def set_answer(answer: int256):
    ownable._check_owner()
    self._set_answer(answer)


@internal
def _set_answer(answer: int256):
    self.latestAnswer = answer
    self._round_id += 1
    self._updated_at = block.timestamp
    log AnswerUpdated(current=answer, roundId=convert(self._round_id, uint256), updatedAt=block.timestamp)
