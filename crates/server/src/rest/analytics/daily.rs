//! `GET …/analytics/daywise`: sessions and their minutes, day by day.

use std::collections::BTreeMap;

use garde::Validate;
use http::Method;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use parlor_store::{Error, FromRow, Row, Statement, values};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::{ApiError, Call, Data, Endpoint, Nothing};
use crate::rest::sessions::minutes;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Days when the caller does not say.
const DAYS_DEFAULT: i64 = 30;
/// The longest time that can be asked for.
const DAYS_MAX: i64 = 366;

/// Sessions by the number of the day on which they started.
pub(super) static DAYS: Statement = Statement::new(
    "analytics.days",
    "SELECT day, COUNT(*), CAST(SUM(consumed_ms) AS BIGINT)
     FROM (SELECT started_at / 86400000 AS day, consumed_ms FROM sessions
           WHERE app_id = $1 AND started_at >= $2 AND started_at < $3) d GROUP BY day",
);
/// What those use who are inside now.
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
        answer,
    )
    .describe(
        "Get daily analytics",
        "Sessions and their minutes for each day (UTC), of the last 30 days when no dates are given, of 366 at most. A \
         session and all its minutes belong to the day on which it started.",
    )
}

/// Which days.
#[derive(Debug, Deserialize, Validate, JsonSchema)]
struct Span {
    /// The first day, `YYYY-MM-DD`.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    start_date: Option<Date>,
    /// The last day, `YYYY-MM-DD`.
    #[garde(skip)]
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    end_date: Option<Date>,
}

impl Span {
    /// The first day and the last.
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

/// The day with a number, counted from 1970-01-01.
fn date_of(day: i64) -> Date {
    let time = Timestamp::from_millisecond(day.saturating_mul(DAY_MS));
    time.map_or(Date::ZERO, |time| time.to_zoned(TimeZone::UTC).date())
}

/// The number of a day, counted from 1970-01-01.
fn number_of(date: Date) -> i64 {
    let midnight = date.to_zoned(TimeZone::UTC);
    midnight.map_or(0, |midnight| {
        midnight.timestamp().as_millisecond().div_euclid(DAY_MS)
    })
}

/// What an app has used.
#[derive(Debug, Serialize, JsonSchema)]
struct Analytics {
    /// Sessions.
    session_stats: SessionStats,
    /// Recordings.
    recording_stats: RecordingStats,
}

/// Sessions.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionStats {
    /// How many started.
    sessions_count: i64,
    /// Minutes of all their peers, with fractions.
    sessions_minutes_consumed: f64,
    /// Each day.
    day_stats: Vec<SessionDay>,
}

/// The sessions of a day.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionDay {
    /// `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    day: String,
    /// How many started.
    total_sessions: i64,
    /// Minutes of all their peers, with fractions.
    total_session_minutes: f64,
}

/// Recordings. There are none yet.
#[derive(Debug, Serialize, JsonSchema)]
struct RecordingStats {
    /// How many started.
    recording_count: i64,
    /// Their minutes.
    recording_minutes_consumed: f64,
    /// Each day.
    day_stats: Vec<RecordingDay>,
}

/// The recordings of a day.
#[derive(Debug, Serialize, JsonSchema)]
struct RecordingDay {
    /// `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    day: String,
    /// How many started.
    total_recordings: i64,
    /// Their minutes.
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

async fn answer(call: Call<Nothing, Span>) -> Result<Data<Analytics>, ApiError> {
    let (start, end) = call.query.days(call.now_ms)?;
    let (first, last) = (number_of(start), number_of(end));
    let (from_ms, until_ms) = (first * DAY_MS, (last + 1) * DAY_MS);
    let db = &call.parlor.db;
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
    let session_day = |(day, (count, used_ms)): (&i64, &(i64, i64))| SessionDay {
        day: name(day),
        total_sessions: *count,
        total_session_minutes: minutes(*used_ms),
    };
    let recording_day = |day: &i64| RecordingDay {
        day: name(day),
        total_recordings: 0,
        total_recording_minutes: 0,
    };
    Ok(Data(Analytics {
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
