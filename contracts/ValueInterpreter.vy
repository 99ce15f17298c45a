# pragma version ~=0.4.3
"""
@title Values an amount of one asset in another, by the price feeds of both
"""
from ethereum.ercs import IERC20Detailed
from snekmate.auth import ownable
from snekmate.utils import math

initializes: ownable

exports: ownable.owner


interface PriceFeed:
    def decimals() -> uint8: view
    def latestRoundData() -> (uint80, int256, uint256, uint256, uint80): view


FEED_DECIMALS: constant(uint8) = 8

feed_of: public(HashMap[address, address])


@deploy
def __init__():
    ownable.__init__()


@external
def set_feed(asset: address, feed: address):
    """
    @dev Prices cancel out only while all feeds count alike.
    """
    ownable._check_owner()
    assert staticcall PriceFeed(feed).decimals() == FEED_DECIMALS, "value interpreter: feed has other decimals than 8"
    self.feed_of[asset] = feed


@external
@view
def value_of(asset: address, amount: uint256, quote: address) -> uint256:
    """
    @dev floor(amount * price(asset) * 10^decimals(quote) / (price(quote) * 10^decimals(asset))), rounded once.
         As in Enzyme, nothing is worth nothing and an asset is worth itself, whatever the feeds say.
    @return Base units of `quote`.
    """
    if amount == 0 or asset == quote:
        return amount
    asset_decimals: uint256 = convert(staticcall IERC20Detailed(asset).decimals(), uint256)
    quote_decimals: uint256 = convert(staticcall IERC20Detailed(quote).decimals(), uint256)
    multiplier: uint256 = self._price(asset)
    divisor: uint256 = self._price(quote)
    assert divisor != 0, "value interpreter: the quote asset has no price"
    # Only the difference of the decimals counts: the smaller power of ten is cut from both sides.
    if quote_decimals > asset_decimals:
        multiplier *= 10 ** (quote_decimals - asset_decimals)
    else:
        divisor *= 10 ** (asset_decimals - quote_decimals)
    return math._mul_div(amount, multiplier, divisor, False)


@internal
@view
def _price(asset: address) -> uint256:
    feed: address = self.feed_of[asset]
    assert feed != empty(address), "value interpreter: asset has no price feed"
    round_id: uint80 = 0
    answer: int256 = 0
    started_at: uint256 = 0
    updated_at: uint256 = 0
    answered_in_round: uint80 = 0
    round_id, answer, started_at, updated_at, answered_in_round = staticcall PriceFeed(feed).latestRoundData()
    assert answer >= 0, "value interpreter: price is negative"
    return convert(answer, uint256)
