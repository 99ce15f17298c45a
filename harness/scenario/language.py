"""The scenario language as tables: every key once, with what it takes and what it is for.

The loader reads by these tables, the JSON Schema and the reference page are printed from them. A key's
``kind`` names what may stand there: the loader has one reader, the schema one definition, for each kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from harness.scenario import model

# -- what values look like; the loader and the schema use the same patterns

NUMBER = r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]+(?:_[0-9]+)*)?"
INTEGER = r"(?:0|[1-9][0-9]*(?:_[0-9]+)*)"
ACTOR = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z?"
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
UNITS: Mapping[str, int] = {
    name: seconds
    for seconds, names in (
        (1, "s sec secs second seconds"),
        (60, "min mins minute minutes"),
        (3_600, "h hour hours"),
        (86_400, "d day days"),
        (604_800, "w week weeks"),
    )
    for name in names.split()
}
"""Seconds in each unit of a length."""
LENGTH = rf"{NUMBER} ?(?:{'|'.join(UNITS)})"
END_BLOCK = rf"head(?: ?- ?{INTEGER})?"

MAX_BYTES = 1 << 20
MAX_DEPTH = 50
MAX_BLOCKS = 100_000
"""The most blocks that a scenario may mine."""
MAX_LENGTH_SECONDS = 36_500 * 86_400
MAX_NAME_BYTES = 256
MAX_SYMBOL_BYTES = 64
MAX_DECIMALS = 36

MAX_PROBLEMS = 500
"""After so many problems a file is not read on."""
MAX_VARIANTS = 200
MAX_INCLUDES = 50
MAX_INCLUDE_DEPTH = 8
NOT_INCLUDED: tuple[str, ...] = ("title", "variants")
"""Keys of the header that an included file may not have."""
ROW_ID = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
MAX_REORG_DEPTH = 64
"""The most blocks that a reorganisation may replace."""

TOKEN_KINDS: tuple[str, ...] = ("plain", "fee_on_transfer", "index_rebase", "share_rebase", "opt_in_rebase", "debt")
WRAPPING_KINDS: tuple[str, ...] = ("index_rebase", "debt")
"""Tokens of these kinds may have an underlying."""
REBASING_KINDS: tuple[str, ...] = ("index_rebase", "share_rebase", "opt_in_rebase")
"""What a `rebase` step moves."""
ACCRUING_KINDS: tuple[str, ...] = ("index_rebase", "debt")
"""What an `accrue` step lets grow."""
VAULT_KINDS: tuple[str, ...] = ("enzyme", "erc4626")
VAULT_KINDS_PLANNED: tuple[str, ...] = ("erc7540", "portfolio", "wallet")
RESERVED_ACTORS: tuple[str, ...] = (
    "vault", "second", "second_vault", "manager", "deployer", "holder",
    "comptroller", "accessor", "pool", "venue", "silo",
)  # fmt: skip
"""Names of the harness's own addresses: nobody in a scenario is called so."""
CALLS: tuple[str, ...] = ("deposit", "mint", "withdraw", "redeem", "transfer_shares", "donate", "emit")
"""Steps that a `transaction` may hold."""
RESERVED_SYMBOLS: tuple[str, ...] = ("raw", "all", "share", model.SHARES)
"""Words of the amounts, which no token may be called."""
CAUSES: tuple[str, ...] = ("deposit", "redemption", "deposit_and_redemption", "interest", "correction", "vault_flow")
POSITION_TYPES: tuple[str, ...] = ("reserve", "open_position")
BREAK_KINDS: tuple[str, ...] = (
    "missing", "unexpected", "doubled", "different", "misplaced", "law", "refused", "not_refused", "raised", "timeout",
    "memory", "wrote_output", "changed_books", "no_books",
)  # fmt: skip
"""What a comparison finds; `known` may name these."""
LAWS: Mapping[str, str] = {
    "sums-add-up": "A position is the sum of its trades and updates; each update starts where the one before it ended.",
    "books-equal-chain": "Books equal the chain, apart from what no sync is meant to see yet.",
    "ids-and-refs-match": "Ids are unique and rise; refs and updates match one to one.",
    "schedules-agree": "Syncing the same blocks in another way gives equal books: the sweeps.",
    "nothing-lies-outside": "No update lies outside the blocks scanned; no checkpoint goes back.",
    "orphaned-blocks-leave-nothing": "After a reorganisation the books hold nothing of the blocks that it replaced.",
    "elsewhere-refused": "Books of one chain or vault are refused on another, unchanged.",
    "assets-conserved": "The vault's balance is the sum of flows, trades, donations, takings, rebases and roundings.",
    "shares-conserved": "The share supply is what flows minted less what they burned.",
    "share-price-moves-for-a-reason": "The share price moves only for a listed reason, flows only by their rounding.",
}
"""The laws, by the names under which a scenario may switch them off (a test holds them against those judged)."""
LAWS_PLANNED: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProfile:
    """A way for a node to misbehave.

    ``takes`` names the numbers that a `node` step may give it, each with its default (None: none is needed);
    ``needs`` those that it must give. ``recovers``: whether a good syncer gets through it, to exact books; where it
    does not, a refusal is due, and exact books are as good.
    """

    about: str
    takes: Mapping[str, int | None]
    recovers: bool
    needs: tuple[str, ...] = ()


