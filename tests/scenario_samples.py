"""Scenarios that load, for several tests."""

from __future__ import annotations

REDEMPTION = """\
# yaml-language-server: $schema=../schema/scenario.json
title: In-kind redemption pays from the reserve and from an open position
tags: [enzyme, redemption, case-43]
tokens:
  USDC: {decimals: 6, usd: 1}
  WETH: {decimals: 18, usd: 1600}
vault: {kind: enzyme, name: Example Fund, symbol: EXAMPLE, reserve: USDC}
steps:
  - deposit: {caller: alice, assets: 500 USDC}
  - sync:
  - trade: {sell: 100 USDC, buy: 0.0625 WETH}
  - redeem: {caller: alice, shares: 50%}
  - sync: {cycle: 2024-01-02 00:00}
    expect:
      updates:
        - {cause: redemption, position_type: reserve, quantity: -200 USDC, usd_value: -200, owner: alice}
        - {cause: redemption, position_type: open_position, quantity: -0.03125 WETH, usd_value: -50}
      balances: {USDC: 200, WETH: 0.03125}
  - redeem: {caller: alice, shares: 300}
    refused: insufficient
"""

EVERYTHING = """\
title: Everything
tags: [a, b]
start: 2024-01-05 10:00
block_time: 1 minute
chain_id: 5
interest_bound: 0.5
laws_off: {books-equal-chain: "no", schedules-agree: the syncer rounds}
tolerances:
  - {allow: 2 raw aUSDC, reason: an index token rounds}
  - {allow: 0.5 USDC, field: quantity, reason: "5"}
known:
  reason: mended in the next release
  until: 2026-12-31
  breaks:
    - {kind: different, field: quantity, asset: USDC, position_id: 1, block: 3, line: 14}
    - {kind: law, field: sums-add-up}
tokens:
  aUSDC: {kind: index_rebase, underlying: USDC, dust: {absolute: 0.01, relative: 0.001}}
  USDC: {decimals: 6, usd: 1.0001}
  WETH: {usd: 1600}
  FREE: {kind: index_rebase}
vault: {kind: enzyme, reserve: USDC, tracked: [USDC, WETH]}
actors: {alice: {USDC: 500, WETH: 5 raw}, bob: , carol: {}}
deploy_block:
  - deposit: {caller: alice, assets: 1_000.5}
  - donate: {caller: bob, assets: 1 raw WETH}
    refused: true
steps:
  - initialise: {start_block: 3, end_block: 2, chunk: 5}
  - sync:
  - sync: {cycle: 2024-02-01T00:00:05Z, end_block: head-2, chunk: 1}
    refused: "no: way"
    note: |
      two
      lines
  - sync_interest: {end_block: head}
  - trade: {sell: 40% USDC, buy: 5 raw WETH, position: new}
  - supply: {assets: 12.5%, into: aUSDC}
  - block:
      - rebase: {token: aUSDC, factor: 1.000000000000000000000000001}
      - price: {token: WETH, usd: 0.00000001}
        note: hi
    expect:
      chain: {balances: {USDC: 5}, share_count: 500, share_price: 1.05}
  - mine: 3
  - wait: 30 days
  - wait: {until: 2024-04-12 02:12:00}
  - rebase: {token: aUSDC, balance: 5}
  - unsupply: {assets: all aUSDC, position: 2, unsynced: true}
  - close: {position: 2, unsynced: true}
  - take: {assets: all WETH}
  - transfer_shares: {caller: alice, receiver: bob, shares: 5 raw}
  - redeem: {caller: alice, shares: 3 VAULT, receiver: dave}
  - restart:
  - restart: {chain_id: 2}
  - restart: {vault: second}
  - sync_interest:
    expect:
      updates: []
      balances: {USDC: -5}
      positions:
        1:
          quantity: 0.03 WETH
          loan:
            collateral: {quantity: 3 raw aUSDC, asset: aUSDC}
            collateral_interest: {last_token_amount: 5, last_updated_block_number: 5}
          trades: [{executed_quantity: 0.5 WETH, trade_id: 1}]
        2:
      closed_positions:
        2: {pair: {base: WETH, quote: USDC, kind: spot_market_hold}, closed_at: 2024-01-01 00:00, quantity: 5 raw}
      deployment: {address: vault, block_number: 2, vault_token_name: "no", tx_hash: null}
      treasury:
        last_block_scanned: 5
        last_cycle_at: 2024-01-01 00:00
        balance_update_refs: [{cause: deposit, usd_value: 5.5, position_id: ~}]
        share_count: 3
      accounting: {balance_update_refs: [], last_block_scanned: null}
      interest:
        last_sync_at: 2024-01-01 00:00:01
        last_distribution:
          start: 2024-01-01 00:00
          assets: [aUSDC]
          effective_rate: 0.05
          asset_interest_data: {aUSDC: {total: 5 raw, effective_rate: 0.1}}
      contains:
        updates: [{cause: interest, other_data: {a: 1, b: {c: "5"}, d: null}, owner: vault, notes: 5}]
  - expect: {positions: {}}
"""

