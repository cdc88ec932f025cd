//! Runs statements.

use rusqlite::{
    Connection,
    types::{ToSql, ToSqlOutput, ValueRef},
};

use crate::{Error, FromRow, Row, Statement, Value};

use super::explain::explain;

/// Result of a statement.
pub(super) struct Executed<R> {
    /// The returned rows.
    pub(super) rows: Vec<R>,
    /// The number of returned rows, or for a statement that returns none, of changed rows.
    pub(super) affected: usize,
}

/// Runs a statement to completion.
pub(super) fn execute<R: FromRow>(
    connection: &Connection,
    statement: &Statement,
    values: &[Value],
) -> Result<Executed<R>, Error> {
    let failed = |error| explain(connection, error);
    let mut prepared = connection
        .prepare_cached(statement.sqlite())
        .map_err(failed)?;
    let wanted = prepared.parameter_count();
    if wanted != values.len() {
        let (name, given) = (statement.name(), values.len());
        let text = format!("{name} takes {wanted} parameters, not {given}");
        return Err(Error::Broken(text));
    }
    for (index, value) in values.iter().enumerate() {
        prepared
            .raw_bind_parameter(index + 1, value)
            .map_err(failed)?;
    }
    let columns = prepared.column_count();
    if columns == 0 {
        let affected = prepared.raw_execute().map_err(failed)?;
        let rows = Vec::new();
        return Ok(Executed { rows, affected });
    }
    let mut rows = Vec::new();
    let mut cursor = prepared.raw_query();
    while let Some(row) = cursor.next().map_err(failed)? {
        rows.push(R::from_row(owned(row, columns).map_err(failed)?)?);
    }
    let affected = rows.len();
    Ok(Executed { rows, affected })
}

fn owned(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<Row> {
    let column = |index| value(row.get_ref(index)?, index);
    (0..columns).map(column).collect::<Result<_, _>>().map(Row)
}

fn value(column: ValueRef<'_>, index: usize) -> rusqlite::Result<Value> {
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(index, column.data_type(), error)
    };
    match column {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(number) => Ok(Value::Int(number)),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => Ok(Value::from(text)),
            Err(error) => Err(unreadable(error.into())),
        },
        ValueRef::Blob(bytes) => Ok(Value::from(bytes)),
        ValueRef::Real(_) => Err(unreadable(
            "floating-point columns are not supported".into(),
        )),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Bool(value) => ValueRef::Integer((*value).into()),
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
            Self::Uuid(value) => ValueRef::Blob(value.as_bytes()),
        }))
    }
}
