"""The environment: every variable Darkroom reads, with its meaning, its default and its check."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from typing_extensions import override

from config.job_terms import DEFAULT_QUEUE
from config.masking import SecretMask, url_password
from config.periodic_terms import (
    ALLOWANCES_TOKENS,
    DRIP_AMOUNTS_TOKENS,
    DRIP_INTERVALS_S,
    RETENTION_DAYS,
    USAGE_MEASURES,
    DripAmounts,
    DripIntervals,
    RetentionDays,
    Schedules,
    TokensByTier,
    UsageLimits,
)
from config.provider_settings import PREFIX, ProviderSettings, contract_field
from config.setting_types import (
    AbsolutePath,
    BrokerUrlText,
    ColumnName,
    Names,
    PositiveInt,
    PositiveSeconds,
    PostgresUrlText,
    PublicUrlText,
    RedisUrlText,
    StorageUrlText,
    number_by_name,
)
from config.tiers import PRICES_TOKENS

NEAR: Final = 0.8
"""How alike an unknown name must be to a setting's to be taken for it; all begin with the same nine letters."""

LEAST_CONNECTIONS: Final = 2
"""One past the pool, for the lease or LISTEN, and one to work with."""

MOST_BESIDE_WORKERS: Final = 4
"""Connections of a scheduler or a command, however many a worker may have."""


_StageDeadlines = Annotated[Mapping[str, PositiveSeconds], BeforeValidator(number_by_name({}))]
_Prices = Annotated[
    Mapping[str, Annotated[int, Field(ge=0)]], BeforeValidator(number_by_name(PRICES_TOKENS, only_known=True))
]
_UserCaps = Annotated[Mapping[str, PositiveInt], BeforeValidator(number_by_name({}))]


class SettingsError(Exception):
    """The environment can't be used; the message is one line that names the variable and says what to do."""


