//! Runs one statement: parameters in, rows out.

use rusqlite::{
    Connection,
    types::{ToSql, ToSqlOutput, ValueRef},
};

use crate::{Error, FromRow, Row, Statement, Value};

use super::explain::explain;

/// What a statement did.
pub(super) struct Executed<R> {
    /// The rows it returned.
    pub(super) rows: Vec<R>,
    /// How many rows it returned, or when it returns none, how many it changed.
    pub(super) touched: usize,
}

/// Runs a statement to its end.
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
        let touched = prepared.raw_execute().map_err(failed)?;
        let rows = Vec::new();
        return Ok(Executed { rows, touched });
    }
    let mut rows = Vec::new();
    let mut cursor = prepared.raw_query();
    while let Some(row) = cursor.next().map_err(failed)? {
        rows.push(R::from_row(owned(row, columns).map_err(failed)?)?);
    }
    let touched = rows.len();
    Ok(Executed { rows, touched })
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
        ValueRef::Real(_) => Err(unreadable("no value carries a fraction".into())),
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
