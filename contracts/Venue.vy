# pragma version ~=0.4.3
"""
@title A venue that swaps at whatever price the caller names, from the stock that it was given
"""
from ethereum.ercs import IERC20


@external
def swap(sell: address, sell_amount: uint256, buy: address, buy_amount: uint256):
    assert extcall IERC20(sell).transferFrom(msg.sender, self, sell_amount, default_return_value=True)
    assert extcall IERC20(buy).transfer(msg.sender, buy_amount, default_return_value=True)