class Settings(ProviderSettings):
    """What the environment says, checked. Frozen; construct it in tests by field name, nothing is read behind it."""

    database_url: PostgresUrlText | None = contract_field(
        "DATABASE_URL",
        None,
        "PostgreSQL, postgresql://user:password@host:port/name; also host= sockets and sslmode; may be a "
        "transaction pooler. Unset: an embedded PostgreSQL under DARKROOM_HOME",
    )
    database_direct_url: PostgresUrlText | None = contract_field(
        "DATABASE_DIRECT_URL",
        None,
        "The same database past a pooler, for LISTEN, prepared statements and migrations. Unset: DATABASE_URL",
    )
    redis_url: RedisUrlText | None = contract_field(
        "REDIS_URL",
        None,
        "Redis, redis://, rediss:// or unix:///path; it holds bells, never jobs. Unset: an embedded Redis",
    )
    broker_url: BrokerUrlText | None = contract_field(
        "BROKER_URL", None, "Where bells ring: redis://, unix:// or amqp:// (RabbitMQ). Unset: REDIS_URL"
    )
    storage_url: StorageUrlText | None = contract_field(
        "STORAGE_URL",
        None,
        "Where pictures are kept: file:///path, or s3://bucket/prefix with the standard AWS variables and "
        "AWS_ENDPOINT_URL_S3. Unset: files under DARKROOM_HOME",
    )
    storage_public_url: PublicUrlText | None = contract_field(
        "STORAGE_PUBLIC_URL",
        None,
        "Prefix of the URLs written to rows; required with s3:, since a presigned URL in a row dies. Unset: file: URLs",
    )
    tokens: Literal["managed", "producer", "external"] | None = contract_field(
        "TOKENS",
        None,
        "Whose the money is: managed (Darkroom charges and refunds), producer (the application charges, Darkroom "
        "refunds its own failures) or external (nobody here). Unset: as `darkroom db upgrade` recorded it",
    )
    log_format: Literal["console", "json"] | None = contract_field(
        "LOG_FORMAT", None, "console or json. Unset: console on a terminal, json elsewhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = contract_field(
        "LOG_LEVEL", "info", "The least level that is logged: debug, info, warning or error"
    )

    home: AbsolutePath = Field(
        default=Path("~/.darkroom"), description="Folder of the embedded services' data and of pictures kept as files"
    )
    lanes: PositiveInt = Field(
        default=16, description="Jobs in flight per worker process; they wait for providers most of their time"
    )
    processes: PositiveInt = Field(
        default=2, description="Worker processes that `darkroom worker` keeps running; one per core"
    )
    connections: Annotated[int, Field(ge=LEAST_CONNECTIONS)] = Field(
        default=5,
        description="PostgreSQL connections a process may hold at once, its lease or LISTEN included, at least "
        f"{LEAST_CONNECTIONS}; schedulers and commands take at most {MOST_BESIDE_WORKERS} of them",
    )
    queues: Names = Field(
        default=(DEFAULT_QUEUE,),
        min_length=1,
        description="Queues this worker takes jobs from, separated by commas; jobs enter no other than default yet",
    )
    lease_s: Annotated[float, Field(ge=3, allow_inf_nan=False)] = Field(
        default=15,
        description="Seconds after which a silent worker's jobs are rescued; renewed three times in that span, so at "
        "least 3; shorter rescues sooner and forgives less",
    )
    poll_s: PositiveSeconds = Field(
        default=1, description="Seconds between looks for work when no bell rings: the worst delay with the broker gone"
    )
    max_wait_s: PositiveSeconds = Field(
        default=86_400,
        description="Seconds after which a job that isn't finished ends refunded, operator pauses not counted",
    )
    shutdown_grace_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=25,
        description="Seconds that provider calls in flight get after SIGTERM; below the platform's kill delay (30)",
    )
    stage_deadlines: _StageDeadlines = Field(
        default={},
        description="Seconds a stage may take, NAME=seconds,...; those not named keep their stage's own. Claims "
        "30 s past it are rescued; GENERATING must outlast the provider's slowest answer (300 s)",
    )
    max_image_bytes: PositiveInt = Field(default=25_000_000, description="Largest encoded image accepted, in bytes")
    max_image_pixels: PositiveInt = Field(
        default=64_000_000, description="Largest image decoded, width times height; decoded it takes 3 bytes each"
    )
    warm_children: Annotated[int, Field(ge=0, le=64)] = Field(
        default=2,
        description="Pixel children that each worker process starts at once and keeps started, one per core at most; "
        "idle they hold 63 MB each, half of it shared; others start when these are busy",
    )
    learned_cpu_s: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = Field(
        default=20,
        description="CPU seconds that trained networks may take for one picture of the local engine, by the speed in "
        "docs/quality.md: what is larger, or meets a busy machine, is treated without them; 0 turns them off",
    )
    prices: _Prices = Field(
        default=PRICES_TOKENS,
        description="Tokens an enhancement costs by tier, TIER=tokens,...; those not named keep theirs",
    )
    cost_column: ColumnName = Field(
        default="tokensCost",
        description="Column of the job tables that holds the cost; creditsCost in newer applications",
    )
    max_retries: Annotated[int, Field(ge=0)] = Field(
        default=3, description="Attempts after the first for jobs whose table has no maxRetries column"
    )
    user_caps: _UserCaps = Field(
        default={},
        description="Running jobs a user may have, by tier of the balance, FREE=2,...; not named: no cap. Not carried "
        "out yet: a worker that starts with it warns, and `darkroom doctor` fails",
    )
    regeneration: Literal["monthly", "drip", "off"] = Field(
        default="monthly",
        description="How users earn tokens back (TOKENS=managed only): monthly (an allowance), drip (a few at a "
        "time up to a cap) or off",
    )
    allowances: TokensByTier = Field(
        default=ALLOWANCES_TOKENS,
        description="Tokens a month by tier of the balance, TIER=tokens,...: what monthly regeneration gives, and a "
        "downgrade to a tier without a plan",
    )
    drip_intervals: DripIntervals = Field(
        default=DRIP_INTERVALS_S, description="Seconds between two tokens of drip regeneration, TIER=seconds,..."
    )
    drip_amounts: DripAmounts = Field(
        default=DRIP_AMOUNTS_TOKENS, description="Tokens that each such interval gives, TIER=tokens,..."
    )
    drip_caps: TokensByTier = Field(
        default=ALLOWANCES_TOKENS, description="Balance up to which drip regeneration gives, TIER=tokens,..."
    )
    drip_subscribers: bool = Field(
        default=False, description="on: users with an ACTIVE or TRIALING subscription get drip regeneration too"
    )
    subscriptions: bool = Field(
        default=False,
        description="on: Darkroom renews subscription periods; off because a payment webhook may do it already",
    )
    retention: RetentionDays = Field(
        default=RETENTION_DAYS,
        description="Days that finished records are kept, table=days,...; those not named keep their default. As "
        'JSON, other tables of the application too: {"table": {"column": "createdAt", "days": 90, "where": "done"}}. '
        "Money, audit rows and unfinished jobs are never deleted",
    )
    schedules: Schedules = Field(
        default={},
        description='When periodic tasks run, as JSON: {"audit-ledger": "30 4 * * *"}, a cron expression or an ISO '
        '8601 interval (PT15M), or {"audit-ledger": {"schedule": ..., "time_zone": "Europe/London", "missed": '
        '"skip"|"coalesce"|"catch_up"}}; `darkroom schedule list` shows them all',
    )
    tick_budget_s: PositiveSeconds = Field(
        default=20, description="Seconds a scheduler works on one tick before it looks at the others; then it goes on"
    )
    usage_limits: UsageLimits = Field(
        default={},
        description="What a user may use a month, measure=number,...; passing 80 % and 100 % writes a warning to "
        f"error_logs. Measures: {', '.join(USAGE_MEASURES)}",
    )
    link_pipelines: Literal["owner", "trust"] | None = Field(
        default=None,
        description="Whose inserted jobs, which show no token, may use a pipeline shared by link: owner (its owner's), "
        "or trust (everyone's: the application has asked for the token). Unset: trust on tables that another tool "
        "made, else owner. `darkroom db upgrade` records it",
    )
    reuse_results: bool = Field(
        default=False,
        description="on: the same user's same picture, pipeline, model and tier takes the earlier result",
    )
    orphans: Literal["report", "delete"] | None = Field(
        default=None,
        description="What collect-orphans does with objects that Darkroom wrote and no row names: report them, or "
        "delete those that an earlier run reported. delete set by hand also covers inputs of finished jobs that a "
        "producer uploaded. Unset: delete on tables that Darkroom made, report on another tool's",
    )
    fetch_allow_loopback: bool = Field(
        default=False,
        description="on: fetch inputs from loopback addresses too; for tests only, it opens inside hosts. "
        "`darkroom db upgrade` records it",
    )

    @model_validator(mode="after")
    def _no_silent_fallback(self) -> "Settings":
        if (self.database_url is None) != (self.redis_url is None):
            given, missing = ("DATABASE_URL", "REDIS_URL") if self.database_url else ("REDIS_URL", "DATABASE_URL")
            raise ValueError(f"{given} is set but {missing} is not; set both, or neither for the embedded services")
        if self.database_direct_url and not self.database_url:
            raise ValueError("DATABASE_DIRECT_URL is set but DATABASE_URL is not; set both")
        if self.database_url and not self.provider and self.gemini_api_key is None:
            raise ValueError(
                "DATABASE_URL is set but neither PROVIDER nor GEMINI_API_KEY is; set PROVIDER=local or a key"
            )
        if self.storage_url and self.storage_url.startswith("s3:") and not self.storage_public_url:
            raise ValueError(
                "STORAGE_URL is s3: but STORAGE_PUBLIC_URL is not set; give the prefix that pictures are seen at"
            )
        return self

    @property
    def is_embedded(self) -> bool:
        """PostgreSQL and Redis are our own."""
        return self.database_url is None

    @property
    def providers(self) -> tuple[str, ...]:
        """Providers in the order they are asked, the default filled in; never empty."""
        return self.provider or (("gemini",) if self.gemini_api_key else ("local",))

    def regeneration_terms(self) -> dict[str, object]:
        """What `darkroom.regenerate` must know, as it is recorded in darkroom.settings."""
        return {
            "policy": self.regeneration,
            "allowances": dict(self.allowances),
            "drip_intervals_s": dict(self.drip_intervals),
            "drip_amounts": dict(self.drip_amounts),
            "drip_caps": dict(self.drip_caps),
            "drip_subscribers": self.drip_subscribers,
        }

    def secrets(self) -> tuple[str, ...]:
        """Every configured secret, decoded, for `SecretMask`."""
        urls = (self.database_url, self.database_direct_url, self.redis_url, self.broker_url)
        passwords = tuple(password for url in urls if url and (password := url_password(url)))
        keys = tuple(key.get_secret_value() for key in (self.gemini_api_key, self.openai_api_key) if key)
        return (*passwords, *keys)

    @override
    def __repr__(self) -> str:
        """Name the set fields only: the values hold passwords, and this ends up in tracebacks."""
        return f"Settings({', '.join(sorted(self.model_fields_set))})"

    __str__ = __repr__


