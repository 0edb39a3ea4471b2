"""Every metric, label and job name that crosses a process boundary, in one place."""

JOB_EXPORTER = "llm-exporter"

# Labels of a series ("rfm" in the docs), in the order of its key.
ROASTER, FIELD, MODEL = "roaster", "field", "model"
RFM = (ROASTER, FIELD, MODEL)
UNKNOWN, OTHER = "unknown", "other"  # a missing label value; one beyond the cap

TOKEN_TYPES = ("input", "cached_input", "output")

# Of a ledger as a whole. What belongs to a budget day also has its start, in Unix seconds.
LEDGER, DAY = "ledger", "day"
LEDGER_COST = "llm_ledger_cost_usd_total"
LEDGER_COST_AT_DAY_START = "llm_ledger_cost_usd_at_day_start"
LEDGER_SPEND = "llm_ledger_spend_usd"
LEDGER_EPOCH = "llm_ledger_epoch"
DAYS_AGO, BY = "days_ago", "by"  # by: so many hours after this time of a past day; end: all of it
HISTORY_SPEND = "llm_history_spend_usd"
HISTORY_DAY_START = "llm_history_day_start_timestamp_seconds"

# Spend and calls
REQUESTS = "llm_requests_total"
CALLS_LIVE = "llm_calls_live_total"  # paid for, and reported within a minute of their own time
TOKENS = "llm_tokens_total"
COST = "llm_cost_usd_total"
COST_AT_DAY_START = "llm_cost_usd_at_day_start"
BATCH_ITEMS = "llm_batch_items_total"
BATCH_SLOTS = "llm_batch_slots_total"
REQUEST_DURATION = "llm_request_duration_seconds"

# Budget
DAILY_LIMIT = "llm_budget_daily_limit_usd"
RESERVE = "llm_budget_reserve_usd"
GRANTED = "llm_budget_granted_usd"
GRANTS = "llm_budget_grants"
WRITTEN_OFF = "llm_budget_written_off_usd"
ROASTER_LIMIT = "llm_budget_roaster_limit_usd"
FIELD_LIMIT = "llm_budget_field_limit_usd"
ROASTER_GRANTED = "llm_budget_roaster_granted_usd"
DAY_START = "llm_budget_day_start_timestamp_seconds"
DAY_END = "llm_budget_day_end_timestamp_seconds"
# Of a month's budget, where one is set; with the label month, such as 2026-11.
MONTH = "month"
MONTH_LIMIT = "llm_month_limit_usd"
MONTH_SEEN = "llm_month_seen_ratio"
MONTH_SPENT = "llm_month_spent_usd"  # before the budget day
MONTH_DAYS_LEFT = "llm_month_dates_left"
MONTH_START = "llm_month_start_timestamp_seconds"
MONTH_PARTS = "llm_month_parts"
MONTH_CARRIED = "llm_month_carried_usd"
MONTH_HELD = "ledger_month:llm_spent:held"
RATE_LIMIT = "llm_rate_limit_requests"
PRICE = "llm_price_usd_per_million_tokens"
PROVIDER_BALANCE = "llm_provider_balance_usd"
PROVIDER_BALANCE_ELSEWHERE = "llm_provider_balance"
PROVIDER_AVAILABLE = "llm_provider_available"

# Ledger and intake
LEDGER_INFO = "llm_ledger_info"
LEDGER_WRITABLE = "llm_ledger_writable"
LEDGER_LAST_COMMIT = "llm_ledger_last_commit_timestamp_seconds"
LEDGER_SIZE = "llm_ledger_size_bytes"
LOG_LAG = "llm_log_lag_bytes"
LOG_PROBLEMS = "llm_log_problems"
INGEST_ACCEPTED = "llm_ingest_accepted_total"
INGEST_DUPLICATES = "llm_ingest_duplicates_total"
INGEST_CONFLICTS = "llm_ingest_conflicts_total"
INGEST_REJECTED = "llm_ingest_rejected_total"
INGEST_REJECTED_SUCCESSES = "llm_ingest_rejected_successes_total"
ESTIMATED_COST = "llm_estimated_cost_usd_total"
UNPRICED_TOKENS = "llm_unpriced_tokens_total"
UNPRICED_PENDING = "llm_unpriced_pending_tokens"  # falls when they are repriced
LATE_COST = "llm_late_cost_usd_total"
TIME_ADJUSTED = "llm_time_adjusted_total"
LABEL_OVERFLOW = "llm_label_overflow_total"
CONFIG_RELOAD_OK = "llm_config_last_reload_successful"
CONFIG_RELOAD_TIME = "llm_config_last_reload_success_timestamp_seconds"

# Rules
UTILIZATION = "budget:llm_utilization:ratio"
REMAINING = "budget:llm_remaining_usd:today"
LIMIT = "budget:llm_limit_usd:today"
THRESHOLD = "budget:llm_threshold:ratio"  # label threshold = half, warning, critical, exhausted
DEGRADATION_WANTED = "llm_degradation_wanted"
RULES_DAY = "budget:llm_day_start:timestamp_seconds"
LEDGER_FRESH = "ledger:llm_evidence:fresh"
EVIDENCE_EPOCH = "ledger:llm_evidence:epoch"
LEDGER_SPEND_TODAY = "ledger:llm_spend_usd:today"
EFFECT = "budget:llm_effect:ratio"  # label of = calls, cost
EFFECT_UNJUDGED = "budget:llm_effect_unjudged:info"
FORECAST = "budget:llm_forecast_usd:today"
FORECAST_LOW = "budget:llm_forecast_usd:low"
FORECAST_HIGH = "budget:llm_forecast_usd:high"
EXHAUSTION = "budget:llm_exhaustion:timestamp_seconds"  # label case = expected, earliest

# Receiver
DEGRADATION_LEVEL = "llm_degradation_level"
DEGRADATION_RANK = "llm_degradation_rank"
DEGRADATION_ACTIVE = "llm_degradation_active"
DEGRADATION_APPLIES = "llm_degradation_applies_total"
DEGRADATION_APPLY_FAILURES = "llm_degradation_apply_failures_total"
DEGRADATION_APPLY_FAILED = "llm_degradation_apply_failed"
DEGRADATION_HOLDS = "llm_degradation_holds_total"
DEGRADATION_LAST_APPLY = "llm_degradation_last_apply_timestamp_seconds"
DEGRADATION_LAST_ROUND = "llm_degradation_last_round_timestamp_seconds"
DEGRADATION_HOLD = "llm_degradation_hold_seconds"
DEGRADATION_CONFIG_DRIFT = "llm_degradation_config_drift_total"
DEGRADATION_OVERRIDE = "llm_degradation_override"
LEDGER_RETIRED = "llm_ledger_retired"
DEGRADATION_SHADOW = "llm_degradation_shadow"
DEGRADATION_HOOK_FAILURES = "llm_degradation_hook_failures_total"
DEGRADATION_REFUSED_TUNINGS = "llm_degradation_refused_tunings"
WATCHDOG_SEEN = "llm_degradation_watchdog_timestamp_seconds"
DEGRADATION_NOTIFICATIONS = "llm_degradation_notifications_total"
