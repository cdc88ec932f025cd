//! Translates PostgreSQL syntax to SQLite syntax, token by token.

/// The shard of a sharded counter on SQLite, which has a single writer.
const SQLITE_LANE: &str = "0";
/// The shard on PostgreSQL: the backend's process id modulo 64, so that a counter has at most 64
/// rows.
const POSTGRES_LANE: &str = "(pg_backend_pid() % 64)";
const LANE: &str = "{lane}";

/// Translates a statement for PostgreSQL by expanding `{lane}`.
pub(crate) fn to_postgres(sql: &str) -> String {
    sql.replace(LANE, POSTGRES_LANE)
}

/// Translates a statement or a migration for SQLite.
///
/// `$3` becomes `?3`: SQLite treats `$3` as a named parameter and numbers it by its first
/// occurrence, while `?3` always is parameter 3.
pub(crate) fn to_sqlite(sql: &str) -> String {
    let mut lowered = String::with_capacity(sql.len());
    let mut words = Words::default();
    let mut rest = sql;
    while !rest.is_empty() {
        let (token, tail) = rest.split_at(token_length(rest));
        rest = tail;
        match token {
            LANE => lowered.push_str(SQLITE_LANE),
            "UUID" | "BYTEA" => lowered.push_str("BLOB"),
            "BOOLEAN" | "BIGINT" => lowered.push_str("INTEGER"),
            "JSONB" => lowered.push_str("TEXT"),
            "COLLATE" => rest = skip_collation(rest, &mut lowered),
            ";" => lowered.push_str(words.end_of_statement()),
            _ if token.starts_with("--") => {}
            _ => match token.strip_prefix('$') {
                Some(number) => lowered.extend(["?", number]),
                None => lowered.push_str(token),
            },
        }
        words.push(token);
    }
    if words.creates_table() {
        lowered.push_str(" STRICT, WITHOUT ROWID");
    }
    lowered
}

/// Drops `COLLATE "C"`: SQLite compares bytes by default.
fn skip_collation<'a>(rest: &'a str, lowered: &mut String) -> &'a str {
    if let Some(tail) = rest.trim_start().strip_prefix("\"C\"") {
        lowered.truncate(lowered.trim_end().len());
        tail
    } else {
        lowered.push_str("COLLATE");
        rest
    }
}

/// Length of the first token of `sql`, in bytes.
fn token_length(sql: &str) -> usize {
    let first = sql.chars().next().map_or(0, char::len_utf8);
    let until = |end: &str| sql[first..].find(end).map(|at| first + at + end.len());
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word_end = |from: usize| {
        let tail = &sql[from..];
        from + tail.find(|c| !is_word(c)).unwrap_or(tail.len())
    };
    match sql.as_bytes()[0] {
        b'-' if sql.starts_with("--") => sql.find('\n').unwrap_or(sql.len()),
        b'\'' => until("'").unwrap_or(sql.len()),
        b'"' => until("\"").unwrap_or(sql.len()),
        b'{' if sql.starts_with(LANE) => LANE.len(),
        b'$' => word_end(1),
        byte if is_word(char::from(byte)) => word_end(0),
        _ => first,
    }
}

/// Detects whether the current statement is a `CREATE TABLE`.
#[derive(Default)]
struct Words {
    seen: usize,
    create: bool,
    table: bool,
}

impl Words {
    fn push(&mut self, token: &str) {
        if token == ";" {
            *self = Self::default();
        } else if token.starts_with(|c: char| c.is_ascii_alphabetic()) {
            self.create |= self.seen == 0 && token == "CREATE";
            self.table |= self.seen == 1 && token == "TABLE";
            self.seen += 1;
        }
    }

    fn creates_table(&self) -> bool {
        self.create && self.table
    }

    fn end_of_statement(&self) -> &'static str {
        if self.creates_table() {
            " STRICT, WITHOUT ROWID;"
        } else {
            ";"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{to_postgres, to_sqlite};

    #[test]
    fn a_table_becomes_strict_and_its_types_are_lowered() {
        let sql = "CREATE TABLE t (\n a UUID NOT NULL, -- an id; really\n \
                   b TEXT COLLATE \"C\" NOT NULL, c BOOLEAN, d BIGINT, e BYTEA, f JSONB);\n\
                   CREATE INDEX t_b ON t (b);";
        assert_eq!(
            to_sqlite(sql),
            "CREATE TABLE t (\n a BLOB NOT NULL, \n b TEXT NOT NULL, c INTEGER, d INTEGER, \
             e BLOB, f TEXT) STRICT, WITHOUT ROWID;\nCREATE INDEX t_b ON t (b);"
        );
    }

    #[test]
    fn a_table_without_a_final_semicolon_becomes_strict_too() {
        assert_eq!(
            to_sqlite("CREATE TABLE t (a UUID PRIMARY KEY)"),
            "CREATE TABLE t (a BLOB PRIMARY KEY) STRICT, WITHOUT ROWID"
        );
    }

    #[test]
    fn parameters_keep_their_numbers() {
        assert_eq!(
            to_sqlite("SELECT CAST($2 AS UUID), $10 WHERE a = $1"),
            "SELECT CAST(?2 AS BLOB), ?10 WHERE a = ?1"
        );
    }

    #[test]
    fn strings_and_names_are_left_alone() {
        let sql = "SELECT 'UUID; $1 {lane} -- it''s', \"BIGINT\", my_UUID, 'ü'";
        assert_eq!(to_sqlite(sql), sql);
    }

    #[test]
    fn the_lane_is_filled_in_on_both_engines() {
        assert_eq!(to_sqlite("VALUES ($1, {lane})"), "VALUES (?1, 0)");
        assert_eq!(
            to_postgres("VALUES ($1, {lane})"),
            "VALUES ($1, (pg_backend_pid() % 64))"
        );
    }
}