def variable_name(field_name: str) -> str:
    """The environment variable of a field of `Settings`."""
    alias = Settings.model_fields[field_name].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field_name.upper()


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ`, the process's own if None; an empty variable counts as unset.

    Raises:
        SettingsError: a value is malformed, a required one is missing, or a `DARKROOM_` name is unknown.
    """
    environ = os.environ if environ is None else environ
    fields = {variable_name(name): name for name in Settings.model_fields}
    for name in environ:
        if name.startswith(PREFIX) and name not in fields:
            words = (name, name.removeprefix(PREFIX))  # the contract's own names have no prefix
            near = [one for word in words for one in difflib.get_close_matches(word, fields, n=1, cutoff=NEAR)]
            meant = f"did you mean {near[0]}? " if near else ""
            raise SettingsError(f"{name} is not a setting; {meant}`darkroom config` lists them all")
    values = {fields[name]: value.strip() for name, value in environ.items() if name in fields and value.strip()}
    try:
        return Settings(**values)  # type: ignore[arg-type]  # text: the validators make the types
    except ValidationError as error:
        raise SettingsError("; ".join(_complaints(error, values))) from None  # its text would repeat secrets


def _complaints(error: ValidationError, values: Mapping[str, str]) -> list[str]:
    mask = SecretMask()
    complaints = []
    for detail in error.errors(include_url=False, include_context=False):
        message = detail["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:] if detail["type"] != "value_error" else message
        if not detail["loc"]:
            complaints.append(message)
            continue
        field, *inside = map(str, detail["loc"])
        field = {variable_name(known): known for known in Settings.model_fields}.get(field, field)
        given = "" if "url" in field or "key" in field else f"={values[field]!r}"
        where = f" ({'.'.join(inside)})" if inside else ""
        complaints.append(mask(f"{variable_name(field)}{given}{where}: {message}").replace("\n", " "))
    return complaints
