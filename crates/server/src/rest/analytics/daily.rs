//! `GET …/analytics/daywise`: sessions and their minutes per day.

use std::collections::BTreeMap;

use garde::Validate;
use http::Method;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::{ApiError, Call, Data, Empty, Endpoint};
use crate::rest::sessions::minutes;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Default number of days.
const DAYS_DEFAULT: i64 = 30;
/// Maximum number of days in one request.
const DAYS_MAX: i64 = 366;

/// Session counts and minutes by the day number on which the sessions started.
pub(super) static DAYS: Statement = Statement::new(
    "analytics.days",
    "SELECT day, COUNT(*), CAST(SUM(consumed_ms) AS BIGINT)
     FROM (SELECT started_at / 86400000 AS day, consumed_ms FROM sessions
           WHERE app_id = $1 AND started_at >= $2 AND started_at < $3) d GROUP BY day",
);
/// Time consumed so far by the peers that are connected now.
pub(super) static RUNNING: Statement = Statement::new(
    "analytics.running",
    "SELECT day, 0, CAST(SUM(used) AS BIGINT)
     FROM (SELECT s.started_at / 86400000 AS day, CAST($4 AS BIGINT) - p.entered_at AS used FROM sessions s
           JOIN session_peers p ON p.app_id = s.app_id AND p.session_id = s.id AND p.left_at IS NULL
           WHERE s.app_id = $1 AND s.ended_at IS NULL AND s.started_at + 0 >= $2 AND s.started_at + 0 < $3) d GROUP BY day",
);

pub(super) fn endpoint() -> Endpoint {
    Endpoint::new(
        Method::GET,
        "/analytics/daywise",
        "getDailyAnalytics",
        handle,
    )
    .describe(
        "Get daily analytics",
        "Returns the number of sessions and their minutes for each day (UTC) in a range of at most 366 days. Without \
         dates, the range is the last 30 days. A session and all its minutes count towards the day on which it started.",
    )
}

/// The range of days.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Span {
    /// First day of the range, inclusive, as `YYYY-MM-DD`. Defaults to 29 days before `end_date`.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    start_date: Option<Date>,
    /// Last day of the range, inclusive, as `YYYY-MM-DD`. Defaults to today.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    end_date: Option<Date>,
}

impl Span {
    /// Returns the first and the last day.
    fn days(&self, now_ms: i64) -> Result<(Date, Date), ApiError> {
        let today = date_of(now_ms.div_euclid(DAY_MS));
        let before = |date: Date, days: i64| date.saturating_sub(days.days());
        let (start, end) = match (self.start_date, self.end_date) {
            (Some(start), Some(end)) => (start, end),
            (None, end) => {
                let end = end.unwrap_or(today);
                (before(end, DAYS_DEFAULT - 1), end)
            }
            (Some(start), None) => (start, today.max(start)),
        };
        if start > end {
            return Err(ApiError::bad_request(
                "\"end_date\" must not be before \"start_date\"",
            ));
        }
        if before(end, DAYS_MAX - 1) > start {
            return Err(ApiError::bad_request(format!(
                "\"start_date\" and \"end_date\" must not be more than {DAYS_MAX} days apart"
            )));
        }
        Ok((start, end))
    }
}

/// The date of a day number, counted from 1970-01-01.
fn date_of(day: i64) -> Date {
    let time = Timestamp::from_millisecond(day.saturating_mul(DAY_MS));
    time.map_or(Date::ZERO, |time| time.to_zoned(TimeZone::UTC).date())
}

/// The day number of a date, counted from 1970-01-01.
fn number_of(date: Date) -> i64 {
    let midnight = date.to_zoned(TimeZone::UTC);
    midnight.map_or(0, |midnight| {
        midnight.timestamp().as_millisecond().div_euclid(DAY_MS)
    })
}

/// The daily usage of an app.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DailyAnalytics")]
struct DailyAnalytics {
    /// Usage by sessions.
    session_stats: SessionStats,
    /// Usage by recordings.
    recording_stats: RecordingStats,
}

/// Session usage in the range.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SessionStats")]
struct SessionStats {
    /// Number of sessions that started in the range.
    sessions_count: i64,
    /// Total minutes that all peers spent in these sessions, including fractions.
    sessions_minutes_consumed: f64,
    /// Usage for each day of the range, oldest first.
    day_stats: Vec<DailySessionStats>,
}

/// Session usage of one day.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DailySessionStats")]
struct DailySessionStats {
    /// The day (UTC), as `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    day: String,
    /// Number of sessions that started on this day.
    total_sessions: i64,
    /// Total minutes that all peers spent in these sessions, including fractions.
    total_session_minutes: f64,
}

/// Recording usage in the range. Always zero: recordings are not implemented yet.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RecordingStats")]
struct RecordingStats {
    /// Number of recordings that started in the range.
    recording_count: i64,
    /// Total minutes of these recordings.
    recording_minutes_consumed: f64,
    /// Usage for each day of the range, oldest first.
    day_stats: Vec<DailyRecordingStats>,
}

/// Recording usage of one day.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DailyRecordingStats")]
struct DailyRecordingStats {
    /// The day (UTC), as `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    day: String,
    /// Number of recordings that started on this day.
    total_recordings: i64,
    /// Total minutes of these recordings.
    total_recording_minutes: i64,
}

struct DayRow {
    day: i64,
    count: i64,
    used_ms: i64,
}

impl FromRow for DayRow {
    fn from_row(mut row: Row) -> Result<Self, Error> {
        Ok(Self {
            day: row.take(0)?,
            count: row.take(1)?,
            used_ms: row.take(2)?,
        })
    }
}

async fn handle(call: Call<Empty, Span>) -> Result<Data<DailyAnalytics>, ApiError> {
    let (start, end) = call.query.days(call.now_ms)?;
    let (first, last) = (number_of(start), number_of(end));
    let (from_ms, until_ms) = (first * DAY_MS, (last + 1) * DAY_MS);
    let db = &call.state.db;
    let key = values![call.app.uuid(), from_ms, until_ms];
    let mut rows = db.scan::<DayRow>(&DAYS, key).await?;
    let key = values![call.app.uuid(), from_ms, until_ms, call.now_ms];
    rows.extend(db.scan::<DayRow>(&RUNNING, key).await?);
    let mut days: BTreeMap<i64, (i64, i64)> = (first..=last).map(|day| (day, (0, 0))).collect();
    for row in rows {
        let day = days.entry(row.day).or_default();
        *day = (day.0 + row.count, day.1 + row.used_ms.max(0));
    }
    let count = days.values().map(|(count, _)| count).sum();
    let used_ms = days.values().map(|(_, used_ms)| used_ms).sum();
    let name = |day: &i64| date_of(*day).to_string();
    let session_day = |(day, (count, used_ms)): (&i64, &(i64, i64))| DailySessionStats {
        day: name(day),
        total_sessions: *count,
        total_session_minutes: minutes(*used_ms),
    };
    let recording_day = |day: &i64| DailyRecordingStats {
        day: name(day),
        total_recordings: 0,
        total_recording_minutes: 0,
    };
    Ok(Data(DailyAnalytics {
        session_stats: SessionStats {
            sessions_count: count,
            sessions_minutes_consumed: minutes(used_ms),
            day_stats: days.iter().map(session_day).collect(),
        },
        recording_stats: RecordingStats {
            recording_count: 0,
            recording_minutes_consumed: 0.0,
            day_stats: days.keys().map(recording_day).collect(),
        },
    }))
}