def _profile(about: str, *, recovers: bool, needs: tuple[str, ...] = (), **takes: int | None) -> NodeProfile:
    return NodeProfile(about=about, takes=takes, recovers=recovers, needs=needs)


NODE_PROFILES: Mapping[str, NodeProfile] = {
    "range-cap": _profile("An error if a range spans more than `blocks` blocks.", blocks=10, recovers=True),
    "silent-cap": _profile("Only the first `logs` logs of an answer, and no error.", logs=100, recovers=True),
    "too-large": _profile("An error (413) if an answer has more than `logs` logs.", logs=20, recovers=True),
    "rate-limit": _profile(
        "The first `times` requests of each operation fail with 429, and every seventh after them.",
        times=2,
        recovers=True,
    ),
    "time-out": _profile("The first `times` requests of each operation time out.", times=1, recovers=True),
    "lagging": _profile(
        "The newest `blocks` blocks have no logs, and no error; headers and state are there.", blocks=20, recovers=False
    ),
    "hole": _profile(
        "The logs of `block` are missing from answers by range: from all of them, or from the first `times`.",
        block=None,
        times=None,
        needs=("block",),
        recovers=True,
    ),
    "repeated": _profile("Every log twice.", recovers=True),
    "shuffled": _profile("Logs in another order.", recovers=True),
    "removed": _profile("Before each log a copy of it, marked as removed, with another block's hash.", recovers=True),
    "twin": _profile(
        "Every second request is answered by a node that is `blocks` blocks behind.", blocks=5, recovers=True
    ),
    "head-back": _profile("The head goes back by some blocks during an operation.", recovers=True),
    "null-header": _profile("The first `times` reads of each block's header give null.", times=1, recovers=True),
    "zero-time": _profile("Times are 0 in logs, in receipts and in the first answer for a header.", recovers=True),
    "hex-numbers": _profile("Numbers in logs as hex text, hashes without 0x.", recovers=True),
}
"""The profiles of `node` steps, by name."""
NODE_NUMBERS: tuple[str, ...] = ("blocks", "logs", "times", "block")
"""The keys of a `node` step that some profiles take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a mapping.

    ``field`` is the model's attribute where it is not called like the key; ``default`` says in words what
    holds without the key; ``planned`` keys belong to the language and are refused with "not yet".
    """

    name: str
    kind: str
    about: str
    required: bool = False
    default: str | None = None
    field: str | None = None
    planned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One step: its verb, the value that it becomes, and its keys.

    ``body``: what stands under the verb. ``keys`` is a mapping, ``optional`` a mapping or nothing, the
    others are kinds of their own, beside which a mapping of ``keys`` may be allowed.
    """

    name: str
    group: str
    step: type[model.StepBase]
    about: str
    body: Literal["keys", "optional", "length", "blocks", "steps", "calls"]
    keys: tuple[Key, ...] = ()
    vaults: tuple[str, ...] = VAULT_KINDS

    @property
    def chain(self) -> bool:
        """Whether it sends a transaction, so may stand in a ``block``."""
        return self.step in get_args(model.ChainStep)

    @property
    def refusable(self) -> bool:
        """Whether ``refused`` may stand beside it."""
        return self.chain or self.syncing

    @property
    def syncing(self) -> bool:
        """Whether it runs the syncer, so that ``expect`` may name the updates that it added."""
        return issubclass(self.step, model.SyncingBase)


# -- header

HEADER: tuple[Key, ...] = (
    Key(
        name="title",
        kind="title",
        about="What the scenario shows, in one sentence.",
        default="the file's name in words",
    ),
    Key(name="tags", kind="tags", about="Words to select scenarios by, such as the vault's kind or a case's id."),
    Key(name="tokens", kind="tokens", about="The tokens of the scenario's world, by symbol.", required=True),
    Key(name="vault", kind="vault", about="The vault that the books are of.", required=True),
    Key(
        name="actors",
        kind="actors",
        about="What somebody owns at the start, exactly; nothing there: plenty of everything, as those not listed.",
    ),
    Key(name="start", kind="time", about="Time of the genesis block, UTC.", default="2024-01-01 00:00"),
    Key(name="block_time", kind="length", about="Time between two blocks.", default="12 s"),
    Key(name="chain_id", kind="chain_id", about="The chain's id.", default="1337"),
    Key(
        name="interest_bound",
        kind="fraction",
        about="The largest gain, as a share of what earns it, that an interest sync may book.",
        default="0.05",
    ),
    Key(
        name="laws_off",
        kind="laws_off",
        about="Laws that do not hold in this scenario: the reason for each, by the law's name.",
        default="none",
    ),
    Key(
        name="tolerances",
        kind="tolerances",
        about="Differences that are no break, each with a reason; reports say how much of them was used.",
        default="none: books are compared to the last raw unit",
    ),
    Key(name="known", kind="known", about="Breaks of a wrong syncer that are accepted until a date."),
    Key(name="deploy_block", kind="steps", about="Chain steps in the block that deploys the vault, after it."),
    Key(name="steps", kind="steps", about="What happens, in order.", required=True),
    Key(
        name="variants",
        kind="variants",
        about=(
            "One run for each row, such as `{id: chunk-1, chunk: 1}`; `$chunk` as a whole value anywhere is the row's "
            "value. Every row has the same keys, and each is used."
        ),
    ),
    Key(
        name="include",
        kind="include",
        about=(
            "Files to take over, one or a list, by their paths from this one: their steps come first, their tokens and "
            "actors are put beside the file's own, and of other keys the file's own stands. They have no title and no "
            "variants, and lie below the scenarios' folder; call them `_...`, and they are not run by themselves."
        ),
    ),
    Key(
        name="defaults",
        kind="defaults",
        about="Keys for steps that do not say them, by verb, such as `{deposit: {caller: alice}}`.",
    ),
)

TOKEN: tuple[Key, ...] = (
    Key(name="decimals", kind="decimals", about="Decimals on chain, 0 to 36.", default="the underlying's, else 18"),
    Key(
        name="usd",
        kind="usd",
        about="Price at the start, in US dollars.",
        default="the underlying's, else 1",
        field="price_raw",
    ),
    Key(name="name", kind="name", about="Name on chain, at most 256 bytes.", default="the symbol"),
    Key(name="kind", kind="token_kind", about="How its balances behave.", default="plain"),
    Key(
        name="underlying",
        kind="symbol",
        about="The token that an index_rebase token wraps, or in which a debt token's debt is paid; of equal decimals.",
    ),
    Key(
        name="fee",
        kind="fee",
        about="The part of each transfer of a fee_on_transfer token that does not arrive, such as `1%`.",
        default="1 % on fee_on_transfer",
    ),
    Key(name="dust", kind="dust", about="Differences that correct_accounts leaves alone.", default="0"),
)

DUST: tuple[Key, ...] = (
    Key(name="absolute", kind="fraction", about="In tokens.", default="0"),
    Key(name="relative", kind="fraction", about="As a fraction of what the books hold.", default="0"),
)

TOLERANCE: tuple[Key, ...] = (
    Key(
        name="allow",
        kind="exact_amount",
        about="The largest difference of that token that is no break, in either direction.",
        required=True,
    ),
    Key(name="reason", kind="reason", about="Why the books may differ so far.", required=True),
    Key(
        name="field",
        kind="field",
        about="The one field that it holds for, such as `quantity`, or a law's name.",
        default="every quantity of the token, and its worth",
    ),
)

KNOWN: tuple[Key, ...] = (
    Key(name="reason", kind="reason", about="Why they are accepted, and who mends them.", required=True),
    Key(name="until", kind="date", about="The last day on which they are accepted.", required=True),
    Key(name="breaks", kind="known_breaks", about="The breaks; each must still be there.", required=True),
)

KNOWN_BREAK: tuple[Key, ...] = (
    Key(name="kind", kind="break_kind", about="The break's kind.", required=True),
    Key(name="field", kind="field", about="Its field, or the law's name."),
    Key(name="asset", kind="symbol", about="Its token."),
    Key(name="position_id", kind="position_id", about="Its position."),
    Key(name="block", kind="block_number", about="Its block."),
    Key(name="line", kind="count", about="The line of the step that it comes from, or at which it was found."),
)
"""A break is accepted if it has each value that is named here."""

VAULT: tuple[Key, ...] = (
    Key(name="kind", kind="vault_kind", about="What it is like on chain.", required=True),
    Key(name="name", kind="name", about="Name of the share token, at most 256 bytes.", default="Vault"),
    Key(name="symbol", kind="share_symbol", about="Symbol of the share token, at most 64 bytes.", default="VAULT"),
    Key(name="reserve", kind="symbol", about="The token that investors pay in.", default="the only token"),
    Key(
        name="tracked",
        kind="symbols",
        about="Enzyme: the tracked assets in order, outright.",
        default="the reserve, then each token when a trade or supply first brings it in",
    ),
)

# -- steps

_CALLER = Key(name="caller", kind="actor", about="Who sends the transaction.", required=True)
_RECEIVER_OF_SHARES = Key(name="receiver", kind="actor", about="Who gets the shares.", default="the caller")
_RECEIVER_OF_ASSETS = Key(name="receiver", kind="actor", about="Who gets the assets.", default="the caller")
_OWNER = Key(
    name="owner", kind="actor", about="Whose shares are given up; on enzyme always the caller.", default="the caller"
)
_POSITION = Key(
    name="position",
    kind="position",
    about="Id of the position, or `new`; needed where several positions of the asset are open.",
)
_UNSYNCED = Key(
    name="unsynced",
    kind="flag",
    about="Allows the step though flows, or a rebase of its asset, have not been synced.",
    default="false",
)
_CREDIT_POSITION = Key(
    name="position",
    kind="position_id",
    about="Id of the position; needed where several credit positions are open.",
)
_DEBT = Key(
    name="debt",
    kind="debt_token",
    about="The debt token, whose underlying is the reserve.",
    default="the only debt token",
)
_SYNCING: tuple[Key, ...] = (
    Key(name="end_block", kind="end_block", about="The last block to read: a number, or `head-4`.", default="the head"),
    Key(name="chunk", kind="count", about="The most blocks that one request for logs should span.", default="no limit"),
)

VERBS: tuple[Verb, ...] = (
    Verb(
        name="wait",
        group="time",
        step=model.Wait,
        body="length",
        about="Let time pass before the next block; mines nothing.",
        keys=(Key(name="until", kind="time", about="The next block's time, UTC.", required=True),),
    ),
    Verb(name="mine", group="time", step=model.Mine, body="blocks", about="Mine so many empty blocks."),
    Verb(
        name="block",
        group="time",
        step=model.Block,
        body="steps",
        about="Put several chain steps into one block, in order.",
    ),
    Verb(
        name="transaction",
        group="time",
        step=model.Transaction,
        body="calls",
        about=(
            "Several calls in one transaction, in order, by their one common caller, who pays and receives: "
            + ", ".join(f"`{name}`" for name in CALLS)
            + ". What else stands beside a step stands beside the transaction."
        ),
    ),
    Verb(
        name="reorg",
        group="time",
        step=model.Reorg,
        body="keys",
        about=(
            "Replace the newest blocks. `4` is all that block 4 holds, `5/2` the second transaction of block 5; each "
            "transaction of the blocks that go is named once. A new block has the time of the old one of its number."
        ),
        keys=(
            Key(
                name="depth",
                kind="depth",
                about=f"How many blocks go, 1 to {MAX_REORG_DEPTH}; set-up blocks never do.",
                required=True,
            ),
            Key(name="drop", kind="places", about="Transactions that are not mined again.", default="none"),
            Key(name="keep", kind="places", about="Transactions that are mined again in their block.", default="none"),
            Key(
                name="move",
                kind="moves",
                about="Transactions that are mined again in another block, such as `{6: 7}`.",
                default="none",
            ),
            Key(
                name="add",
                kind="branch_steps",
                about="Chain steps, `block` and `mine`, each in the first block that holds nothing else, in order.",
                default="none",
            ),
        ),
    ),
    Verb(
        name="deposit",
        group="investors' flows",
        step=model.Deposit,
        body="keys",
        about="Pay assets in for shares.",
        keys=(
            _CALLER,
            Key(
                name="assets",
                kind="reserve_amount",
                about="How much of the reserve goes in; a percentage is of the caller's balance.",
                required=True,
            ),
            _RECEIVER_OF_SHARES,
            Key(
                name="vault",
                kind="second",
                about="`second`: into the second fund, which is no flow of ours.",
                field="second_vault",
            ),
        ),
    ),
    Verb(
        name="mint",
        group="investors' flows",
        step=model.Mint,
        body="keys",
        about="Pay in what so many shares cost.",
        keys=(
            _CALLER,
            Key(name="shares", kind="exact_shares", about="How many shares come out; no percentage.", required=True),
            _RECEIVER_OF_SHARES,
        ),
        vaults=("erc4626",),
    ),
    Verb(
        name="withdraw",
        group="investors' flows",
        step=model.Withdraw,
        body="keys",
        about="Take assets out for the shares that they cost.",
        keys=(
            _CALLER,
            Key(
                name="assets",
                kind="reserve_amount",
                about="How much of the reserve comes out; a percentage is of the most withdrawable.",
                required=True,
            ),
            _OWNER,
            _RECEIVER_OF_ASSETS,
        ),
        vaults=("erc4626",),
    ),
    Verb(
        name="redeem",
        group="investors' flows",
        step=model.Redeem,
        body="keys",
        about="Give shares up; enzyme pays in kind, of each tracked asset.",
        keys=(
            _CALLER,
            Key(name="shares", kind="shares", about="How many; a percentage is of the owner's.", required=True),
            _OWNER,
            _RECEIVER_OF_ASSETS,
            Key(
                name="assets",
                kind="symbols",
                about="Enzyme: only these assets are paid out, in this order.",
                default="every tracked asset",
            ),
            Key(
                name="vault",
                kind="second",
                about="`second`: shares of the second fund, which is no flow of ours.",
                field="second_vault",
            ),
        ),
    ),
    Verb(
        name="transfer_shares",
        group="investors, no flow",
        step=model.TransferShares,
        body="keys",
        about="Hand shares to somebody else.",
        keys=(
            _CALLER,
            Key(name="receiver", kind="actor", about="Who gets the shares.", required=True),
            Key(name="shares", kind="shares", about="How many; a percentage is of the caller's.", required=True),
        ),
    ),
    Verb(
        name="donate",
        group="investors, no flow",
        step=model.Donate,
        body="keys",
        about="Send tokens straight to the vault.",
        keys=(
            _CALLER,
            Key(
                name="assets", kind="any_amount", about="What; a percentage is of the caller's balance.", required=True
            ),
        ),
    ),
    Verb(
        name="trade",
        group="manager",
        step=model.Trade,
        body="keys",
        about="Swap reserve for another token, or back.",
        keys=(
            Key(
                name="sell",
                kind="any_amount",
                about="What goes out; a percentage is of what reserve or position holds by the ledger's books.",
                required=True,
            ),
            Key(name="buy", kind="exact_amount", about="What comes in, exactly.", required=True),
            _POSITION,
            _UNSYNCED,
        ),
        vaults=("enzyme",),
    ),
    Verb(
        name="supply",
        group="manager",
        step=model.Supply,
        body="keys",
        about="Supply reserve to a pool for its rebase token.",
        keys=(
            Key(
                name="assets",
                kind="reserve_amount",
                about="How much of the reserve; a percentage is of what it holds by the ledger's books.",
                required=True,
            ),
            Key(name="into", kind="index_token", about="The index_rebase token that comes back.", required=True),
            _POSITION,
            _UNSYNCED,
        ),
        vaults=("enzyme",),
    ),
    Verb(
        name="unsupply",
        group="manager",
        step=model.Unsupply,
        body="keys",
        about="Withdraw reserve from a pool.",
        keys=(
            Key(
                name="assets",
                kind="index_amount",
                about="How much of the rebase token; a percentage is of what the position holds by the ledger's books.",
                required=True,
            ),
            Key(
                name="position",
                kind="position_id",
                about="Id of the position; needed where several positions of the asset are open.",
            ),
            _UNSYNCED,
        ),
        vaults=("enzyme",),
    ),
    Verb(
        name="close",
        group="manager",
        step=model.Close,
        body="optional",
        about="Close a credit position: withdraw the lesser of what is tracked and what is there.",
        keys=(
            _CREDIT_POSITION,
            _UNSYNCED,
        ),
        vaults=("enzyme",),
    ),
    Verb(
        name="borrow",
        group="manager",
        step=model.Borrow,
        body="keys",
        about="Borrow reserve against a credit position.",
        keys=(
            Key(name="assets", kind="exact_reserve", about="How much of the reserve, exactly.", required=True),
            _DEBT,
            _CREDIT_POSITION,
            _UNSYNCED,
        ),
        vaults=("enzyme",),
    ),
    Verb(
        name="repay",
        group="manager",
        step=model.Repay,
        body="keys",
        about="Pay borrowed reserve back.",
        keys=(
            Key(
                name="assets",
                kind="reserve_amount",
                about="How much of the reserve; a percentage is of the debt by the ledger's books.",
                required=True,
            ),
            _DEBT,
            _CREDIT_POSITION,
            _UNSYNCED,
        ),
        vaults=("enzyme",),
    ),
    Verb(
        name="take",
        group="manager",
        step=model.Take,
        body="keys",
        about="Tokens leave the vault, booked nowhere.",
        keys=(
            Key(name="assets", kind="any_amount", about="What; a percentage is of the vault's balance.", required=True),
        ),
    ),
    Verb(
        name="charge_fee",
        group="manager",
        step=model.ChargeFee,
        body="keys",
        about="Mint shares to somebody for nothing, as a fee.",
        keys=(
            Key(name="shares", kind="exact_shares", about="How many shares; no percentage.", required=True),
            Key(name="receiver", kind="actor", about="Who gets the shares.", required=True),
            Key(
                name="event",
                kind="deposit_event",
                about="`deposit`: with an event shaped like a deposit's, sender the vault, as many assets as shares.",
                default="no event",
            ),
        ),
    ),
    Verb(
        name="replace_accessor",
        group="manager",
        step=model.ReplaceAccessor,
        body="optional",
        about="Deploy a new accessor (comptroller) that the vault listens to from here on.",
        vaults=("enzyme",),
    ),
    Verb(
        name="emit",
        group="manager",
        step=model.Emit,
        body="keys",
        about="An accessor emits a deposit event; nothing moves.",
        keys=(
            _CALLER,
            Key(
                name="accessor",
                kind="count",
                about="Which accessor: 1 is the first, 2 the one after the first replacement.",
                required=True,
            ),
            Key(name="assets", kind="exact_reserve", about="How much of the reserve the event says.", required=True),
            Key(name="shares", kind="exact_shares", about="How many shares the event says.", required=True),
        ),
        vaults=("enzyme",),
    ),
    Verb(
        name="pause",
        group="tokens",
        step=model.Pause,
        body="keys",
        about="Stop all transfers of a token, or those from and to one actor, or let them go on.",
        keys=(
            Key(name="token", kind="symbol", about="The token.", required=True),
            Key(name="actor", kind="actor", about="Who neither sends nor receives it.", default="nobody does"),
            Key(name="paused", kind="flag", about="`false` lets transfers go on.", default="true"),
        ),
    ),
    Verb(
        name="accrue",
        group="tokens",
        step=model.Accrue,
        body="keys",
        about="Let the index of an index_rebase or debt token grow with time, from this block on.",
        keys=(
            Key(name="token", kind="accruing_token", about="The index_rebase or debt token.", required=True),
            Key(
                name="rate",
                kind="rate",
                about="Per 365 days, such as `5%` or `0.05`; 0 stops it.",
                required=True,
                field="rate_ray",
            ),
        ),
    ),
    Verb(
        name="opt_in",
        group="tokens",
        step=model.OptIn,
        body="keys",
        about="Let the vault's balance of an opt_in_rebase token rebase from here on.",
        keys=(Key(name="token", kind="opt_in_token", about="The opt_in_rebase token.", required=True),),
    ),
    Verb(
        name="rebase",
        group="tokens",
        step=model.Rebase,
        body="keys",
        about="Move a rebase token's index, up or down; says `factor` or `balance`.",
        keys=(
            Key(
                name="token",
                kind="rebase_token",
                about="The index_rebase, share_rebase or opt_in_rebase token.",
                required=True,
            ),
            Key(
                name="factor",
                kind="factor",
                about="What the index is multiplied by, at most 27 decimals.",
                field="factor_ray",
            ),
            Key(name="balance", kind="balance", about="What the vault's balance becomes."),
        ),
    ),
    Verb(
        name="price",
        group="tokens",
        step=model.Price,
        body="keys",
        about="Set a token's price feed.",
        keys=(
            Key(name="token", kind="symbol", about="The token.", required=True),
            Key(
                name="usd",
                kind="usd",
                about="Its price in US dollars, at most 8 decimals.",
                required=True,
                field="price_raw",
            ),
        ),
    ),
    Verb(
        name="initialise",
        group="syncing",
        step=model.Initialise,
        body="optional",
        about="Find the vault's deployment. Without such a step it is done at the last set-up block.",
        keys=(
            Key(name="start_block", kind="block_number", about="Where to look first, a hint that may be late."),
            *_SYNCING,
        ),
    ),
    Verb(
        name="sync",
        group="syncing",
        step=model.SyncTreasury,
        body="optional",
        about="Book deposits and redemptions.",
        keys=(
            Key(
                name="cycle",
                kind="time",
                about="The strategy cycle that the flows are counted to, UTC.",
                default="the later of the end block's time and the last cycle",
            ),
            *_SYNCING,
        ),
    ),
    Verb(
        name="sync_interest",
        group="syncing",
        step=model.SyncInterest,
        body="optional",
        about="Book what rebases did to the balances.",
        keys=_SYNCING,
    ),
    Verb(
        name="correct_accounts",
        group="syncing",
        step=model.CorrectAccounts,
        body="optional",
        about="Bring the books to the chain's balances, but for dust.",
        keys=_SYNCING,
    ),
    Verb(
        name="crash",
        group="syncing",
        step=model.Crash,
        body="keys",
        about="The next operation dies; then a fresh syncer with the last kept books is asked again.",
        keys=(
            Key(
                name="after",
                kind="count",
                about="At which read of the chain it dies, from 1; with fewer reads its answer is lost.",
                required=True,
            ),
        ),
    ),
    Verb(
        name="restart",
        group="syncing",
        step=model.Restart,
        body="optional",
        about="A fresh syncer, the books through JSON.",
        keys=(
            Key(name="chain_id", kind="chain_id", about="Points it at another chain id until the next restart."),
            Key(
                name="vault",
                kind="second",
                about="`second` points it at the second fund until the next restart.",
                field="second_vault",
            ),
        ),
    ),
    Verb(
        name="node",
        group="node",
        step=model.NodeStep,
        body="optional",
        about=(
            "What stands between syncer and chain until the next such step: `{}` is nothing. Says `head`, or a "
            "`profile` and its numbers, or `after` and `steps`, which are mined in the middle of the next operation."
        ),
        keys=(
            Key(name="head", kind="block_number", about="As if this block were the newest."),
            Key(name="profile", kind="profile", about="A way to misbehave."),
            Key(name="blocks", kind="count", about="A number of blocks, for profiles that take one."),
            Key(name="logs", kind="count", about="A number of logs, for profiles that take one."),
            Key(name="times", kind="count", about="How many times, for profiles that take it."),
            Key(name="block", kind="block_number", about="A block, for profiles that take one."),
            Key(name="after", kind="count", about="Before which read of the chain `steps` are mined, from 1."),
            Key(
                name="steps",
                kind="hook_steps",
                about="Chain steps, `block`, `mine` and `reorg`, mined while the next operation runs.",
            ),
        ),
    ),
)

VERB: Mapping[str, Verb] = {verb.name: verb for verb in VERBS}
Where = Literal["steps", "block", "transaction", "branch", "hook"]
"""Where a step stands: in the file's list, a `block`, a `transaction`, what a `reorg` adds, a `node` step's list."""


def allowed(where: Where) -> tuple[str, ...]:
    """The verbs of the steps that may stand somewhere."""
    chain = [verb.name for verb in VERBS if verb.chain]
    match where:
        case "block":
            return tuple(chain)
        case "transaction":
            return CALLS
        case "branch":
            return (*chain, "block", "mine")
        case "hook":
            return (*chain, "block", "mine", "reorg")
    return tuple(VERB)


VERBS_PLANNED: tuple[str, ...] = ("request_deposit", "request_redeem", "claim", "cancel", "settle")

BESIDE: tuple[Key, ...] = (
    Key(name="expect", kind="expect", about="What must hold after the step; as a step of its own: now."),
    Key(name="refused", kind="refused", about="The step must fail, with this text in the reason; `true`: any reason."),
    Key(name="note", kind="text", about="A remark for readers."),
)

# -- expectations

EXPECT: tuple[Key, ...] = (
    Key(
        name="updates",
        kind="list:BalanceUpdate",
        about="The balance updates that the operation added, all of them, in order. Beside syncing steps only.",
    ),
    Key(
        name="balances",
        kind="balances",
        about="What the books hold of each token named, reserve and open positions together.",
    ),
    Key(name="positions", kind="positions", about="The open positions by id, all of them; `{}`: none."),
    Key(name="closed_positions", kind="positions", about="Closed positions by id, those that are named."),
    Key(name="deployment", kind="record:Deployment", about="Fields of the deployment record."),
    Key(name="treasury", kind="record:Treasury", about="Fields of the treasury record."),
    Key(name="accounting", kind="record:Accounting", about="Fields of the accounting record."),
    Key(name="interest", kind="record:InterestSync", about="Fields of the interest record."),
    Key(name="chain", kind="chain", about="What the chain itself shows at the operation's end block, or at the head."),
    Key(name="contains", kind="contains", about="Entries that must be among those there are, in any number of others."),
)

CHAIN: tuple[Key, ...] = (
    Key(name="balances", kind="balances", about="The vault's token balances."),
    Key(name="share_count", kind="share_count", about="Shares in existence."),
    Key(name="share_price", kind="number", about="Assets per share, at 1e-9 relative."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordField:
    """One field of a record of the books, as an ``expect`` may name it.

    ``kind`` is a scalar's kind, ``record:X``, ``list:X``, ``map:X``; or why the field is not compared:
    ``clock``, ``law``, ``free``. ``null`` is allowed where ``nullable``.
    """

    kind: str
    about: str
    nullable: bool = False


def _field(kind: str, about: str) -> RecordField:
    return RecordField(kind=kind.removesuffix("?"), about=about, nullable=kind.endswith("?"))


RECORDS: Mapping[str, Mapping[str, RecordField]] = {
    "BalanceUpdate": {
        "balance_update_id": _field("law", "Id of the update."),
        "cause": _field("cause", "Why the balance changed."),
        "position_type": _field("position_type", "Which kind of holding it moves."),
        "asset": _field("symbol", "The token."),
        "block_mined_at": _field("time", "Time of its block."),
        "strategy_cycle_included_at": _field("time?", "The cycle that it is counted to."),
        "chain_id": _field("integer", "The chain's id."),
        "quantity": _field("quantity", "What came in, or, negative, went out."),
        "old_balance": _field("quantity", "The balance before it."),
        "usd_value": _field("number", "Worth of the quantity, with its sign."),
        "created_at": _field("clock", "When the syncer wrote it."),
        "previous_update_at": _field("time?", "Time of the tracker's event before an interest update."),
        "owner_address": _field("owner?", "Whose money it is."),
        "tx_hash": _field("hash?", "Hash of the transaction."),
        "log_index": _field("integer?", "Position of the log in its block."),
        "position_id": _field("position_id?", "Id of the position; null for the reserve."),
        "notes": _field("text?", "A remark."),
        "block_number": _field("integer?", "Its block."),
        "other_data": _field("free?", "What the syncer keeps beside."),
    },
    "BalanceEventRef": {
        "balance_event_id": _field("law", "Id of the update."),
        "strategy_cycle_included_at": _field("time?", "The cycle that it is counted to."),
        "cause": _field("cause", "Why the balance changed."),
        "position_type": _field("position_type", "Which kind of holding it moves."),
        "position_id": _field("position_id?", "Id of the position; null for the reserve."),
        "usd_value": _field("number?", "Worth of the update."),
    },
    "Deployment": {
        "chain_id": _field("integer?", "The chain's id."),
        "address": _field("address?", "The vault's address; `vault` is this vault's."),
        "block_number": _field("integer?", "Block of the deployment."),
        "tx_hash": _field("hash?", "Hash of the deploying transaction."),
        "block_mined_at": _field("time?", "Time of the deployment's block."),
        "vault_token_name": _field("text?", "Name of the share token."),
        "vault_token_symbol": _field("text?", "Symbol of the share token."),
        "initialised_at": _field("time?", "Time of the block at which the books were initialised."),
    },
    "Treasury": {
        "last_updated_at": _field("clock", "When the syncer last wrote it."),
        "last_cycle_at": _field("time?", "The last cycle."),
        "last_block_scanned": _field("integer?", "The last block that was read completely."),
        "balance_update_refs": _field("list:BalanceEventRef", "One for each treasury update, in order."),
        "pending_deposits": _field("number?", "Deposits requested and not settled."),
        "pending_redemptions": _field("number?", "Redemptions requested and not settled."),
        "share_count": _field("number?", "Shares in existence."),
        "last_lagoon_settlement_block_scanned": _field("integer?", "The last block read for settlements."),
    },
    "Accounting": {
        "last_updated_at": _field("clock", "When the syncer last wrote it."),
        "last_block_scanned": _field("integer?", "The last block that corrections looked at."),
        "balance_update_refs": _field("list:BalanceEventRef", "One for each correction, in order."),
    },
    "InterestSync": {
        "last_sync_at": _field("time?", "Time of the last interest sync's block."),
        "last_sync_block": _field("integer?", "Block of the last interest sync."),
        "last_distribution": _field("record:InterestDistributionOperation?", "What the last interest sync did."),
    },
    "InterestDistributionOperation": {
        "start": _field("time", "From when the interest accrued."),
        "end": _field("time", "Until when it accrued."),
        "assets": _field("assets", "The tokens looked at, in order."),
        "asset_interest_data": _field("map:AssetInterestData", "What each token earned, by symbol."),
        "entries": _field("uncompared", "Each position's part."),
        "effective_rate": _field("number?", "Yearly rate over all tokens, 365 days."),
    },
    "AssetInterestData": {
        "total": _field("quantity", "What earned the interest."),
        "effective_rate": _field("number", "Yearly rate, 365 days."),
    },
    "Position": {
        "position_id": _field("position_id", "Its id."),
        "pair": _field("record:TradingPair", "What it trades."),
        "opened_at": _field("time?", "When it was opened."),
        "closed_at": _field("time?", "When it was closed."),
        "frozen_at": _field("time?", "When it was frozen."),
        "reserve_currency": _field("symbol?", "The reserve token."),
        "last_token_price": _field("number?", "Last known price, in US dollars."),
        "last_pricing_at": _field("time?", "When that price was read."),
        "trades": _field("list:Trade", "Its trades, in order."),
        "loan": _field("record:Loan?", "A credit position's loan."),
        "balance_updates": _field("list:BalanceUpdate", "Its balance updates, in order."),
    },
    "TradingPair": {
        "base": _field("symbol", "The token that the position holds."),
        "quote": _field("symbol", "The token that it is paid in."),
        "kind": _field("text?", "For example spot_market_hold or credit_supply."),
    },
    "Trade": {
        "trade_id": _field("integer", "Its id."),
        "executed_at": _field("time?", "Time of its block."),
        "executed_quantity": _field("quantity?", "What it did to the position, with its sign."),
        "executed_reserve": _field("quantity?", "What moved in the reserve, unsigned."),
        "failed_at": _field("time?", "When it was marked as failed."),
        "block_number": _field("integer?", "Its block."),
        "tx_hash": _field("hash?", "Hash of its transaction."),
        "borrowed_quantity": _field("quantity?", "What it did to the debt, with its sign, in the debt token."),
    },
    "Loan": {
        "collateral": _field("record:LoanSide?", "What was supplied."),
        "borrowed": _field("record:LoanSide?", "What was borrowed."),
        "collateral_interest": _field("record:InterestTracker?", "What the collateral has come to."),
        "borrowed_interest": _field("record:InterestTracker?", "What the debt has come to."),
    },
    "LoanSide": {
        "asset": _field("symbol", "The token."),
        "quantity": _field("quantity", "The principal."),
        "created_at": _field("time?", "When it was opened."),
    },
    "InterestTracker": {
        "opening_amount": _field("quantity", "What it began with."),
        "last_token_amount": _field("quantity", "What it has come to."),
        "last_accrued_interest": _field("quantity", "Interest accrued so far."),
        "interest_payments": _field("quantity", "Interest paid out so far."),
        "last_updated_at": _field("time?", "Time of the last block that moved it."),
        "last_event_at": _field("time?", "Time of the last block that moved it."),
        "last_updated_block_number": _field("integer?", "The last block that moved it."),
    },
}
"""Records of the books, field by field, as `expect` may name them (a test holds them against the books' own)."""

DERIVED: Mapping[str, Mapping[str, RecordField]] = {
    "Position": {"quantity": _field("quantity", "What it holds: its trades and balance updates, summed.")}
}
"""Fields that a record does not store but that may be named."""

ALIASES: Mapping[str, Mapping[str, str]] = {"BalanceUpdate": {"owner": "owner_address"}}
"""Shorter names for fields."""

NOT_COMPARED: Mapping[str, str] = {
    "clock": "clock fields are not compared",
    "law": "ids are never expected, they are judged by the laws",
    "uncompared": "it is not compared",
}
"""Why a field of such a kind cannot be expected."""