ERC4626 = """\
title: ERC-4626
tokens: {USDC: {decimals: 6}}
vault: {kind: erc4626}
steps:
  - deposit: {caller: alice, assets: 100, receiver: bob}
  - mint: {caller: alice, shares: 5 raw}
  - withdraw: {caller: carol, assets: 50%, owner: bob, receiver: dave}
  - redeem: {caller: bob, shares: all}
  - donate: {caller: alice, assets: 5}
  - take: {assets: all}
  - mine: 1_0
  - sync: {chunk: 1_000}
"""

HARD_DAYS = """\
title: Hard days
tokens:
  USDC: {decimals: 6}
  WETH: {usd: 1600, kind: fee_on_transfer}
  FEE: {kind: fee_on_transfer, fee: 0.25%}
  stETH: {kind: share_rebase}
  OUSD: {kind: opt_in_rebase}
  aUSDC: {kind: index_rebase, underlying: USDC}
  vdUSDC: {kind: debt, underlying: USDC}
vault: {kind: enzyme, reserve: USDC}
deploy_block:
  - replace_accessor:
steps:
  - transaction:
      - deposit: {caller: alice, assets: 1_000 USDC}
      - redeem: {caller: alice, shares: 10%, assets: [WETH, USDC]}
      - transfer_shares: {caller: alice, receiver: bob, shares: 5}
      - donate: {caller: alice, assets: 1 raw WETH}
      - emit: {caller: alice, accessor: 2, assets: 10, shares: 10 raw}
    note: one caller
  - block:
      - replace_accessor: {}
      - deposit: {caller: bob, assets: 500}
      - charge_fee: {shares: 10, receiver: carol, event: deposit}
      - charge_fee: {shares: 1 raw, receiver: carol}
      - transaction: [deposit: {caller: bob, assets: 5}]
        refused: true
      - emit: {caller: bob, accessor: 3, assets: 10 USDC, shares: 10}
  - sync:
  - deposit: {caller: bob, assets: 5, vault: second}
  - redeem: {caller: bob, shares: 50%, vault: second}
  - supply: {assets: 100 USDC, into: aUSDC}
  - borrow: {assets: 50 USDC, position: 1}
  - repay: {assets: 40% USDC, debt: vdUSDC, unsynced: true}
  - accrue: {token: aUSDC, rate: 5%}
  - accrue: {token: vdUSDC, rate: 0.000000000000000000000000001}
  - accrue: {token: vdUSDC, rate: 0}
  - opt_in: {token: OUSD}
  - rebase: {token: stETH, factor: 1.5}
  - rebase: {token: OUSD, balance: 5}
  - pause: {token: USDC}
  - pause: {token: USDC, paused: false}
  - pause: {token: WETH, actor: alice, paused: true}
  - mine: 2
  - deposit: {caller: dave, assets: 5}
  - deposit: {caller: dave, assets: 6}
  - reorg:
      depth: 5
      drop: [18]
      keep: [21]
      move: {22/1: 23}
      add:
        - donate: {caller: bob, assets: 5 USDC}
        - mine: 3
        - block:
            - deposit: {caller: bob, assets: 5}
            - price: {token: WETH, usd: 5}
        - deposit: {caller: bob, assets: 5}
          refused: true
    expect: {chain: {balances: {USDC: 5}}}
  - reorg: {depth: 1, drop: [25]}
  - crash: {after: 3}
  - correct_accounts: {end_block: head-4, chunk: 3}
  - node: {head: 17}
  - sync_interest:
    refused: true
  - node: {profile: range-cap, blocks: 7}
  - sync:
  - node: {profile: hole, block: 4}
  - node: {profile: shuffled}
  - node: {}
  - node:
      after: 3
      steps:
        - deposit: {caller: bob, assets: 5}
        - mine: 1
        - block: [donate: {caller: bob, assets: 5 FEE}]
        - reorg: {depth: 2, keep: [28], add: [mine: 1]}
  - sync:
  - node:
"""

SAMPLES = {"redemption": REDEMPTION, "everything": EVERYTHING, "erc4626": ERC4626, "hard_days": HARD_DAYS}
