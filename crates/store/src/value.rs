//! Statement parameters and result rows.

use uuid::Uuid;

use crate::Error;

/// A parameter or a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// `BOOLEAN`; SQLite stores 0 or 1.
    Bool(bool),
    /// `BIGINT`. Times are Unix milliseconds.
    Int(i64),
    /// `TEXT`.
    Text(String),
    /// `BYTEA`; `BLOB` on SQLite.
    Bytes(Vec<u8>),
    /// `UUID`; a 16-byte `BLOB` on SQLite.
    Uuid(Uuid),
}

impl Value {
    /// Approximate memory size, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let heap = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uuid(_) => 0,
        };
        size_of::<Self>() + heap
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Builds the parameters of a statement: `values![id, "name", None::<i64>]` is a `Vec<Value>`.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        ::std::vec::Vec::<$crate::Value>::from([$($crate::Value::from($value)),*])
    };
}

/// A row, with columns by position.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// Moves column `index` (from 0) out of the row, leaving `NULL`. Returns [`Error::Broken`] if
    /// there is no such column or it has another type.
    pub fn take<T: FromValue>(&mut self, index: usize) -> Result<T, Error> {
        let column = self
            .0
            .get_mut(index)
            .ok_or_else(|| Error::Broken(format!("the row has no column {index}")))?;
        T::from_value(std::mem::replace(column, Value::Null)).ok_or_else(|| {
            let wanted = std::any::type_name::<T>();
            Error::Broken(format!("column {index} is not a {wanted}"))
        })
    }

    /// Returns a copy of column `index` (from 0), or `None` if there is no such column or it has
    /// another type.
    pub fn get<T: FromValue>(&self, index: usize) -> Option<T> {
        self.0.get(index).cloned().and_then(T::from_value)
    }
}

/// A Rust type that a column converts to.
pub trait FromValue: Sized {
    /// Converts the value, or returns `None` when it is `NULL` or has another type. Accepts the
    /// SQLite representations: an integer for a `bool`, 16 bytes for a `Uuid`.
    fn from_value(value: Value) -> Option<Self>;
}

impl FromValue for bool {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(value),
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bytes(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for Uuid {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Uuid(value) => Some(value),
            Value::Bytes(value) => Uuid::from_slice(&value).ok(),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// A record that is decoded from a row.
pub trait FromRow: Sized {
    /// Decodes the columns by position. Returns [`Error::Broken`] if they do not match.
    fn from_row(row: Row) -> Result<Self, Error>;
}

impl FromRow for Row {
    fn from_row(row: Row) -> Result<Self, Error> {
        Ok(row)
    }
}
